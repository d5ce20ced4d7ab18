//! Finishing a delivery in the handler's own transaction.

use tokio_postgres::{
    GenericClient,
    types::{ToSql, Type},
};
use tower_klikit::{dedupe::StoreError, inbox::Lease};

use crate::store::PostgresStore;

impl PostgresStore {
    /// Returns the statement that finishes a delivery of the inbox, for your own transaction with any driver.
    ///
    /// | parameter | type | value |
    /// |---|---|---|
    /// | `$1` | `bigint` | [`DeliveryId::get`](tower_klikit::inbox::DeliveryId::get) of [`Lease::id`] |
    /// | `$2` | `bigint` | [`Lease::token`] |
    ///
    /// The statement changes one row if no other worker has leased the delivery since, even if the lease has expired. If
    /// it changes no row, roll back: another worker has leased the delivery, or the delivery was finished before. The
    /// statement deletes the delivery, even if others are [kept](tower_klikit::inbox::Inbox::keep_bodies).
    pub fn finish_sql(&self) -> &str {
        self.shared.inbox.finish.text()
    }

    /// Finishes the delivery of `lease` in the transaction that is open on your connection. Returns `false` if another
    /// worker has leased the delivery since, or if the delivery was finished before: then roll back.
    ///
    /// The handler finds the lease in the [`Attempt`](tower_klikit::inbox::Attempt). The delivery is deleted, even if
    /// others are [kept](tower_klikit::inbox::Inbox::keep_bodies). `client` has the same types as in
    /// [`complete_in`](Self::complete_in).
    ///
    /// # Errors
    ///
    /// Returns an error if Postgres rejects the statement or does not answer within the
    /// [deadline](crate::PostgresStoreBuilder::deadline). Then roll back.
    pub async fn finish_in(&self, client: &impl GenericClient, lease: &Lease) -> Result<bool, StoreError> {
        self.require_inbox()?;
        let (id, token) = (lease.id().get(), lease.token());
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::INT8), (&token, Type::INT8)];
        let finish = client.execute_typed(self.finish_sql(), &params);
        self.within(1, finish).await.map(|changed| changed > 0)
    }
}
