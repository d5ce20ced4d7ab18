//! The events that a command applies to.

use std::{fmt, ops::Range, time::SystemTime};

use clap::Args;
use tower_klikit::{
    dedupe::{EventKey, LedgerSelection},
    inbox::{Filter, Forget, Operator},
};

use crate::{error::one_line, store::values};

/// The options that name the events.
#[derive(Debug, Args)]
pub(super) struct EventArguments {
    /// The event with this id
    #[arg(long, value_name = "ID", required_unless_present = "accepted", conflicts_with = "accepted")]
    event_id: Option<String>,

    /// The name of the keyring that verified the event, or the scope of the layer or the inbox if it has one
    #[arg(long, value_name = "NAME", default_value = "default", conflicts_with = "accepted")]
    tenant: String,

    /// All events that were accepted from FROM to before TO, in RFC 3339. Either end can be left out
    #[arg(long, value_name = "FROM..TO", value_parser = values::window)]
    accepted: Option<Range<SystemTime>>,
}

/// The events that a command applies to.
#[derive(Debug)]
pub(super) enum Events {
    Event { tenant: String, id: String },
    Accepted(Range<SystemTime>),
}

impl EventArguments {
    pub(super) fn events(self) -> Events {
        match (self.accepted, self.event_id) {
            (Some(window), _) => Events::Accepted(window),
            (None, id) => Events::Event { tenant: self.tenant, id: id.expect("an event id or a window is required") },
        }
    }
}

impl Events {
    /// Returns the entries of the ledger.
    pub(super) fn selection(&self) -> LedgerSelection {
        match self {
            Self::Event { tenant, id } => EventKey::of_event(tenant, id).into(),
            Self::Accepted(window) => window.clone().into(),
        }
    }

    /// Returns the filter that describes the events in the log.
    pub(super) fn filter(&self) -> Filter {
        match self {
            Self::Event { tenant, id } => Filter::new().tenant(tenant).event_id(id),
            Self::Accepted(window) => Filter::new().accepted(window.clone()),
        }
    }

    /// Returns the action that forgets the deliveries of the events in an inbox.
    pub(super) fn forget(&self, operator: &Operator) -> Forget {
        match self {
            Self::Event { tenant, id } => operator.forget_event(tenant, id),
            Self::Accepted(window) => operator.forget_accepted(window.clone()),
        }
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event { tenant, id } => write!(f, "the event {} of {}", one_line(id), one_line(tenant)),
            Self::Accepted(Range { start, end }) => {
                write!(f, "all events from {} to {}", values::time(*start), values::time(*end))
            }
        }
    }
}
