//! The check of the store's clock.

use std::time::{Duration, SystemTime};

use tower_klikit::{
    ErrorChain,
    inbox::{Entry, Filter, Inbox},
};

use super::row::{Check, Row};
use crate::store::{Backend, values};

/// The difference between two clocks that needs no attention.
const TOLERANCE: Duration = Duration::from_secs(5);

/// Compares the store's clock with this machine's. A delivery's time of acceptance and its age add up to the store's
/// time. Returns the text of the error if the store fails.
///
/// The clock of a Postgres server may be set wrong. The clock of a SQLite file compensates steps of this machine's
/// clock, so a difference is the sum of the steps since the delivery was accepted.
pub(super) async fn check(backend: &Backend, inbox: &Inbox) -> Result<Row, String> {
    let before = SystemTime::now();
    let Some(entry) = aged(inbox).await? else {
        return Ok(Check::Clock.not_checked("no delivery is stored whose age shows the store's time"));
    };
    let after = SystemTime::now();
    let Some(store_time) = entry.accepted_at.checked_add(entry.age) else {
        return Ok(Check::Clock.not_checked("the oldest delivery has no valid time of acceptance"));
    };
    // The store read its clock at some time between the two readings.
    let (ahead, behind) = (store_time.duration_since(after), before.duration_since(store_time));
    let (difference, direction) = match (ahead, behind) {
        (Ok(ahead), _) if ahead > TOLERANCE => (ahead, "ahead of"),
        (_, Ok(behind)) if behind > TOLERANCE => (behind, "behind"),
        _ => {
            let seen = format!("the store's clock is within {} s of this machine's", TOLERANCE.as_secs());
            return Ok(Check::Clock.ok(seen));
        }
    };
    let difference = values::age(difference);
    if matches!(backend, Backend::Sqlite(_)) {
        return Ok(Check::Clock.warning(
            format!(
                "the store's clock is {difference} {direction} this machine's, which was stepped or suspended since \
                 delivery {} was accepted",
                entry.id
            ),
            "synchronize this machine's clock, for example by NTP; leases and retries are not affected",
        ));
    }
    Ok(Check::Clock.warning(
        format!("the server's clock is {difference} {direction} this machine's"),
        "synchronize both clocks, for example by NTP",
    ))
}

/// Returns the first delivery that is old enough to have an age. One that was accepted after the store's time has none.
async fn aged(inbox: &Inbox) -> Result<Option<Entry>, String> {
    let (filter, mut after) = (Filter::new().older_than(Duration::from_millis(1)), None);
    loop {
        let page = inbox.find(&filter, after, 1).await;
        let page = page.map_err(|error| ErrorChain::new(&error).to_string())?;
        after = page.next;
        let first = page.entries.into_iter().next();
        if first.is_some() || after.is_none() {
            return Ok(first);
        }
    }
}
