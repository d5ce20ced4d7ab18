//! The code of the guide "Operating".

use std::{
    collections::BTreeMap,
    error::Error,
    ops::Range,
    time::{Duration, SystemTime},
};

use tower_klikit::{
    Keyring, LoggedRejection, RejectionKind, RejectionLog, WebhookSecret,
    dedupe::{BodyDigest, StoreError},
    diagnose::Cause,
    inbox::{DeliveryId, DeliveryState, EXPIRED, Entry, Filter, Inbox, OUTCOME_UNKNOWN, Pause},
};

pub(crate) async fn reasons_of_dead_letters(inbox: &Inbox) -> Result<BTreeMap<String, u64>, StoreError> {
    let (dead, mut after) = (Filter::new().states([DeliveryState::Dead]), None);
    let mut reasons = BTreeMap::new();
    loop {
        let page = inbox.find(&dead, after, 500).await?;
        for entry in page.entries {
            *reasons.entry(entry.reason.unwrap_or_default()).or_default() += 1;
        }
        after = page.next;
        if after.is_none() {
            return Ok(reasons);
        }
    }
}

pub(crate) async fn retry_recent(inbox: &Inbox, reason: &str) -> Result<u64, StoreError> {
    let recent = Filter::new().reason(reason).younger_than(Duration::from_secs(60 * 60));
    inbox.operator("ana").retry(recent).rate(5).run().await
}

pub(crate) async fn trace_event(inbox: &Inbox, log: &RejectionLog, event_id: &str) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    for entry in inbox.find(&Filter::new().event_id(event_id), None, 10).await?.entries {
        lines.push(format!("delivery {} is {}", entry.id, entry.state));
        for attempt in inbox.show(entry.id).await?.map(|entry| entry.history).unwrap_or_default() {
            let outcome = attempt.reason.unwrap_or_else(|| "handled, or running".into());
            lines.push(format!("attempt {} on {}: {outcome}", attempt.number, attempt.worker));
        }
    }
    for rejection in log.entries().iter().filter(|rejection| rejection.event_id() == Some(event_id)) {
        lines.push(format!("rejected: {}, cause {:?}", rejection.kind().as_str(), rejection.cause()));
    }
    Ok(lines)
}

pub(crate) fn unexplained_mismatches(rejections: &RejectionLog) -> usize {
    let is_unexplained = |rejection: &&LoggedRejection| rejection.cause() == Some(Cause::Unknown);
    rejections.entries().iter().filter(is_unexplained).count()
}

pub(crate) fn accept_both(keyring: &Keyring, new: &str) -> Result<(), Box<dyn Error>> {
    keyring.add("2026-12", WebhookSecret::new(new)?)?;
    Ok(())
}

pub(crate) async fn make_space(inbox: &Inbox, age: Duration) -> Result<(u64, u64), StoreError> {
    let purge = inbox.operator("ana").purge(Filter::new().older_than(age));
    let previewed = purge.preview().await?;
    Ok((previewed, purge.run().await?))
}

pub(crate) async fn is_complete(old: &Inbox, new: &Inbox) -> Result<bool, StoreError> {
    let (old, new) = (old.counts().await?, new.counts().await?);
    Ok((old.backlog(), old.dead, old.done) == (new.backlog(), new.dead, new.done))
}

pub(crate) async fn handle_again(inbox: &Inbox, lost: Range<SystemTime>) -> Result<u64, StoreError> {
    inbox.operator("ana").forget_accepted(lost).run().await
}

pub(crate) async fn suspects(inbox: &Inbox) -> Result<Vec<DeliveryId>, StoreError> {
    let pending = Filter::new().states([DeliveryState::Ready, DeliveryState::Leased]).attempts(2..=u32::MAX);
    let mut suspects = Vec::new();
    for entry in inbox.find(&pending, None, 100).await?.entries {
        let history = inbox.show(entry.id).await?.map(|entry| entry.history).unwrap_or_default();
        let crashed = history.iter().filter(|attempt| attempt.reason.as_deref() == Some(OUTCOME_UNKNOWN));
        if crashed.count() > 1 {
            suspects.push(entry.id);
        }
    }
    Ok(suspects)
}

pub(crate) async fn set_aside(inbox: &Inbox, poison: DeliveryId) -> Result<u64, StoreError> {
    inbox.operator("ana").dead_letter(poison, "crashes the handler").run().await
}

pub(crate) fn rejected_for_their_time(rejections: &RejectionLog) -> usize {
    let is_about_time = |rejection: &&LoggedRejection| rejection.kind() == RejectionKind::StaleTimestamp;
    rejections.entries().iter().filter(is_about_time).count()
}

pub(crate) async fn retry_expired(inbox: &Inbox) -> Result<u64, StoreError> {
    inbox.operator("ana").retry(Filter::new().reason(EXPIRED)).run().await
}

pub(crate) async fn copies_of(inbox: &Inbox, digest: BodyDigest) -> Result<Vec<Entry>, StoreError> {
    let same_body = Filter { body: Some(digest), ..Filter::new() };
    let found = inbox.find(&same_body, None, 100).await?.entries;
    Ok(found.into_iter().filter(Entry::is_copy).collect())
}

pub(crate) async fn stop_copies(inbox: &Inbox, copies: &[Entry]) -> Result<u64, StoreError> {
    let mut stopped = 0;
    for copy in copies {
        stopped += inbox.operator("ana").dead_letter(copy.id, "a replay").run().await?;
    }
    Ok(stopped)
}

pub(crate) async fn state_of_branch(inbox: &Inbox, branch: &str) -> Result<Vec<String>, StoreError> {
    let mut lines = Vec::new();
    for active in inbox.pauses().await? {
        lines.push(format!("{} has paused {}", active.operator, active.pause));
    }
    let recent = Filter::new().branch(branch).younger_than(Duration::from_secs(2 * 60 * 60));
    for entry in inbox.find(&recent, None, 100).await?.entries {
        let reason = entry.reason.as_deref().unwrap_or("no failure");
        lines.push(format!("{} is {} for {} s: {reason}", entry.id, entry.state, entry.age.as_secs()));
    }
    Ok(lines)
}

pub(crate) async fn lift_pauses(inbox: &Inbox) -> Result<(), StoreError> {
    for active in inbox.pauses().await? {
        inbox.operator("ana").resume(&active.pause).await?;
    }
    Ok(())
}

pub(crate) async fn hold(inbox: &Inbox) -> Result<u64, StoreError> {
    inbox.operator("ana").pause(&Pause::everything()).await
}

pub(crate) async fn release(inbox: &Inbox, started: SystemTime) -> Result<u64, StoreError> {
    let ana = inbox.operator("ana");
    ana.resume(&Pause::everything()).await?;
    ana.retry(Filter::new().accepted(started..SystemTime::now())).rate(20).run().await
}

pub(crate) async fn handle_again_since(inbox: &Inbox, started: SystemTime) -> Result<u64, StoreError> {
    inbox.operator("ana").replay(Filter::new().accepted(started..SystemTime::now())).rate(20).run().await
}
