//! Object-safe twins of the store traits.
//!
//! The public traits have `async fn`s, which a `dyn` type cannot have. The layers hold a store as `Arc<dyn …>` of the
//! twin, so that the store's type does not show in theirs.

use std::{future::Future, pin::Pin};

use crate::dedupe::StoreError;

/// The futures that the functions of a twin return.
pub(crate) type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Declares a twin, and implements it for every type that has the trait.
///
/// The future of an `owned fn` owns the store and the arguments, so that it can outlive the call that made it. A
/// `plain fn` has no future.
macro_rules! object_safe_twin {
    (
        $(#[$attribute:meta])*
        $visibility:vis trait $twin:ident: $trait:ident {
            $(plain fn $plain:ident() -> $plain_output:ty;)*
            $(owned fn $owned:ident($($value:ident: $owned_type:ty),*) -> $owned_output:ty;)*
            $(fn $name:ident(&'a self $(, $argument:ident: $type:ty)*) -> $output:ty;)*
        }
    ) => {
        $(#[$attribute])*
        $visibility trait $twin: Send + Sync {
            $(fn $plain(&self) -> $plain_output;)*
            $(fn $owned(
                self: std::sync::Arc<Self> $(, $value: $owned_type)*
            ) -> $crate::object_safe::StoreFuture<'static, $owned_output>;)*
            $(fn $name<'a>(&'a self $(, $argument: $type)*) -> $crate::object_safe::StoreFuture<'a, $output>;)*
        }

        impl<T: $trait> $twin for T {
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

pub(crate) use object_safe_twin;
