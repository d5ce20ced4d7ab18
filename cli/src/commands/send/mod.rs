//! `klikit send`: plays klikit towards a receiver.

mod plan;
mod report;
mod run;
mod sample;
mod tally;
mod values;

use std::{num::NonZeroU32, path::PathBuf, time::Instant};

use clap::{Args, builder::PossibleValuesParser};
use http::HeaderValue;
use tower_klikit::EventType;

use self::{
    plan::{Identity, Plan},
    report::{Circumstances, SendReport},
    run::Pace,
    sample::{Changes, Sample},
    values::{Percent, Setting},
};
use crate::{
    basic::BasicArguments,
    error::CliError,
    fixtures::{self, FIXTURES},
    header_value, input,
    interrupt::Interrupt,
    outcome::Outcome,
    output::Output,
    secret::SecretArguments,
    target::TargetArguments,
};

/// The number of attempts at a time if only the rate is given. Enough for 100 a second that take 0.6 seconds each.
const CONCURRENCY_WITH_RATE: NonZeroU32 = NonZeroU32::new(64).unwrap();

/// Play klikit: send signed deliveries to a receiver, and retry those that fail
///
/// Each delivery has another `orders.0.id` and another event id. As with klikit, an attempt succeeds if a complete 2xx
/// response arrives within 10 seconds, and a failed delivery is retried after 30 seconds, 2 and 10 minutes, 1, 6 and 24
/// hours. Before the first delivery, the command opens one connection without a request, to find a wrong URL.
///
/// If the first response of the run begins and does not end within 10 seconds, the command stops with an error, because
/// the URL is not that of a webhook endpoint. After a complete response, such a response is a failure of its delivery.
///
/// The exit code is 1 if a delivery failed in the end, or if the receiver did not reject a corrupted one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit send http://localhost:8080/webhooks/klikit
  klikit send http://localhost:8080/webhooks/klikit order.json --set orders.0.status=3
  klikit send http://localhost:8080/webhooks/klikit --fixture large-basket --count 100 --rate 50
  klikit send http://localhost:8080/webhooks/klikit --count 200 --duplicates 5% --corrupt 1%
  klikit send http://localhost:8080/webhooks/klikit --basic partner-key --basic-file secret-key.txt
  klikit send http://localhost:8080/webhooks/klikit --speed 1")]
pub(crate) struct Send {
    #[command(flatten)]
    target: TargetArguments,

    /// Files with bodies, which take turns; `-` is standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Made-up deliveries, which take turns [default: single-item-delivery, unless files are named]
    #[arg(
        long, value_name = "NAME", conflicts_with = "files",
        value_parser = PossibleValuesParser::new(FIXTURES.map(|fixture| fixture.name))
    )]
    fixture: Vec<String>,

    /// The event type [default: that of the fixture, or klikit.order.created.v2]
    #[arg(long, value_name = "TYPE", value_parser = header_value::parse)]
    event_type: Option<HeaderValue>,

    /// Put a JSON value into each body, such as orders.0.status=3
    #[arg(long, value_name = "PATH=JSON")]
    set: Vec<Setting>,

    /// Send the same orders.0.id in all deliveries
    #[arg(long)]
    same_body: bool,

    /// The number of different deliveries [default: one of each file or fixture]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    count: Option<u64>,

    /// First attempts a second [default: as many as the concurrency allows]
    #[arg(long, value_name = "N", value_parser = values::rate)]
    rate: Option<f64>,

    /// The maximum number of attempts at a time [default: 1, or 64 with --rate]
    #[arg(long, value_name = "N")]
    concurrency: Option<NonZeroU32>,

    /// Send this part of the deliveries twice, with the same event id
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    duplicates: Percent,

    /// Corrupt this part of the deliveries after signing, so that the receiver must reject them
    #[arg(long, value_name = "PERCENT", default_value = "0%")]
    corrupt: Percent,

    /// Divide klikit's retry delays by this number; 1 is real time, and takes 31 hours
    ///
    /// By default, an hour takes a second. The timeout of 10 seconds stays as it is.
    #[arg(long, value_name = "N", default_value = "3600", value_parser = values::factor)]
    speed: f64,

    /// The maximum number of retries of a delivery
    #[arg(long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u8).range(0..=6))]
    retries: u8,

    #[command(flatten)]
    secret: SecretArguments,

    #[command(flatten)]
    basic: BasicArguments,
}

impl Send {
    pub(crate) async fn run(&self, output: &mut Output) -> Result<Outcome, CliError> {
        // Check everything else before the command asks for the secret.
        let target = self.target.resolve().await?;
        let changes = Changes { settings: &self.set, keep_order_id: self.same_body };
        let first_order = if self.same_body { None } else { changes.first_order_id()? };
        let samples = self.samples(changes)?;
        let plan = Plan {
            count: self.count.unwrap_or(samples.len() as u64),
            samples,
            duplicates: self.duplicates,
            corrupt: self.corrupt,
            identity: Identity::new(first_order),
            secret: self.secret.read()?,
        };
        let client = target.client(self.basic.read()?, |settings| settings)?;
        let interrupt = Interrupt::listen();
        // A wrong URL is found at once, instead of after all retries.
        tokio::select! {
            connected = target.connect() => drop(connected?),
            () = interrupt.requested() => return Ok(Outcome::Interrupted),
        }

        let started = Instant::now();
        let tally = run::run(client, target.url().clone(), &plan, self.pace(), &interrupt).await;
        if !interrupt.is_requested() {
            if let Some(reason) = tally.unreachable() {
                return Err(target.unreached(reason));
            }
            if let Some(reason) = &tally.stop {
                return Err(target.stopped(reason));
            }
        }
        let outcome = match (interrupt.is_requested(), tally.has_fault()) {
            (true, _) => Outcome::Interrupted,
            (false, true) => Outcome::FaultFound,
            (false, false) => Outcome::Fine,
        };
        let run = Circumstances {
            url: target.url().to_string(),
            deliveries: plan.len(),
            elapsed: started.elapsed(),
            retries: self.retries.into(),
            is_interrupted: interrupt.is_requested(),
        };
        SendReport::new(tally, run).print(output)?;
        Ok(outcome)
    }

    fn samples(&self, changes: Changes<'_>) -> Result<Vec<Sample>, CliError> {
        if !self.files.is_empty() {
            let event_type = self.event_type(EventType::OrderCreated.as_str());
            let sample = |file: &PathBuf| Sample::new(&input::name(file), input::read(file)?, &event_type, changes);
            return self.files.iter().map(sample).collect();
        }
        let names = if self.fixture.is_empty() {
            vec![fixtures::DEFAULT]
        } else {
            self.fixture.iter().map(String::as_str).collect()
        };
        let sample = |fixture: fixtures::Fixture| {
            Sample::new(fixture.name, fixture.body.into(), &self.event_type(fixture.event_type), changes)
        };
        names.into_iter().filter_map(fixtures::find).map(sample).collect()
    }

    fn event_type(&self, default: &'static str) -> HeaderValue {
        self.event_type.clone().unwrap_or(HeaderValue::from_static(default))
    }

    fn pace(&self) -> Pace {
        let default = if self.rate.is_some() { CONCURRENCY_WITH_RATE } else { NonZeroU32::MIN };
        Pace {
            rate: self.rate,
            concurrency: self.concurrency.unwrap_or(default),
            speed: self.speed,
            retries: self.retries.into(),
        }
    }
}
