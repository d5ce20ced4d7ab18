//! `klikit sign`: the signature of a body, or a signed request to paste.

use std::path::PathBuf;

use clap::Args;
use http::HeaderValue;
use serde::Serialize;
use tower_klikit::{EventType, header::EVENT_TYPE, testing::SignedDelivery};

use crate::{error::CliError, header_value, input, outcome::Outcome, output::Output, secret::SecretArguments, target};

/// Print the signature of a body, or a signed request to paste
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  klikit sign body.json
  printf '{\"orders\":[]}' | klikit sign -
  klikit sign body.json --curl http://localhost:8080/webhooks/klikit")]
pub(crate) struct Sign {
    /// The file with the body, byte for byte as it is sent; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,

    /// Print a curl command that sends the signed body to URL
    ///
    /// The command contains the body, and anyone who has it can send the delivery again.
    #[arg(long, value_name = "URL")]
    curl: Option<String>,

    /// The event id of the request [default: made from the signature]
    #[arg(long, value_name = "ID", requires = "curl", value_parser = header_value::parse)]
    event_id: Option<HeaderValue>,

    /// The event type of the request
    #[arg(
        long,
        value_name = "TYPE",
        requires = "curl",
        default_value = EventType::OrderCreated.as_str(),
        value_parser = header_value::parse
    )]
    event_type: HeaderValue,

    #[command(flatten)]
    secret: SecretArguments,
}

/// The output with `--json`.
#[derive(Serialize)]
struct Signed {
    signature: String,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    curl: Option<String>,
}

impl Sign {
    pub(crate) fn run(&self, output: &mut Output) -> Result<Outcome, CliError> {
        // Check everything else before the command asks for the secret.
        let url = self.curl.as_deref().map(target::parse).transpose()?;
        let body = input::read(&self.file)?;
        let secret = self.secret.read()?;

        let signature = secret.sign(&body).to_string();
        let bytes = body.len();
        let curl = url.map(|url| {
            let delivery = SignedDelivery::signed_with(&secret, body).header(EVENT_TYPE, &self.event_type);
            let delivery = self.event_id.iter().fold(delivery, |delivery, id| delivery.event_id(id));
            delivery.curl(url.as_str())
        });
        if output.is_json() {
            output.json(&Signed { signature, bytes, curl })?;
        } else {
            output.line(curl.unwrap_or(signature))?;
        }
        Ok(Outcome::Fine)
    }
}
