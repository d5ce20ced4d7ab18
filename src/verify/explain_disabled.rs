//! Replaces `explain.rs` if the feature `diagnose` is off. Its types have no values, so nothing is ever diagnosed.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::rejection_kind::RejectionKind;
use crate::{keyring::Secrets, rejection_log::Draft, signature::SignatureForms, telemetry::Explanation};

pub(super) enum Explain {}

pub(super) enum Explained {}

pub(super) enum CauseSearch {}

impl Explain {
    pub(super) fn head(&self, _: RejectionKind, _: SignatureForms, _: &HeaderMap) -> Option<Explained> {
        match *self {}
    }

    pub(super) fn body(&self, _: RejectionKind, _: &HeaderMap, _: usize) -> Option<Explained> {
        match *self {}
    }

    pub(super) fn mismatch(
        self: &Arc<Self>,
        _: &Secrets,
        _: SignatureForms,
        _: &HeaderMap,
        _: usize,
        _: impl FnOnce() -> Bytes,
    ) -> Option<CauseSearch> {
        match **self {}
    }
}

impl Explained {
    pub(super) fn add_cause(&self, _: &mut Draft) {
        match *self {}
    }

    pub(super) fn explanation(&self, _: StatusCode) -> Explanation<'_> {
        match *self {}
    }
}

impl CauseSearch {
    pub(super) fn poll(&mut self, _: &mut Context<'_>) -> Poll<Option<Explained>> {
        match *self {}
    }
}
