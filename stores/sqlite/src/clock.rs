//! The store's time, by which leases, retries and retention are measured. It goes on evenly when the system clock is
//! stepped.
//!
//! - The store's time is the system clock plus an offset, which is zero until the system clock is stepped.
//! - Each transaction compares the system clock with a monotonic one. If the two have parted by more than a second
//!   since the last transaction, the system clock was stepped or the machine was suspended. The offset then changes by
//!   as much the other way, so that nothing expires early, and nothing has to wait longer. Smaller steps are followed.
//! - The offset is stored in the file, so that all processes that share the file, now and later, measure the same time.
//!   Whichever notices a step first changes the offset and its generation. The others then find a newer generation, and
//!   adopt the offset.
//! - The latest time is stored in the file as well, at most once a second. A process that opens the file while the
//!   system clock is behind that time takes it for a step. So the store's time never goes back, also across restarts.
//!
//! Operators think in terms of the system clock: when a delivery was accepted, and when a ledger row was claimed, is
//! recorded as the system clock showed it.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::timestamp::{Timestamp, milliseconds};
use crate::telemetry;

/// By how many milliseconds the clocks may part before that counts as a step.
const STEP: i64 = 1000;

/// How many milliseconds the stored latest time may be behind.
const LATEST: i64 = 1000;

/// The largest time that is taken from the file, in milliseconds: the year 10,000.
const LARGEST: i64 = 253_402_300_800_000;

/// The store's clock, which its threads share.
pub(super) struct Clock {
    source: Box<dyn Fn() -> Reading + Send + Sync>,
    state: Mutex<State>,
    /// Whether there are steps to report.
    has_steps: AtomicBool,
}

/// Both clocks at one time.
#[derive(Clone, Copy)]
struct Reading {
    system: SystemTime,
    /// Since the store was opened.
    monotonic: Duration,
}

/// The clock's row in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ClockRow {
    /// How often the offset was changed.
    generation: i64,
    /// The offset: by how much the store's time is ahead of the system clock.
    ahead: i64,
    /// A time that was reached.
    latest: i64,
}

#[derive(Default)]
struct State {
    last: Option<Last>,
    stored: ClockRow,
    /// The steps that were not reported yet, in milliseconds.
    steps: Vec<i64>,
}

/// The last transaction's time.
struct Last {
    time: i64,
    monotonic: Duration,
}

impl Clock {
    /// The clocks of this machine.
    pub(super) fn system() -> Self {
        let start = Instant::now();
        Self::new(move || Reading { system: SystemTime::now(), monotonic: start.elapsed() })
    }

    /// A clock that passes time by moving forward. Where it moves back, it is stepped.
    #[cfg(any(feature = "testing", test))]
    pub(super) fn passing(clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        let passed = Mutex::new((None, Duration::ZERO));
        Self::new(move || {
            let system = clock();
            let mut passed = passed.lock().unwrap_or_else(PoisonError::into_inner);
            let (last, monotonic) = &mut *passed;
            let last = last.replace(system).unwrap_or(system);
            *monotonic += system.duration_since(last).unwrap_or_default();
            Reading { system, monotonic: *monotonic }
        })
    }

