//! A macro that declares object-safe versions of the store traits.
//!
//! The public traits have `async fn`s, so they are not object-safe. A layer holds its store as an `Arc<dyn …>` of the
//! object-safe version, so that the layer's type does not depend on the store's type.

use std::{future::Future, pin::Pin};

use crate::dedupe::StoreError;

/// The future that a method of an object-safe trait returns.
pub(crate) type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Declares an object-safe version of a trait, and implements it for every type that implements the trait.
///
/// The future of an `owned fn` owns the store and the arguments, so that it can outlive its caller. A `plain fn`
/// returns its value directly. The future of any other `fn` borrows the store.
macro_rules! object_safe_trait {
    (
        $(#[$attribute:meta])*
        $visibility:vis trait $object_safe:ident: $trait:ident {
            $(plain fn $plain:ident() -> $plain_output:ty;)*
            $(owned fn $owned:ident($($value:ident: $owned_type:ty),*) -> $owned_output:ty;)*
            $(fn $name:ident(&'a self $(, $argument:ident: $type:ty)*) -> $output:ty;)*
        }
    ) => {
        $(#[$attribute])*
        $visibility trait $object_safe: Send + Sync {
            $(fn $plain(&self) -> $plain_output;)*
            $(fn $owned(
                self: std::sync::Arc<Self> $(, $value: $owned_type)*
            ) -> $crate::object_safe::StoreFuture<'static, $owned_output>;)*
            $(fn $name<'a>(&'a self $(, $argument: $type)*) -> $crate::object_safe::StoreFuture<'a, $output>;)*
        }

        impl<T: $trait> $object_safe for T {
            $(fn $plain(&self) -> $plain_output {
                $trait::$plain(self)
            })*
            $(fn $owned(
                self: std::sync::Arc<Self> $(, $value: $owned_type)*
            ) -> $crate::object_safe::StoreFuture<'static, $owned_output> {
                Box::pin(async move { $trait::$owned(&*self $(, &$value)*).await })
            })*
            $(fn $name<'a>(&'a self $(, $argument: $type)*) -> $crate::object_safe::StoreFuture<'a, $output> {
                Box::pin($trait::$name(self $(, $argument)*))
            })*
        }
    };
}

pub(crate) use object_safe_trait;
