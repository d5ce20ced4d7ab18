//! Calls that accept deliveries.

use std::time::Duration;

use bytes::Bytes;
use tower_klikit::{
    dedupe::BodyDigest,
    inbox::{Acceptance, InboxStore, NewDelivery},
};

use super::{RETENTION, SECOND, TestedInbox};

impl<S: InboxStore, A: AsyncFn(&S, Duration)> TestedInbox<'_, S, A> {
    /// Accepts a new delivery, whose key is not known.
    pub(crate) async fn accept(&self, new: &NewDelivery) {
        self.accept_again(new, "the key is not known").await;
    }

    /// Accepts a delivery whose key is not known any more.
    pub(crate) async fn accept_again(&self, new: &NewDelivery, why: &str) {
        let acceptance = self.answer("accept", self.store.accept(new, RETENTION).await);
        self.same("accept", &acceptance, &Acceptance::Accepted, why);
    }

    pub(crate) async fn accept_for(&self, new: &NewDelivery, retention: Duration) {
        let acceptance = self.answer("accept", self.store.accept(new, retention).await);
        self.same("accept", &acceptance, &Acceptance::Accepted, "the key is not known");
    }

    /// Accepts these deliveries in this order, one second apart.
    pub(crate) async fn accept_all<const N: usize>(&self, all: [&NewDelivery; N]) {
        for new in all {
            self.accept(new).await;
            self.advance(SECOND).await;
        }
    }

    pub(crate) async fn revive(&self, new: &NewDelivery) {
        let acceptance = self.answer("accept", self.store.accept(new, RETENTION).await);
        self.same("accept", &acceptance, &Acceptance::Revived, "the key has a dead delivery, which matches");
    }

    /// Checks that accepting `new` returns `Known` with the digest of `known`.
    pub(crate) async fn is_known(&self, new: &NewDelivery, known: &NewDelivery, why: &str) {
        match self.answer("accept", self.store.accept(new, RETENTION).await) {
            Acceptance::Known { digest, .. } if digest == *known.claim().digest() => {}
            other => self.broken(&format!("accept returned {other:?}, not Known with the digest of {known:?}: {why}")),
        }
    }

    /// Checks that accepting `new` returns `Known` with this digest and with this delivery's body.
    pub(crate) async fn is_known_with(
        &self,
        new: &NewDelivery,
        digest: &BodyDigest,
        body: Option<&NewDelivery>,
        why: &str,
    ) {
        let found = match self.answer("accept", self.store.accept(new, RETENTION).await) {
            Acceptance::Known { digest: found, body } if found == *digest => body,
            other => self.broken(&format!("accept returned {other:?}, not Known with digest {digest:?}: {why}")),
        };
        let text = |body: Option<&Bytes>| body.map(|body| String::from_utf8_lossy(body).into_owned());
        let (found, body) = (text(found.as_ref()), text(body.map(NewDelivery::body)));
        self.holds(found == body, &format!("accept returned the body {found:?}, not {body:?}: {why}"));
    }

    /// Checks that accepting `new` returns `InFlight` with this digest. Returns the time that remains of the claim's lease.
    pub(crate) async fn in_flight(&self, new: &NewDelivery, digest: &BodyDigest, why: &str) -> Duration {
        match self.answer("accept", self.store.accept(new, RETENTION).await) {
            Acceptance::InFlight { digest: found, remaining } if found == *digest => remaining,
            other => self.broken(&format!("accept returned {other:?}, not InFlight with digest {digest:?}: {why}")),
        }
    }
}
