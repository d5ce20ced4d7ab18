//! Checks of the journal against the guarantees of the inbox.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use crate::{
    deliveries::branch,
    journal::{Record, Stage},
    soak::Soak,
};

/// The records of one event, each with its position in the journal.
type Story<'a> = Vec<(usize, &'a Record)>;

/// The result of the checks, with counts of all deliveries.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) acknowledged: usize,
    lease: Duration,
    /// The deliveries that were acknowledged and never handled.
    pub(crate) lost: BTreeSet<String>,
    pub(crate) handled: usize,
    /// The number of leases whose process died, so that the delivery was leased again.
    pub(crate) leased_again: usize,
    /// The number of those leases whose handler had already started.
    pub(crate) begun_again: usize,
    /// The number of deliveries whose handlers succeeded more than once.
    pub(crate) handled_again: usize,
    /// The number of leases that expired although their process was alive.
    pub(crate) expired: usize,
    /// The violations of the guarantees.
    pub(crate) wrong: Vec<String>,
}

impl Report {
    pub(crate) fn of(soak: &Soak, journal: &[Record]) -> Self {
        let acknowledged = &soak.client.acknowledged;
        let mut report = Self { acknowledged: acknowledged.len(), lease: soak.orders.lease, ..Self::default() };
        let deaths: HashMap<u32, usize> =
            all(journal, Stage::Died).map(|(place, record)| (record.process, place)).collect();
        for (event, story) in stories(journal) {
            let handled = each(&story, Stage::Handled).count();
            report.handled += usize::from(handled > 0);
            report.handled_again += usize::from(handled > 1);
            report.check_leases(event, &story, &deaths);
            report.check_finishes(event, &story);
        }
        let handled: BTreeSet<_> = all(journal, Stage::Handled).map(|(_, record)| &record.event).collect();
        report.lost = acknowledged.iter().filter(|event| !handled.contains(event)).cloned().collect();
        report
    }

    /// Checks that a delivery is leased again only after it was released or rescheduled, or after its lease expired.
    fn check_leases(&mut self, event: &str, story: &Story<'_>, deaths: &HashMap<u32, usize>) {
        let mut leases: Vec<_> = each(story, Stage::Leased).collect();
        leases.sort_by_key(|(_, lease)| (lease.id, lease.token));
        for pair in leases.windows(2) {
            let [(_, one), (place, next)] = *pair else { unreachable!("windows of two") };
            let of_one = |stage| each(story, stage).filter(|(_, other)| (other.id, other.token) == (one.id, one.token));
            if one.id != next.id {
                self.wrong.push(format!("{event} was stored as {} and again as {}", one.id, next.id));
            } else if one.token == next.token {
                self.wrong.push(format!("{event} was leased twice under token {}", one.token));
            }
            if of_one(Stage::Releasing).next().is_some() {
                continue;
            }
            let extended = of_one(Stage::Extended).map(|(_, extension)| extension.asked).max();
            if next.told < extended.unwrap_or(one.asked).max(one.asked) + self.lease {
                self.wrong.push(format!("{event} was leased before its last lease expired: {one}, then {next}"));
            }
            if deaths.get(&one.process).is_some_and(|died| *died < place) {
                self.leased_again += 1;
                self.begun_again += usize::from(of_one(Stage::Begun).next().is_some());
            } else {
                self.expired += 1;
            }
        }
    }

    /// Checks that a delivery is finished once, and not leased afterwards.
    fn check_finishes(&mut self, event: &str, story: &Story<'_>) {
        let finishes: Vec<_> = each(story, Stage::Finished).collect();
        if finishes.len() > 1 {
            self.wrong.push(format!("{event} was finished {} times", finishes.len()));
        }
        for (place, finish) in finishes {
            // Ignore leases with a smaller token: a slow process may have recorded them late.
            let newer = |other: &Record| (other.id, other.token) > (finish.id, finish.token);
            if let Some((_, lease)) = each(story, Stage::Leased).find(|(_, lease)| newer(lease)) {
                self.wrong.push(format!("{event} was leased after it was finished: {finish}, then {lease}"));
            }
            let of_this = |other: &Record| (other.id, other.token) == (finish.id, finish.token);
            if !each(story, Stage::Handled).any(|(other, handled)| of_this(handled) && other < place) {
                self.wrong.push(format!("{event} was finished without being handled: {finish}"));
            }
        }
    }

    /// Checks that deliveries of one branch were handled one after the other, in the order of their ids. A delivery
    /// that is dead-lettered does not block later deliveries.
    pub(crate) fn check_order(&mut self, journal: &[Record], dead: &BTreeSet<i64>) {
        let mut branches: BTreeMap<u64, BTreeMap<i64, Story<'_>>> = BTreeMap::new();
        for (event, story) in stories(journal) {
            if let Some((_, first)) = story.first() {
                branches.entry(branch(event)).or_default().insert(first.id, story);
            }
        }
        for story in branches.values().flat_map(|branch| branch.values().zip(branch.values().skip(1))) {
            let (one, next) = story;
            let (Some(last), Some((first, lease))) = (
                each(one, Stage::Leased).max_by_key(|(_, lease)| lease.token).map(|(place, _)| place),
                each(next, Stage::Leased).next(),
            ) else {
                continue;
            };
            if last > first {
                self.wrong.push(format!("leased while the delivery before it was still being leased: {lease}"));
            }
            let begun = each(next, Stage::Begun).next().map_or(first, |(place, _)| place);
            let handled = each(one, Stage::Handled).any(|(place, _)| place < begun);
            if !handled && !dead.contains(&one[0].1.id) {
                self.wrong.push(format!("started before the delivery before it was handled: {lease}"));
            }
        }
    }

    /// Prints the report, and panics if it has violations.
    pub(crate) fn assert_right(&self, name: &str) {
        println!("{name}: {self}");
        let some: Vec<_> = self.wrong.iter().take(20).collect();
        assert!(self.wrong.is_empty(), "{} violations, such as {some:#?}", self.wrong.len());
    }

    pub(crate) fn assert_nothing_lost(&self) {
        let some: Vec<_> = self.lost.iter().take(20).collect();
        let lost = self.lost.len();
        assert!(lost == 0, "{lost} of {} acknowledged deliveries are lost, such as {some:?}", self.acknowledged);
    }
}

fn stories(journal: &[Record]) -> BTreeMap<&str, Story<'_>> {
    let mut stories = BTreeMap::<_, Story<'_>>::new();
    for (place, record) in journal.iter().enumerate().filter(|(_, record)| record.stage != Stage::Died) {
        stories.entry(record.event.as_str()).or_default().push((place, record));
    }
    stories
}

fn all(journal: &[Record], stage: Stage) -> impl Iterator<Item = (usize, &Record)> {
    journal.iter().enumerate().filter(move |(_, record)| record.stage == stage)
}

fn each<'a>(story: &'a Story<'a>, stage: Stage) -> impl Iterator<Item = (usize, &'a Record)> {
    story.iter().copied().filter(move |(_, record)| record.stage == stage)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged, {} of them not handled, {} handled; {} leased again after a crash, {} started again, \
             {} handled again; {} leases expired in live processes",
            self.acknowledged,
            self.lost.len(),
            self.handled,
            self.leased_again,
            self.begun_again,
            self.handled_again,
            self.expired,
        )
    }
}
