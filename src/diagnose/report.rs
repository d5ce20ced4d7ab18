use std::fmt::{self, Write};

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};

use super::{
    diagnosis::Diagnosis,
    reencoded::{JsonTree, has_sorted_keys},
};
use crate::{
    event::EventId,
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
    klikit,
    signature::{
        SigningKey,
        timestamped::{MalformedTimestampedSignature, TimestampedSignature},
    },
};

/// The longest header value that is shown unchanged, in bytes. Event id and event type have no such limit.
const MAX_VALUE: usize = 100;

/// The number of hex digits of a signature's digest that are shown: enough to compare two digests, and too few to be of other use.
const SHOWN_DIGITS: usize = 8;

/// The fewest hex digits in the signature header that count as a part of the body's digest.
const MIN_DIGITS: usize = 16;

/// The data that klikit's support asks for, without customers' data: the event id, the response, and how to reproduce the signature.
///
/// A report contains lengths, digests and shapes. It never contains the body, a secret, the signature, or the signature that would
/// have been right, because a reader of the ticket could forge the delivery with it. The report does not quote the signature header
/// either, except the time of a timestamped signature, because some senders put a secret there. It shows the start of the signature's
/// SHA-256 instead, for klikit to compare.
///
/// `Display` is the report, several lines of text.
#[derive(Debug, Clone)]
pub struct SupportReport {
    diagnosis: Diagnosis,
    answer: ReportedAnswer,
    headers: Vec<(HeaderName, String)>,
    /// The time in the first signature header, if it is a timestamped signature.
    time: Option<String>,
    body: String,
}

/// The receiver's response to the delivery.
#[derive(Debug, Clone, Copy)]
enum ReportedAnswer {
    NotSaid,
    Status(StatusCode),
    TimedOut,
}

/// A function that describes a header value.
type DescribeValue = fn(&[u8]) -> String;

impl SupportReport {
    /// Creates a report about a request. The report keeps no reference to the request and no copy of its body.
    pub fn new(diagnosis: &Diagnosis, headers: &HeaderMap, body: &[u8]) -> Self {
        let shapes: [(HeaderName, DescribeValue); 7] = [
            (EVENT_ID, name_of_event),
            (EVENT_TYPE, name_of_event),
            (SIGNATURE, shape_of_signature),
            (header::CONTENT_TYPE, short_value),
            (header::CONTENT_LENGTH, short_value),
            (header::CONTENT_ENCODING, short_value),
            (header::TRANSFER_ENCODING, short_value),
        ];
        let shape = |(name, shape): (HeaderName, DescribeValue)| {
            let values: Vec<&HeaderValue> = headers.get_all(&name).iter().collect();
            let text = match values[..] {
                [] => "missing".to_owned(),
                [value] => shape(value.as_bytes()),
                [first, ..] => format!("{} times, the first one: {}", values.len(), shape(first.as_bytes())),
            };
            (name, text)
        };
        Self {
            diagnosis: diagnosis.clone(),
            answer: ReportedAnswer::NotSaid,
            headers: shapes.into_iter().map(shape).collect(),
            time: headers.get(SIGNATURE).and_then(|value| time_in(value.as_bytes())),
            body: shape_of_body(body, headers),
        }
    }

    /// Adds the status of the response.
    #[must_use]
    pub fn answered(mut self, status: StatusCode) -> Self {
        self.answer = ReportedAnswer::Status(status);
        self
    }

    /// Reports that there was no response within the 10 seconds that klikit waits.
    #[must_use]
    pub fn timed_out(mut self) -> Self {
        self.answer = ReportedAnswer::TimedOut;
        self
    }
}

impl fmt::Display for SupportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("A klikit delivery, without customers' data\n")?;
        match self.answer {
            ReportedAnswer::NotSaid => {}
            ReportedAnswer::Status(status) => writeln!(f, "answered: {}", status.as_u16())?,
            ReportedAnswer::TimedOut => {
                writeln!(f, "answered: nothing within {} seconds", klikit::timeout().as_secs())?
            }
        }
        let (cause, certainty) = (self.diagnosis.cause().as_str(), self.diagnosis.certainty());
        writeln!(f, "cause: {cause}, {certainty}")?;
        writeln!(f, "diagnosis: {}", self.diagnosis)?;
        for (name, shape) in &self.headers {
            writeln!(f, "{name}: {shape}")?;
        }
        writeln!(f, "body: {}", self.body)?;
        write_reproducer(f, self.time.as_deref())
    }
}

/// Writes how to compare the signatures. In a timestamped signature, `time` is signed before the body.
fn write_reproducer(f: &mut fmt::Formatter<'_>, time: Option<&str>) -> fmt::Result {
    // The example of "Webhook security" in klikit's developer documentation. Its signature is documented there too.
    const SECRET: &str = "your-webhook-secret";
    const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;
    // The secret comes from the environment, because all users of a machine can see the arguments of its programs.
    const PROGRAM: &str = r#"import hashlib,hmac,os,sys; s = hmac.new(os.environb[b"KLIKIT_WEBHOOK_SECRET"], sys.stdin.buffer.read(), hashlib.sha256).hexdigest(); print(s, hashlib.sha256(s.encode()).hexdigest()[:8])"#;
    let (signed, prefix) = match time {
        Some(time) => (format!("{{ printf %s {time}.; cat body.bin; }}"), format!("{time}.")),
        None => ("cat body.bin".to_owned(), String::new()),
    };
    let signature = SigningKey::new(SECRET.as_bytes()).sign_pieces(prefix.as_bytes(), [BODY.as_bytes()]).to_string();
    let start = start_of_digest(signature.as_bytes());
    f.write_str(
        "To compare, each side saves its bytes as body.bin, runs these two commands and shares the output of the first. The second prints \
         the signature and the start of its digest. Share only the digest: with the signature and the body, anyone could send this \
         delivery.\n",
    )?;
    writeln!(f, "  sha256sum body.bin\n  {signed} | python3 -c '{PROGRAM}'")?;
    writeln!(f, "With KLIKIT_WEBHOOK_SECRET={SECRET} and the body of\n  printf %s '{BODY}' > body.bin")?;
    writeln!(f, "the second command prints {signature} {start}")
}

