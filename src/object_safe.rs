//! Object-safe twins of the store traits.
//!
//! The public traits have `async fn`s, which a `dyn` type cannot have. The layers hold a store as `Arc<dyn …>` of the
//! twin, so that the store's type does not show in theirs.

use std::{future::Future, pin::Pin};

use crate::dedupe::StoreError;

/// The futures that the functions of a twin return.
pub(crate) type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Declares a twin, and implements it for every type that has the trait.
macro_rules! object_safe_twin {
    (
        $(#[$attribute:meta])*
        $visibility:vis trait $twin:ident: $trait:ident {
            $(fn $name:ident(&'a self $(, $argument:ident: $type:ty)*) -> $output:ty;)*
        }
    ) => {
        $(#[$attribute])*
        $visibility trait $twin: Send + Sync {
            $(fn $name<'a>(&'a self $(, $argument: $type)*) -> $crate::object_safe::StoreFuture<'a, $output>;)*
        }

        impl<T: $trait> $twin for T {
            $(fn $name<'a>(&'a self $(, $argument: $type)*) -> $crate::object_safe::StoreFuture<'a, $output> {
                Box::pin($trait::$name(self $(, $argument)*))
            })*
        }
    };
}

pub(crate) use object_safe_twin;
