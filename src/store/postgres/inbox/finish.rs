//! Finishing in the user's own transaction.

use tokio_postgres::{
    GenericClient,
    types::{ToSql, Type},
};

use super::super::store::PostgresStore;
use crate::{dedupe::StoreError, inbox::Lease};

impl PostgresStore {
    /// The statement that finishes a delivery of the inbox, for a transaction of your own through any driver.
    ///
    /// | parameter | type | is |
    /// |---|---|---|
    /// | `$1` | `bigint` | [`DeliveryId::get`](crate::inbox::DeliveryId::get) of the [lease's](Lease::id) |
    /// | `$2` | `bigint` | [`Lease::token`] |
    ///
    /// It changes one row when the lease is still held, and none when it is not: then roll back, because another worker has the
    /// delivery, or has finished it. The delivery is deleted, also where others are [kept](crate::inbox::Inbox::keep_bodies).
    pub fn finish_sql(&self) -> &str {
        &self.shared.inbox.finish
    }

    /// Finishes the delivery that `lease` is on, on a connection of yours, as a part of the transaction that is open on it.
    /// `false` when the lease is not held any more: then roll back.
    ///
    /// The handler finds the lease in the [`Attempt`](crate::inbox::Attempt). The delivery is deleted, also where others are
    /// [kept](crate::inbox::Inbox::keep_bodies). `client` is as for [`complete_in`](Self::complete_in).
    ///
    /// # Errors
    ///
    /// When Postgres refuses the statement or does not answer within the [deadline](super::super::PostgresStoreBuilder::deadline).
    /// The transaction must then be rolled back.
    pub async fn finish_in(&self, client: &impl GenericClient, lease: &Lease) -> Result<bool, StoreError> {
        let (id, token) = (lease.id().get(), lease.token());
        let params: [(&(dyn ToSql + Sync), Type); 2] = [(&id, Type::INT8), (&token, Type::INT8)];
        let finish = client.execute_typed(self.finish_sql(), &params);
        self.within(1, finish).await.map(|changed| changed > 0)
    }
}
