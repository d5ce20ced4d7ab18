//! `klikit conform`: checks of a receiver before it goes live.
//!
//! The checks see only responses. If the responses do not show whether the receiver did the right thing, a check says
//! so and does not pass.

mod check;
mod checks;
mod finding;
mod junit;
mod marks;
mod paced;
mod report;
mod samples;
mod sender;
mod session;

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use tokio::select;

use self::{
    check::ConformCheck,
    finding::ConformRow,
    junit::JunitFile,
    report::ConformReport,
    samples::Samples,
    sender::Sender,
    session::{Options, Session},
};
use crate::{
    basic::BasicArguments,
    error::CliError,
    exchange::NoAnswer,
    input,
    interrupt::Interrupt,
    outcome::Outcome,
    output::{self, Output},
    secret::{self, SecretArguments},
    target::{Target, TargetArguments},
};

/// Check a receiver in any language before it goes live
///
/// Sends about 140 deliveries of made-up orders, genuine and forged, one check after the other. The receiver handles
/// the genuine ones, so do not let it cook them: their fields `is_fake` are true, and their ids are over 2000000000.
///
/// Each check passes, fails, or is not observable, because the responses do not show what the receiver did. The exit
/// code is 1 if a check fails, and 2 if the receiver cannot be judged.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit conform http://localhost:8080/webhooks/klikit
  klikit conform https://staging.example.com/webhooks/klikit --allow-public --junit conform.xml
  klikit conform http://localhost:8080/webhooks/klikit --only duplicate,concurrent-duplicates")]
pub(crate) struct Conform {
    #[command(flatten)]
    target: TargetArguments,

    #[command(flatten)]
    secret: SecretArguments,

    #[command(flatten)]
    basic: BasicArguments,

    /// Read the secret before the rotation from a file, instead of the environment variable KLIKIT_WEBHOOK_SECRET_OLD
    ///
    /// The receiver must still accept it. With --secret-file, the variable is not read.
    #[arg(long, value_name = "FILE")]
    old_secret_file: Option<PathBuf>,

    /// A body that the receiver's handler fails on, for the check retry-after-failure
    #[arg(long, value_name = "FILE")]
    failing: Option<PathBuf>,

    /// The longest time in milliseconds that a response may take
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    answer_within: u64,

    /// Run only these checks
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<ConformCheck>,

    /// Write the results to a file in JUnit's format
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

impl Conform {
    pub(crate) async fn run(&self, output: &mut Output) -> Result<Outcome, CliError> {
        // Check everything else before the command asks for the secret.
        let target = self.target.resolve().await?;
        let old_secret = match &self.old_secret_file {
            Some(path) => Some(secret::from_file(path)?),
            None => self.secret.read_old()?,
        };
        let failing = self.failing.as_deref().map(input::read).transpose()?.map(Into::into);
        // A wrong path is found before the checks have run.
        let junit = self.junit.as_deref().map(JunitFile::open).transpose()?;
        let samples = Samples::new(self.secret.read()?);
        let sender = Sender::new(&target, self.basic.read()?)?;
        let options = Options { old_secret, failing, answer_within: Duration::from_millis(self.answer_within) };

        let interrupt = Interrupt::listen();
        let mut rows = Vec::new();
        select! {
            done = self.check(&target, sender, samples, options, &mut rows) => done?,
            () = interrupt.requested() => {}
        }
        let report = ConformReport { url: target.url().to_string(), rows, interrupted: interrupt.is_requested() };
        // If the report cannot be printed, the file is still written.
        let printed = report.print(output).and_then(|()| output.flush());
        if let Some(file) = junit {
            file.write(&report.to_junit())?;
        }
        printed?;
        Ok(match (report.interrupted, report.has_failed()) {
            (true, _) => Outcome::Interrupted,
            (false, true) => Outcome::FaultFound,
            (false, false) => Outcome::Fine,
        })
    }

    /// Runs the checks, and adds the row of each check that has ended.
    async fn check(
        &self,
        target: &Target,
        sender: Sender,
        samples: Samples,
        options: Options,
        rows: &mut Vec<ConformRow>,
    ) -> Result<(), CliError> {
        // Without a receiver, there is nothing to check.
        drop(target.connect().await?);
        let progress = output::progress("{spinner} {pos}/{len} {msg}", self.chosen().count() as u64);
        let session = Session::begin(sender, samples, options).await;
        match session.first() {
            Err(NoAnswer::Failed(reason)) => return Err(target.unreached(reason)),
            Err(reason @ (NoAnswer::Unfinished(_) | NoAnswer::OutOfFiles)) => return Err(target.stopped(reason)),
            Err(NoAnswer::Late) | Ok(_) => {}
        }
        for check in self.chosen() {
            progress.set_message(check.name());
            rows.push(checks::run(check, &session).await);
            progress.inc(1);
        }
        progress.finish_and_clear();
        Ok(())
    }

    fn chosen(&self) -> impl Iterator<Item = ConformCheck> {
        ConformCheck::value_variants().iter().copied().filter(|check| self.only.is_empty() || self.only.contains(check))
    }
}
