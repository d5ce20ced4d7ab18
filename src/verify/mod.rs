//! Is this from klikit?
mod basic;
mod body;
mod budget;
mod buffer;
mod collect;
mod config;
mod future;
mod head;
mod layer;
mod rejection;
mod service;

pub use self::{
    body::{ResponseBody, VerifiedBody},
    future::ResponseFuture,
    layer::KlikitVerifyLayer,
    rejection::{Rejection, RejectionKind},
    service::KlikitVerify,
};
