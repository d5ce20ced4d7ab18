//! x
#![forbid(unsafe_code)]

mod event;
pub mod header;
mod keyring;
mod secret;
mod signature;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verify;

pub use crate::{
    event::{Delivery, EventId, EventType, OtherEventType},
    keyring::{Keyring, KeyringError},
    secret::{SecretError, SecretErrorKind, WebhookSecret},
    signature::{ParseSignatureError, Signature},
    verify::{KlikitVerify, KlikitVerifyLayer, Rejection, RejectionKind, VerifiedBody},
};