/// Describes an event id or an event type.
fn name_of_event(value: &[u8]) -> String {
    EventId::parse(value)
        .map_or_else(|| format!("malformed, of {} bytes", value.len()), |name| name.as_str().to_owned())
}

fn short_value(value: &[u8]) -> String {
    let is_visible = |byte: &u8| (b' '..=b'~').contains(byte);
    match str::from_utf8(value) {
        Ok(text) if value.len() <= MAX_VALUE && value.iter().all(is_visible) => text.to_owned(),
        _ => format!("malformed, of {} bytes", value.len()),
    }
}

/// Describes a signature header without quoting it: the value may be a secret, and a hex secret looks like a signature.
fn shape_of_signature(value: &[u8]) -> String {
    let is_hex = value.iter().all(u8::is_ascii_hexdigit) && !value.is_empty();
    let cased = |case: fn(&u8) -> bool| value.iter().any(case);
    let alphabet = match (cased(u8::is_ascii_lowercase), cased(u8::is_ascii_uppercase)) {
        (_, false) if is_hex => "lower-case hex",
        (false, true) if is_hex => "upper-case hex",
        (true, true) if is_hex => "hex of both cases",
        _ if value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_=".contains(byte)) => "base64 or the like",
        _ => "other characters",
    };
    let mut shape = format!("{} characters, {alphabet}", value.len());
    if let Some(tag) = hex_runs(value).find(|run| run.len() == 64) {
        let start = start_of_digest(&tag.to_ascii_lowercase());
        write!(shape, ", digest starts with {start}").expect("writing to a string does not fail");
    }
    if let Some(time) = time_in(value) {
        write!(shape, ", signed at {time}").expect("writing to a string does not fail");
    }
    shape
}

/// Returns the time in a timestamped signature, also in a malformed one. It consists of digits only.
fn time_in(value: &[u8]) -> Option<String> {
    let prefix = TimestampedSignature::parse(value)
        .map(|stamp| stamp.prefix)
        .or_else(|| MalformedTimestampedSignature::parse(value).map(|stamp| stamp.prefix))?;
    Some(str::from_utf8(prefix.strip_suffix(b".")?).ok()?.to_owned())
}

fn start_of_digest(signature: &[u8]) -> String {
    hex::encode(Sha256::digest(signature))[..SHOWN_DIGITS].to_owned()
}

fn hex_runs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| !byte.is_ascii_hexdigit())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Returns whether a signature header contains the digest or its start, in hex or base64.
fn is_sent_as_signature(digest: &[u8], headers: &HeaderMap) -> bool {
    let hex = hex::encode(digest);
    let in_base64 = [
        Base64Unpadded::encode_string(digest),
        Base64UrlUnpadded::encode_string(digest),
        // Base64 of the hex text. Only whole groups of three digits, because a newline may follow the last digit.
        Base64Unpadded::encode_string(&hex.as_bytes()[..63]),
        Base64Unpadded::encode_string(&hex.to_ascii_uppercase().as_bytes()[..63]),
    ];
    let is_part_of_digest = |run: &[u8]| {
        let run = run.to_ascii_lowercase();
        contains(&run, hex.as_bytes()) || (run.len() >= MIN_DIGITS && contains(hex.as_bytes(), &run))
    };
    headers.get_all(SIGNATURE).iter().map(HeaderValue::as_bytes).any(|value| {
        hex_runs(value).any(is_part_of_digest) || in_base64.iter().any(|text| contains(value, text.as_bytes()))
    })
}

fn shape_of_body(body: &[u8], headers: &HeaderMap) -> String {
    let digest = Sha256::digest(body);
    // Never show a whole signature, not even one that anyone can compute.
    let is_signature = is_sent_as_signature(&digest, headers);
    let digest = if is_signature { "the same as the signature".to_owned() } else { hex::encode(digest) };
    let mut shape = format!("{} bytes, SHA-256 {digest}", body.len());
    let text = str::from_utf8(body).ok();
    let mut say = |property: &str| {
        shape.push_str(", ");
        shape.push_str(property);
    };
    say(match text {
        Some(_) if body.is_ascii() => "ASCII",
        Some(_) => "UTF-8 beyond ASCII",
        None => "not UTF-8",
    });
    match JsonTree::parse(body) {
        Some(tree) => {
            say(match tree.white_space() {
                (false, _) => "compact JSON",
                (true, false) => "spaced JSON",
                (true, true) => "indented JSON",
            });
            say(if has_sorted_keys(&tree) { "keys in alphabetical order" } else { "keys in another order" });
        }
        None => say("not JSON"),
    }
    let marks = [
        (body.starts_with("\u{feff}".as_bytes()), "a byte order mark"),
        (contains(body, b"\r\n"), "CRLF"),
        (body.ends_with(b"\n"), "a final newline"),
        (contains(body, "\u{fffd}".as_bytes()), "U+FFFD, which replaces bytes that were lost"),
    ];
    for (_, mark) in marks.iter().filter(|(found, _)| *found) {
        say(mark);
    }
    shape
}
