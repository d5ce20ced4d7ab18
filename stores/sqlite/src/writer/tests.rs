use std::{
    fs,
    path::PathBuf,
    sync::mpsc as blocking,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;
use tower_klikit::dedupe::{BodyDigest, Claim, ClaimOutcome, ClaimTerms};

use super::*;
use crate::{connection::Missing, reader::Reader, schema::Schema};

const LEASE: ClaimTerms = ClaimTerms { lease: Duration::from_secs(25), grace: Duration::ZERO };
const EXPIRED_AT_ONCE: ClaimTerms = ClaimTerms { lease: Duration::ZERO, grace: Duration::ZERO };

/// A writer on a file in a temporary folder.
struct WriterFixture {
    writer: Option<Writer>,
    thread: Option<thread::JoinHandle<()>>,
    folder: TempDir,
}

impl WriterFixture {
    fn new() -> Self {
        Self::with_reader(|database, clock| Reader::start(database.for_reading(), clock).unwrap().1)
    }

    /// Returns a fixture with a replacement for the reader thread.
    fn with_reader(reading: impl FnOnce(&Database, Arc<Clock>) -> thread::JoinHandle<()>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database =
            Database::open(&folder.path().join("ledger.db"), Schema::new("klikit_").unwrap(), Missing::Create).unwrap();
        // The clock stands still, so that no commit has to store the time.
        let now = SystemTime::now();
        let clock = Arc::new(Clock::passing(move || now));
        let reading = reading(&database, Arc::clone(&clock));
        let (writer, thread) = Writer::start(database, reading, clock).unwrap();
        Self { writer: Some(writer), thread: Some(thread), folder }
    }

    fn writer(&self) -> &Writer {
        self.writer.as_ref().unwrap()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("ledger.db-wal")
    }

    /// Counts the commits in the log. The log's header has 32 bytes, and each frame's header has 24. The second number
    /// in a frame's header is not zero if the frame is the last of a commit.
    fn commits(&self) -> usize {
        let log = fs::read(self.log()).unwrap();
        let number = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        let page = number(8);
        let is_current = |frame: &usize| log[frame + 8..frame + 16] == log[16..24];
        let frames = (32..log.len()).step_by(24 + page).take_while(is_current);
        frames.filter(|frame| number(frame + 4) != 0).count()
    }

    /// Makes the writer thread wait in the middle of a transaction until the returned sender is dropped.
    async fn hold(&self) -> (blocking::Sender<()>, tokio::task::JoinHandle<Result<(), SqliteError>>) {
        let (go, going) = blocking::channel::<()>();
        let (began, beginning) = oneshot::channel();
        let writer = self.writer().clone();
        let mut began = Some(began);
        let held = tokio::spawn(async move {
            let wait = move |_: &Transaction<'_>| {
                if let Some(began) = began.take() {
                    began.send(()).unwrap();
                }
                let _ = going.recv();
                Ok(())
            };
            writer.call(Call::Other, wait).await
        });
        beginning.await.unwrap();
        (go, held)
    }

    /// Waits until this many calls are queued.
    async fn queued(&self, calls: usize) {
        while self.writer().queue.max_capacity() - self.writer().queue.capacity() < calls {
            tokio::task::yield_now().await;
        }
    }

    fn claim(&self, n: u8) -> tokio::task::JoinHandle<Result<ClaimOutcome, SqliteError>> {
        let writer = self.writer().clone();
        let claim = claim(n);
        tokio::spawn(async move {
            writer.call(Call::Claim, move |transaction| transaction.ledger().claim(&claim, &LEASE)).await
        })
    }

    /// Returns whether the ledger has an entry for this event, by claiming the event with another token.
    async fn is_claimed(&self, n: u8) -> bool {
        let other = Claim::new([n; 16], [n; 16], BodyDigest::of(&[n]), [0; 16]);
        let claim = move |transaction: &Transaction<'_>| transaction.ledger().claim(&other, &EXPIRED_AT_ONCE);
        self.writer().call(Call::Other, claim).await.unwrap() != ClaimOutcome::Claimed
    }
}

