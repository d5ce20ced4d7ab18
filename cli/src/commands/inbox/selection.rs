//! The options that select deliveries.

use std::{
    ops::{Range, RangeInclusive},
    time::{Duration, SystemTime},
};

use clap::Args;
use tower_klikit::inbox::{DeliveryId, DeliveryState, Filter};

use crate::{
    error::CliError,
    store::{Store, values},
};

/// The origin of deliveries, which never changes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct OriginArguments {
    /// Only deliveries that the keyring with this name has verified
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// Only deliveries of the event with this id
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,

    /// Only deliveries with this event type
    #[arg(long, value_name = "TYPE")]
    event_type: Option<String>,

    /// Only deliveries that contain the order with this id
    #[arg(long, value_name = "ID")]
    order: Option<String>,

    /// Only deliveries of the branch with this id
    #[arg(long, value_name = "ID")]
    branch: Option<String>,
}

/// The options that select deliveries. Each narrows the selection.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Selection")]
pub(super) struct SelectionArguments {
    #[command(flatten)]
    origin: OriginArguments,

    /// Only deliveries in this state: ready, leased, dead or done. Can be repeated
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = values::state)]
    state: Vec<DeliveryState>,

    /// Only deliveries whose reason contains this text. Upper and lower case differ
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Only deliveries with this number of attempts, such as 2..5, 2.. or 3. Both ends are included
    #[arg(long, value_name = "A..B", value_parser = values::attempts)]
    attempts: Option<RangeInclusive<u32>>,

    /// Only deliveries that were accepted at least this long ago, such as 90s, 30m, 2h or 7d
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    older_than: Option<Duration>,

    /// Only deliveries that were accepted less than this long ago
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    younger_than: Option<Duration>,

    /// Only deliveries that were accepted from FROM to before TO, in RFC 3339. Either end can be left out
    #[arg(long, value_name = "FROM..TO", value_parser = values::window)]
    accepted: Option<Range<SystemTime>>,

    /// Only deliveries with the same body as the delivery with this id, including itself
    #[arg(long, value_name = "ID", value_parser = values::id)]
    same_body_as: Option<DeliveryId>,
}

impl OriginArguments {
    /// Returns the filter for these options.
    pub(super) fn filter(&self) -> Filter {
        let Self { tenant, event_id, event_type, order, branch } = self.clone();
        let filter = Filter { tenant, event_id, event_type, ..Filter::new() };
        let filter = order.into_iter().fold(filter, Filter::order);
        branch.into_iter().fold(filter, Filter::branch)
    }
}

impl SelectionArguments {
    /// Returns the states that the options name.
    pub(super) fn states(&self) -> &[DeliveryState] {
        &self.state
    }

    /// Returns whether no option narrows the selection.
    pub(super) fn is_empty(&self) -> bool {
        self.same_body_as.is_none() && self.stated() == Filter::new()
    }

    /// Returns the filter for these options.
    pub(super) async fn filter(&self, store: &Store) -> Result<Filter, CliError> {
        let filter = self.stated();
        let Some(id) = self.same_body_as else { return Ok(filter) };
        let entry = store.inbox.show(id).await.map_err(|error| store.failed(&error))?;
        match entry.and_then(|entry| entry.digest) {
            Some(digest) => Ok(Filter { body: Some(digest), ..filter }),
            None => Err(CliError::new(format_args!(
                "{} has no delivery {id} with a body: choose another for --same-body-as",
                store.name
            ))),
        }
    }

    /// Returns the filter for all options that need no look into the store.
    fn stated(&self) -> Filter {
        let Self { origin, state, reason, attempts, older_than, younger_than, accepted, same_body_as: _ } =
            self.clone();
        let states = (!state.is_empty()).then_some(state);
        let (min_age, max_age) = (older_than, younger_than);
        Filter { states, reason, attempts, accepted, min_age, max_age, ..origin.filter() }
    }
}
