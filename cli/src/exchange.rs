//! Exchanges with a receiver: a request, and the response as klikit judges it.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use http::StatusCode;
use reqwest::{RequestBuilder, Response};
use tokio::time::{Instant, timeout_at};
use tower_klikit::testing::FakeKlikit;

use crate::error::one_line;

/// The number of bytes of a response that are kept. The rest is read and discarded.
const KEPT: usize = 64 * 1024;

/// A response that was complete within klikit's timeout.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// The start of the body.
    pub(crate) body: String,
    /// The time from the start of the connection to the end of the response.
    pub(crate) time: Duration,
}

/// The reason why there is no answer.
#[derive(Debug, Clone)]
pub(crate) enum NoAnswer {
    /// The response did not begin within klikit's timeout. klikit disconnects, so a later response does not count.
    Late,
    /// The response began with this status, and did not end within klikit's timeout.
    Unfinished(StatusCode),
    /// The connection failed.
    Failed(Arc<str>),
    /// The connection could not be opened, because this process may not open more files. No fault of the receiver.
    OutOfFiles,
}

/// The result of a request.
pub(crate) type Exchange = Result<Answer, NoAnswer>;

/// Sends a request, and waits for the response at most as long as klikit does.
pub(crate) async fn exchange(request: RequestBuilder) -> Exchange {
    let started = Instant::now();
    let deadline = started + FakeKlikit::TIMEOUT;
    let response = timeout_at(deadline, request.send()).await.map_err(|_| NoAnswer::Late)??;
    let status = response.status();
    let body = timeout_at(deadline, read(response)).await.map_err(|_| NoAnswer::Unfinished(status))??;
    Ok(Answer { status, body, time: started.elapsed() })
}

/// Reads a response to its end, and returns the start of its body.
async fn read(mut response: Response) -> Result<String, reqwest::Error> {
    let mut kept = Vec::new();
    while let Some(piece) = response.chunk().await? {
        kept.extend_from_slice(&piece[..piece.len().min(KEPT - kept.len())]);
    }
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

/// Returns whether klikit considers the delivery delivered.
pub(crate) fn is_success(exchange: &Exchange) -> bool {
    exchange.as_ref().is_ok_and(|answer| answer.status.is_success())
}

/// Writes the status and the start of the body in one line. The precision is the maximum number of characters
/// of the body, and 60 by default.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status.as_u16())?;
        let body = one_line(&without_credentials(self.body.trim()));
        match body.char_indices().nth(f.precision().unwrap_or(60)) {
            Some((end, _)) => write!(f, " {}…", &body[..end]),
            None if body.is_empty() => Ok(()),
            None => write!(f, " {body}"),
        }
    }
}

impl From<reqwest::Error> for NoAnswer {
    fn from(error: reqwest::Error) -> Self {
        // The outer errors name the URL, or only say that sending failed.
        let mut reason: &dyn Error = &error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        if reason.downcast_ref::<io::Error>().is_some_and(is_out_of_files) {
            return Self::OutOfFiles;
        }
        Self::Failed(one_line(&reason.to_string()).into())
    }
}

/// Returns whether a limit on open files was reached: that of the process (EMFILE), or that of the system (ENFILE).
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// Returns the text without the credentials of a header `Authorization: Basic`, which a receiver may repeat.
fn without_credentials(text: &str) -> String {
    const SCHEME: &str = "basic ";
    let is_base64 = |char: char| char.is_ascii_alphanumeric() || "+/=".contains(char);
    // Lower case keeps the positions of ASCII text.
    let lower = text.to_ascii_lowercase();
    let (mut shown, mut start) = (String::with_capacity(text.len()), 0);
    while let Some(found) = lower[start..].find(SCHEME) {
        let credentials = start + found + SCHEME.len();
        let rest = text[credentials..].trim_start_matches(is_base64);
        shown += &text[start..credentials];
        start = text.len() - rest.len();
        if start > credentials {
            shown.push('…');
        }
    }
    shown + &text[start..]
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timeout = FakeKlikit::TIMEOUT.as_secs();
        match self {
            Self::Late => write!(f, "no response within {timeout} s"),
            Self::Unfinished(status) => {
                write!(f, "the response began with {} and did not end within {timeout} s", status.as_u16())
            }
            Self::Failed(reason) => write!(f, "no response: {reason}"),
            Self::OutOfFiles => f.write_str("no response: this process has too many open files"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_repeated_credentials() {
        for (body, shown) in [
            (r#"{"authorization":"Basic cDpzZWNyZXQ=","x":1}"#, r#"{"authorization":"Basic …","x":1}"#),
            ("basic cDpz BASIC cDpz", "basic … BASIC …"),
            ("a basic, é", "a basic, é"),
        ] {
            let answer = Answer { status: StatusCode::OK, body: body.to_owned(), time: Duration::ZERO };
            assert_eq!(answer.to_string(), format!("200 {shown}"));
        }
    }
}
