//! `klikit explain`: why a delivery does not verify.

mod dump;

use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Table;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tower_klikit::{
    Keyring,
    diagnose::{Cause, Diagnosis, Diagnostician, SupportReport},
};

use crate::{
    error::CliError,
    input,
    outcome::Outcome,
    output::Output,
    secret::{self, SecretArguments},
};

/// Explain why a delivery does not verify
///
/// Takes a raw HTTP request, or its headers and its body in two files. The body must be byte for byte what the receiver
/// got. The explanation contains no part of the secret, the body or the signature. As in a service, a delivery also
/// verifies with the old secret in the environment variable KLIKIT_WEBHOOK_SECRET_OLD, unless --secret-file is given.
///
/// The exit code is 1 if the delivery does not verify.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit explain request.txt
  klikit explain --headers headers.txt --body body.bin
  klikit explain request.txt --candidate-file old-secret.txt --candidate-file partner-api.txt
  klikit explain request.txt --report --status 403 > report.txt")]
pub(crate) struct Explain {
    /// The file with the raw HTTP request; `-` is standard input
    #[arg(value_name = "DUMP", default_value = "-", conflicts_with_all = ["headers", "body"])]
    dump: PathBuf,

    /// The file with the headers, one `name: value` on each line
    #[arg(long, value_name = "FILE", requires = "body")]
    headers: Option<PathBuf>,

    /// The file with the body
    #[arg(long, value_name = "FILE", requires = "headers")]
    body: Option<PathBuf>,

    /// A file with another secret that may have signed the delivery, such as the previous one
    #[arg(long, value_name = "FILE")]
    candidate_file: Vec<PathBuf>,

    /// The receiver accepts timestamped signatures
    #[arg(long)]
    accept_timestamped: bool,

    /// The receiver accepts deliveries without an event id
    #[arg(long)]
    allow_missing_event_id: bool,

    /// Print a report for klikit's support, without customers' data
    #[arg(long)]
    report: bool,

    /// The status of the receiver's response, for the report
    #[arg(long, value_name = "CODE", requires = "report", value_parser = status)]
    status: Option<StatusCode>,

    /// The receiver did not respond within 10 seconds, for the report
    #[arg(long, requires = "report", conflicts_with = "status")]
    timed_out: bool,

    #[command(flatten)]
    secret: SecretArguments,
}

/// The output with `--json`.
#[derive(Serialize)]
struct Explanation<'a> {
    verifies: bool,
    cause: &'static str,
    further_causes: Vec<&'static str>,
    certainty: String,
    detail: Option<&'a str>,
    secret_id: Option<&'a str>,
    fix: &'static str,
    /// Whether every known fault was tried, or one was found.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<String>,
}

impl Explain {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome, CliError> {
        // Check everything else before the command asks for the secret.
        let (headers, body) = self.request()?;
        let candidates = self.candidates()?;
        let mut diagnostician = Diagnostician::new(self.secret.read_keyring()?);
        if let Some(candidates) = candidates {
            diagnostician = diagnostician.candidates(candidates);
        }
        if self.accept_timestamped {
            diagnostician = diagnostician.accept_timestamped();
        }
        if self.allow_missing_event_id {
            diagnostician = diagnostician.allow_missing_event_id();
        }
        let diagnosis = diagnostician.diagnose(&headers, &body);
        let report = self.report.then(|| self.support_report(&diagnosis, &headers, &body).to_string());
        if output.is_json() {
            output.json(&Explanation::new(&diagnosis, report))?;
        } else if let Some(report) = report {
            output.line(report.trim_end())?;
        } else {
            print(&diagnosis, output)?;
        }
        Ok(if diagnosis.verifies() { Outcome::Fine } else { Outcome::FaultFound })
    }

    fn request(&self) -> Result<(HeaderMap, Vec<u8>), CliError> {
        let unusable = |path: &Path, reason: String| {
            CliError::new(format_args!(
                "{}: {reason}: name a raw HTTP request, or pass --headers and --body",
                input::name(path)
            ))
        };
        match (&self.headers, &self.body) {
            (Some(headers), Some(body)) => {
                let text = input::read(headers)?;
                let headers = dump::headers(&text).map_err(|reason| unusable(headers, reason))?;
                Ok((headers, input::read(body)?))
            }
            _ => dump::request(&input::read(&self.dump)?).map_err(|reason| unusable(&self.dump, reason)),
        }
    }

    /// Reads the candidates into a keyring, in which the name of the file is the id.
    fn candidates(&self) -> Result<Option<Keyring>, CliError> {
        let mut keyring: Option<Keyring> = None;
        for path in &self.candidate_file {
            let (id, secret) = (path.to_string_lossy().into_owned(), secret::from_file(path)?);
            match &keyring {
                None => keyring = Some(Keyring::new("candidates", id, secret)),
                Some(keyring) => keyring.add(id, secret).map_err(|error| {
                    CliError::new(format_args!("{}: {error}: pass fewer or other candidates", path.display()))
                })?,
            }
        }
        Ok(keyring)
    }

    fn support_report(&self, diagnosis: &Diagnosis, headers: &HeaderMap, body: &[u8]) -> SupportReport {
        let report = SupportReport::new(diagnosis, headers, body);
        match self.status {
            Some(status) => report.answered(status),
            None if self.timed_out => report.timed_out(),
            None => report,
        }
    }
}

impl<'a> Explanation<'a> {
    fn new(diagnosis: &'a Diagnosis, report: Option<String>) -> Self {
        Self {
            verifies: diagnosis.verifies(),
            cause: diagnosis.cause().as_str(),
            further_causes: diagnosis.further_causes().iter().map(|cause| cause.as_str()).collect(),
            certainty: diagnosis.certainty().to_string(),
            detail: diagnosis.detail(),
            secret_id: diagnosis.secret_id(),
            fix: diagnosis.fix(),
            complete: diagnosis.tried_all(),
            report,
        }
    }
}

/// Prints a diagnosis for a person, a part on each line.
fn print(diagnosis: &Diagnosis, output: &mut Output) -> Result<(), CliError> {
    let verdict = if diagnosis.verifies() { "The delivery verifies." } else { "The delivery does not verify." };
    output.line(verdict)?;
    output.line("")?;
    let mut lines = Table::new();
    let causes = [diagnosis.cause()].into_iter().chain(diagnosis.further_causes().iter().copied());
    for cause in causes {
        lines.add_row(["cause", &format!("{cause} ({})", cause.as_str())]);
        lines.add_row(["what to do", cause.fix()]);
    }
    if let Some(detail) = diagnosis.detail() {
        lines.add_row(["detail", detail]);
    }
    lines.add_row(["certainty", &diagnosis.certainty().to_string()]);
    if let (Cause::OtherSecret, Some(id)) = (diagnosis.cause(), diagnosis.secret_id()) {
        lines.add_row(["secret", id]);
    }
    if !diagnosis.tried_all() {
        lines.add_row(["search", "cut short at its limit, so a cause may have been missed"]);
    }
    output.table(&lines)
}

fn status(text: &str) -> Result<StatusCode, String> {
    text.parse().map_err(|_| "a status is 100 to 999".into())
}