    /// A system clock and a monotonic clock.
    #[cfg(any(feature = "testing", test))]
    pub(super) fn stepped(
        system: impl Fn() -> SystemTime + Send + Sync + 'static,
        monotonic: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Self {
        Self::new(move || Reading { system: system(), monotonic: monotonic() })
    }

    fn new(source: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self { source: Box::new(source), state: Mutex::default(), has_steps: AtomicBool::new(false) }
    }

    /// Returns the time of a transaction that has found this row in the file.
    pub(super) fn now(&self, found: ClockRow) -> Timestamp {
        let mut state = self.state();
        // Read under the lock, so that the times of two threads are in the order of their readings.
        let Reading { system, monotonic } = (self.source)();
        let is_newer = found.generation > state.stored.generation
            || (found.generation == state.stored.generation && found.ahead != state.stored.ahead);
        if state.last.is_none() || is_newer {
            (state.stored.generation, state.stored.ahead) = (found.generation, found.ahead);
            state.last = None;
        }
        state.stored.latest = state.stored.latest.max(found.latest);
        let time = milliseconds(system).saturating_add(state.stored.ahead);
        let expected = match &state.last {
            Some(last) => {
                let passed = monotonic.saturating_sub(last.monotonic).as_millis();
                last.time.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
            }
            // It is not known how much time has passed.
            None => time,
        };
        // Nor does time go back behind what another process has reached.
        let step = time.saturating_sub(expected.max(state.stored.latest));
        if step.abs() > STEP {
            state.stored.ahead = state.stored.ahead.saturating_sub(step);
            state.stored.generation += 1;
            state.steps.push(step);
            self.has_steps.store(true, Ordering::Release);
        }
        let timestamp = Timestamp::new(system, state.stored.ahead, state.stored.latest);
        let time = milliseconds(system).saturating_add(state.stored.ahead);
        state.last = Some(Last { time, monotonic });
        state.stored.latest = timestamp.now();
        timestamp
    }

    /// Returns the row to write to the file, if it must replace the one that was found there.
    pub(super) fn to_store(&self, found: ClockRow) -> Option<ClockRow> {
        let stored = self.state().stored;
        let is_offset_new = (stored.generation, stored.ahead) != (found.generation, found.ahead);
        (is_offset_new || stored.latest.saturating_sub(found.latest) >= LATEST).then_some(stored)
    }

    /// Logs the steps that were noticed since the last call. A caller of the store calls this, so that the lines are
    /// where it expects them, and not on the store's threads.
    pub(super) fn report_steps(&self) {
        if self.has_steps.swap(false, Ordering::AcqRel) {
            let steps = mem::take(&mut self.state().steps);
            steps.into_iter().for_each(telemetry::system_clock_stepped);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The statements, with the name of the table in them.
pub(super) struct ClockSql {
    find: String,
    store: String,
}

impl ClockSql {
    /// Makes the statements for a table whose name begins with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        let clock = format!("{prefix}clock");
        Self {
            find: format!("SELECT generation, ahead, latest FROM {clock} WHERE id = 1"),
            store: format!(
                "
                INSERT INTO {clock} (id, generation, ahead, latest)
                VALUES (1, ?1, ?2, ?3)
                ON CONFLICT (id) DO UPDATE SET
                    generation = excluded.generation,
                    ahead = excluded.ahead,
                    latest = excluded.latest
                "
            ),
        }
    }

    /// Reads the row. A row that is missing or implausible counts as new.
    pub(super) fn find(&self, connection: &Connection) -> rusqlite::Result<ClockRow> {
        let stored = |row: &Row<'_>| {
            let number = |column| row.get_ref(column)?.as_i64().map_err(rusqlite::Error::from);
            let stored = (number(0), number(1), number(2));
            let (Ok(generation), Ok(ahead), Ok(latest)) = stored else { return Ok(ClockRow::default()) };
            let is_plausible = ahead.unsigned_abs() <= LARGEST.unsigned_abs() && latest <= LARGEST;
            Ok(if is_plausible { ClockRow { generation, ahead, latest } } else { ClockRow::default() })
        };
        Ok(connection.prepare_cached(&self.find)?.query_row([], stored).optional()?.unwrap_or_default())
    }

    pub(super) fn store(&self, connection: &Connection, stored: ClockRow) -> rusqlite::Result<()> {
        let ClockRow { generation, ahead, latest } = stored;
        connection.prepare_cached(&self.store)?.execute(params![generation, ahead, latest]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicI64};

    use super::*;

    const HOUR: i64 = 3_600_000;
    const START: i64 = 1_700_000_000_000;

    /// A machine whose clocks the test moves.
    #[derive(Clone)]
    struct FakeMachine {
        system: Arc<AtomicI64>,
        monotonic: Arc<AtomicI64>,
    }

    impl FakeMachine {
        fn new() -> Self {
            Self { system: Arc::new(AtomicI64::new(START)), monotonic: Arc::default() }
        }

        fn pass(&self, milliseconds: i64) {
            self.monotonic.fetch_add(milliseconds, Ordering::SeqCst);
            self.step(milliseconds);
        }

        fn step(&self, milliseconds: i64) {
            self.system.fetch_add(milliseconds, Ordering::SeqCst);
        }

        fn clock(&self) -> Clock {
            let of = |time: i64| Duration::from_millis(time.unsigned_abs());
            let Self { system, monotonic } = self.clone();
            Clock::stepped(
                move || SystemTime::UNIX_EPOCH + of(system.load(Ordering::SeqCst)),
                move || of(monotonic.load(Ordering::SeqCst)),
            )
        }
    }

    /// A transaction that writes. Returns its time.
    fn write(clock: &Clock, file: &mut ClockRow) -> i64 {
        let now = clock.now(*file).now();
        *file = clock.to_store(*file).unwrap_or(*file);
        now
    }

    fn steps(clock: &Clock) -> Vec<i64> {
        mem::take(&mut clock.state().steps)
    }

    #[test]
    fn time_goes_on_evenly_across_steps() {
        let (machine, mut file) = (FakeMachine::new(), ClockRow::default());
        let clock = machine.clock();
        assert_eq!(write(&clock, &mut file), START);
        for (n, step) in [-HOUR, HOUR, 10 * HOUR, -24 * 365 * HOUR].into_iter().enumerate() {
            machine.pass(500);
            machine.step(step);
            assert_eq!(write(&clock, &mut file), START + 500 * (n as i64 + 1));
            assert_eq!(steps(&clock), [step]);
        }
    }

    #[test]
    fn small_steps_are_followed_but_never_back() {
        let (machine, mut file) = (FakeMachine::new(), ClockRow::default());
        let clock = machine.clock();
        write(&clock, &mut file);
        machine.step(900);
        assert_eq!(write(&clock, &mut file), START + 900);
        machine.step(-900);
        assert_eq!(write(&clock, &mut file), START + 900);
        machine.pass(1000);
        assert_eq!(write(&clock, &mut file), START + 1000);
        assert!(steps(&clock).is_empty());
    }

    #[test]
    fn one_process_makes_up_for_a_step() {
        for step in [HOUR, -HOUR] {
            let (machine, mut file) = (FakeMachine::new(), ClockRow::default());
            let (one, other) = (machine.clock(), machine.clock());
            write(&one, &mut file);
            write(&other, &mut file);
            machine.step(step);
            for time in [START, START + 100, START + 200] {
                assert_eq!([write(&other, &mut file), write(&one, &mut file)], [time; 2]);
                machine.pass(100);
            }
            assert_eq!((steps(&one), steps(&other)), (vec![], vec![step]));
        }
    }

    #[test]
    fn processes_agree_after_one_has_seen_no_step() {
        for (step, start) in [(HOUR, START + HOUR), (-HOUR, START)] {
            let (machine, mut file) = (FakeMachine::new(), ClockRow::default());
            let one = machine.clock();
            write(&one, &mut file);
            machine.step(step);
            let other = machine.clock();
            assert_eq!(write(&other, &mut file), start);
            for time in [start, start + 100, start + 200] {
                assert_eq!([write(&one, &mut file), write(&other, &mut file)], [time; 2]);
                machine.pass(100);
            }
        }
    }

    #[test]
    fn time_does_not_go_back_across_a_restart() {
        let (machine, mut file) = (FakeMachine::new(), ClockRow::default());
        write(&machine.clock(), &mut file);
        machine.step(-HOUR);
        let clock = machine.clock();
        assert_eq!(write(&clock, &mut file), START);
        assert_eq!(steps(&clock), [-HOUR]);
        machine.pass(2000);
        assert_eq!(write(&machine.clock(), &mut file), START + 2000);
    }

    #[test]
    fn step_noticed_by_the_reader_reaches_the_file() {
        let (machine, mut file) = (FakeMachine::new(), ClockRow::default());
        let clock = machine.clock();
        write(&clock, &mut file);
        machine.step(-HOUR);
        assert_eq!(clock.now(file).now(), START);
        assert_eq!(write(&clock, &mut file), START);
        assert_eq!((file.generation, file.ahead), (1, HOUR));
        // A snapshot from before is no news.
        assert_eq!(clock.now(ClockRow { generation: 0, ahead: 0, latest: START }).now(), START);
        assert_eq!(steps(&clock), [-HOUR]);
    }
}
