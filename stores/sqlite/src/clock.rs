//! The store's time, which measures leases, retries and retention. Steps of the system clock do not affect it.
//!
//! - The store's time is the system clock plus an offset, which is zero until the system clock is stepped.
//! - Each transaction compares the system clock with a monotonic clock. If the two have diverged by more than a second
//!   since the last transaction, the system clock was stepped or the machine was suspended. The offset then changes by
//!   the opposite amount, so that nothing expires early or late. The store's time follows smaller steps.
//! - The offset is stored in the file, so that all processes that share the file use the same time. The process that
//!   notices a step first changes the offset and increments its generation. The other processes find the newer
//!   generation and adopt its offset.
//! - The latest time is stored in the file too, at most once a second. If a process opens the file while the system
//!   clock is behind the latest time, it treats the difference as a step. The store's time therefore never goes back,
//!   even across restarts.
//!
//! For operators, the file also records system times: when a delivery was accepted and when a ledger row was claimed.

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

/// The largest difference between the clocks that does not count as a step, in milliseconds.
const STEP: i64 = 1000;

/// How far the stored latest time may lag behind, in milliseconds.
const LATEST: i64 = 1000;

/// The largest time that is accepted from the file: the year 10,000, in milliseconds since 1970.
const LARGEST: i64 = 253_402_300_800_000;

/// The store's clock, shared by its threads.
pub(super) struct Clock {
    source: Box<dyn Fn() -> Reading + Send + Sync>,
    state: Mutex<State>,
    /// Whether there are steps to report.
    has_steps: AtomicBool,
}

/// A simultaneous reading of both clocks.
#[derive(Clone, Copy)]
struct Reading {
    system: SystemTime,
    /// Since the store was opened.
    monotonic: Duration,
}

/// The clock's row in the file. Times and offsets are in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ClockRow {
    /// How often the offset was changed.
    generation: i64,
    /// The offset: the store's time minus the system clock.
    ahead: i64,
    /// The latest recorded time of the store.
    latest: i64,
}

#[derive(Default)]
struct State {
    last: Option<LastTransaction>,
    row: ClockRow,
    /// The steps that are not reported yet, in milliseconds.
    steps: Vec<i64>,
}

/// The time of the last transaction.
struct LastTransaction {
    time: i64,
    monotonic: Duration,
}

impl Clock {
    /// Returns a clock that reads this machine's clocks.
    pub(super) fn system() -> Self {
        let start = Instant::now();
        Self::new(move || Reading { system: SystemTime::now(), monotonic: start.elapsed() })
    }

    /// Returns a clock for tests. Time passes when `clock` moves forward. If it moves back, the system clock is
    /// stepped.
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

    /// Returns a clock for tests from a system clock and a monotonic clock.
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
        // Read the clocks under the lock, so that no thread gets a time that is earlier than another thread's last one.
        let Reading { system, monotonic } = (self.source)();
        let is_newer = found.generation > state.row.generation
            || (found.generation == state.row.generation && found.ahead != state.row.ahead);
        if state.last.is_none() || is_newer {
            (state.row.generation, state.row.ahead) = (found.generation, found.ahead);
            state.last = None;
        }
        state.row.latest = state.row.latest.max(found.latest);
        let time = milliseconds(system).saturating_add(state.row.ahead);
        let expected = match &state.last {
            Some(last) => {
                let passed = monotonic.saturating_sub(last.monotonic).as_millis();
                last.time.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
            }
            // Without a last transaction, it is unknown how much time has passed.
            None => time,
        };
        // Another process may have reached a later time, and time must not go back.
        let step = time.saturating_sub(expected.max(state.row.latest));
        if step.abs() > STEP {
            state.row.ahead = state.row.ahead.saturating_sub(step);
            state.row.generation += 1;
            state.steps.push(step);
            self.has_steps.store(true, Ordering::Release);
        }
        let timestamp = Timestamp::new(system, state.row.ahead, state.row.latest);
        let time = milliseconds(system).saturating_add(state.row.ahead);
        state.last = Some(LastTransaction { time, monotonic });
        state.row.latest = timestamp.now();
        timestamp
    }

    /// Returns the row to write to the file, or `None` if the row `found` there is still good enough.
    pub(super) fn to_store(&self, found: ClockRow) -> Option<ClockRow> {
        let row = self.state().row;
        let is_offset_new = (row.generation, row.ahead) != (found.generation, found.ahead);
        (is_offset_new || row.latest.saturating_sub(found.latest) >= LATEST).then_some(row)
    }

    /// Logs the steps that were noticed since the last report. Called in the tasks that use the store rather than on
    /// the store's threads, so that the log lines go to the subscriber and the span of the task.
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

/// The SQL statements on the clock's table.
pub(super) struct ClockSql {
    find: String,
    store: String,
}

impl ClockSql {
    /// Returns the statements for a table whose name begins with `prefix`.
    pub(super) fn new(prefix: &str) -> Self {
        let clock = format!("{prefix}clock");
        Self {
            find: format!(
                "
                SELECT generation, ahead, latest
                FROM {clock}
                WHERE id = 1
                "
            ),
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

    /// Reads the clock's row. Returns the default for a row that is missing or implausible.
    pub(super) fn find(&self, connection: &Connection) -> rusqlite::Result<ClockRow> {
        let clock_row = |row: &Row<'_>| {
            let number = |column| row.get_ref(column)?.as_i64().map_err(rusqlite::Error::from);
            let numbers = (number(0), number(1), number(2));
            let (Ok(generation), Ok(ahead), Ok(latest)) = numbers else { return Ok(ClockRow::default()) };
            let is_plausible = ahead.unsigned_abs() <= LARGEST.unsigned_abs() && latest <= LARGEST;
            Ok(if is_plausible { ClockRow { generation, ahead, latest } } else { ClockRow::default() })
        };
        Ok(connection.prepare_cached(&self.find)?.query_row([], clock_row).optional()?.unwrap_or_default())
    }

    pub(super) fn store(&self, connection: &Connection, row: ClockRow) -> rusqlite::Result<()> {
        let ClockRow { generation, ahead, latest } = row;
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
            let duration = |milliseconds: i64| Duration::from_millis(milliseconds.unsigned_abs());
            let Self { system, monotonic } = self.clone();
            Clock::stepped(
                move || SystemTime::UNIX_EPOCH + duration(system.load(Ordering::SeqCst)),
                move || duration(monotonic.load(Ordering::SeqCst)),
            )
        }
    }

    /// Runs a write transaction on a file with this row. Returns the transaction's time.
    fn write(clock: &Clock, file: &mut ClockRow) -> i64 {
        let now = clock.now(*file).now();
        *file = clock.to_store(*file).unwrap_or(*file);
        now
    }

    fn steps(clock: &Clock) -> Vec<i64> {
        mem::take(&mut clock.state().steps)
    }

    #[test]
    fn time_passes_evenly_across_steps() {
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
    fn follows_small_steps_but_never_goes_back() {
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
    fn one_process_compensates_a_step() {
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
    fn processes_agree_if_one_saw_no_step() {
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
        // A row from an older snapshot changes nothing.
        assert_eq!(clock.now(ClockRow { generation: 0, ahead: 0, latest: START }).now(), START);
        assert_eq!(steps(&clock), [-HOUR]);
    }
}