impl Drop for WriterFixture {
    fn drop(&mut self) {
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn claim(n: u8) -> Claim {
    Claim::new([n; 16], [n; 16], BodyDigest::of(&[n]), [n; 16])
}

/// Makes SQLite roll the transaction back, as SQLite does when the disk is full.
fn roll_back(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("ROLLBACK")?;
    transaction.execute("no statement")
}

#[tokio::test]
async fn queued_calls_share_a_commit() {
    let fixture = WriterFixture::new();
    fixture.claim(0).await.unwrap().unwrap();
    let (go, held) = fixture.hold().await;
    let before = fixture.commits();
    let claims: Vec<_> = (1..=64).map(|n| fixture.claim(n)).collect();
    fixture.queued(64).await;
    drop(go);
    held.await.unwrap().unwrap();
    for claim in claims {
        assert_eq!(claim.await.unwrap().unwrap(), ClaimOutcome::Claimed);
    }
    assert_eq!(fixture.commits() - before, 1);
}

#[tokio::test]
async fn failed_call_does_not_fail_its_batch() {
    let fixture = WriterFixture::new();
    for bad in [roll_back, |transaction: &Transaction<'_>| transaction.execute("no statement")] {
        let (go, held) = fixture.hold().await;
        let first = fixture.claim(1);
        fixture.queued(1).await;
        let writer = fixture.writer().clone();
        let bad = tokio::spawn(async move { writer.call(Call::Other, bad).await });
        fixture.queued(2).await;
        let second = fixture.claim(2);
        fixture.queued(3).await;
        drop(go);
        held.await.unwrap().unwrap();
        assert_eq!(first.await.unwrap().unwrap(), ClaimOutcome::Claimed);
        assert_eq!(bad.await.unwrap().unwrap_err().kind(), SqliteErrorKind::Statement);
        assert_eq!(second.await.unwrap().unwrap(), ClaimOutcome::Claimed);
        assert!(fixture.is_claimed(1).await && fixture.is_claimed(2).await);
    }
}

#[tokio::test]
async fn drops_claims_and_leases_of_gone_callers() {
    let fixture = WriterFixture::new();
    for (n, call) in [(1, Call::Claim), (2, Call::Lease), (3, Call::Other)] {
        let (go, held) = fixture.hold().await;
        let writer = fixture.writer().clone();
        let run = move |transaction: &Transaction<'_>| transaction.ledger().claim(&claim(n), &LEASE);
        let waits = tokio::spawn(async move { writer.call(call, run).await });
        fixture.queued(1).await;
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        drop(go);
        held.await.unwrap().unwrap();
        assert_eq!(fixture.is_claimed(n).await, call == Call::Other);
    }
}

#[tokio::test]
async fn calls_fail_after_a_panic() {
    let fixture = WriterFixture::new();
    let (go, held) = fixture.hold().await;
    let writer = fixture.writer().clone();
    let panics = tokio::spawn(async move { writer.call::<(), _>(Call::Other, |_| panic!("as requested")).await });
    fixture.queued(1).await;
    let waits = fixture.claim(1);
    fixture.queued(2).await;
    drop(go);
    held.await.unwrap().unwrap();
    assert_eq!(panics.await.unwrap().unwrap_err().kind(), SqliteErrorKind::Stopped);
    assert_eq!(waits.await.unwrap().unwrap_err().kind(), SqliteErrorKind::Stopped);
    assert_eq!(fixture.claim(2).await.unwrap().unwrap_err().kind(), SqliteErrorKind::Stopped);
}

#[test]
fn writer_closes_the_file_last() {
    let (end, ending) = blocking::channel::<PathBuf>();
    let (seen, seeing) = blocking::channel();
    let reads = move || {
        let log = ending.recv().unwrap();
        // Give the writer time to close the file too early.
        for _ in 0..100 {
            seen.send(log.exists()).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    };
    let mut fixture = WriterFixture::with_reader(|_, _| thread::spawn(reads));
    drop(fixture.writer.take());
    end.send(fixture.log()).unwrap();
    fixture.thread.take().unwrap().join().unwrap();
    assert!(seeing.iter().all(|exists| exists));
    assert!(!fixture.log().exists());
}

#[tokio::test]
async fn thread_ends_with_the_last_clone() {
    let mut fixture = WriterFixture::new();
    let (go, held) = fixture.hold().await;
    let claims: Vec<_> = (1..=3).map(|n| fixture.claim(n)).collect();
    fixture.queued(3).await;
    drop(fixture.writer.take());
    drop(go);
    held.await.unwrap().unwrap();
    for claim in claims {
        assert_eq!(claim.await.unwrap().unwrap(), ClaimOutcome::Claimed);
    }
    let thread = fixture.thread.take().unwrap();
    tokio::task::spawn_blocking(|| thread.join()).await.unwrap().unwrap();
    // The last connection deletes the log.
    assert!(!fixture.log().exists());
}
