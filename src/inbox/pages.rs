//! Iterations over the pages of a search.

use super::{
    admin::SharedAdmin,
    entry::{DeliveryId, Entry},
    filter::Filter,
};
use crate::dedupe::StoreError;

/// The number of deliveries in a page.
const PAGE: u32 = 256;

/// An iteration over the pages of a filter.
pub(super) struct Pages<'a> {
    admin: &'a SharedAdmin,
    filter: &'a Filter,
    size: u32,
    after: Option<DeliveryId>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(admin: &'a SharedAdmin, filter: &'a Filter) -> Self {
        Self { admin, filter, size: PAGE, after: None, is_over: false }
    }

    /// Sets the maximum number of deliveries in a page.
    pub(super) fn of_size(self, size: u32) -> Self {
        Self { size: size.max(1), ..self }
    }

    /// Starts after this id.
    pub(super) fn after(self, after: Option<DeliveryId>) -> Self {
        Self { after, ..self }
    }

    /// Returns the deliveries of the next page, which may be none, or `None` after the last page.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.admin.find(self.filter, self.after, self.size).await?;
        (self.after, self.is_over) = (page.next, page.next.is_none());
        Ok(Some(page.entries))
    }

    /// Returns the ids of the next page that has any, or `None` after the last page.
    pub(super) async fn next_ids(&mut self) -> Result<Option<Vec<DeliveryId>>, StoreError> {
        while let Some(entries) = self.next().await? {
            if !entries.is_empty() {
                return Ok(Some(entries.iter().map(|entry| entry.id).collect()));
            }
        }
        Ok(None)
    }
}
