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

/// Of the values of headers that are shown as they came, but for id and type.
const MAX_VALUE: usize = 100;

/// Of the digits of a signature's digest: enough to tell it from another, and too few to go by in anything else.
const SHOWN_DIGITS: usize = 8;

/// Of a digest, by which it is told. Fewer are nobody's signature.
const TELLING_DIGITS: usize = 16;

/// What klikit's support asks for, without customers' data: the event id, what was answered, and how to reproduce it.
///
/// It holds lengths, digests and shapes: never the body, a secret, the signature, or the signature that would have been right,
/// with which whoever reads the ticket could forge that delivery. Of what stands in the signature's place no digit is shown
/// either, since some send a secret there: what is shown is the start of its SHA-256, for klikit to hold against its own.
/// `Display` is the text, of some lines.
#[derive(Debug, Clone)]
pub struct SupportReport {
    diagnosis: Diagnosis,
    answer: ReportedAnswer,
    headers: Vec<(HeaderName, String)>,
    /// Of the first signature.
    time: Option<String>,
    body: String,
}

#[derive(Debug, Clone, Copy)]
enum ReportedAnswer {
    NotSaid,
    Status(StatusCode),
    TimedOut,
}

/// What a value looks like.
type DescribeValue = fn(&[u8]) -> String;

impl SupportReport {
    /// Describes a request, of which nothing is kept but its shape.
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
                [first, ..] => format!("{} times, the first of them {}", values.len(), shape(first.as_bytes())),
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

    /// Says what was answered.
    #[must_use]
    pub fn answered(mut self, status: StatusCode) -> Self {
        self.answer = ReportedAnswer::Status(status);
        self
    }

    /// Says that nothing was answered in the 10 seconds that klikit waits.
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
            ReportedAnswer::TimedOut => writeln!(f, "answered: nothing within {} seconds", klikit::TIMEOUT.as_secs())?,
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

/// How to compare. In klikit's older form `time` is signed before the body.
fn write_reproducer(f: &mut fmt::Formatter<'_>, time: Option<&str>) -> fmt::Result {
    // Of "Webhook security" in klikit's developer documentation, with the signature that it has there.
    const SECRET: &str = "your-webhook-secret";
    const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;
    // The secret comes from the environment, since everybody on a machine sees the arguments of its programs.
    const PROGRAM: &str = r#"import hashlib,hmac,os,sys; s = hmac.new(os.environb[b"KLIKIT_WEBHOOK_SECRET"], sys.stdin.buffer.read(), hashlib.sha256).hexdigest(); print(s, hashlib.sha256(s.encode()).hexdigest()[:8])"#;
    let (signed, prefix) = match time {
        Some(time) => (format!("{{ printf %s {time}.; cat body.bin; }}"), format!("{time}.")),
        None => ("cat body.bin".to_owned(), String::new()),
    };
    let signature = SigningKey::new(SECRET.as_bytes()).sign_pieces(prefix.as_bytes(), [BODY.as_bytes()]).to_string();
    let start = start_of_digest(signature.as_bytes());
    f.write_str(
        "To compare, each side runs these two on the bytes that it keeps as body.bin, and shows what the first prints. The second prints a \
         signature, which stays with each: with it and the body anybody could send this delivery. Behind it is how its digest begins, to be \
         shown too.\n",
    )?;
    writeln!(f, "  sha256sum body.bin\n  {signed} | python3 -c '{PROGRAM}'")?;
    writeln!(f, "With KLIKIT_WEBHOOK_SECRET={SECRET} and the body that this makes\n  printf %s '{BODY}' > body.bin")?;
    writeln!(f, "the second prints {signature} {start}")
}

/// Of an id or a type.
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

/// Never a part of the value: it may be a secret that was sent in its place, and nothing tells a hex one from a signature.
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
        write!(shape, ", its digest beginning {start}").expect("a string takes any text");
    }
    if let Some(time) = time_in(value) {
        write!(shape, ", signed at {time}").expect("a string takes any text");
    }
    shape
}

/// Of klikit's older form, also where it is spelt in a way that is not accepted: it is all digits.
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

fn holds(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Whether a signature header has it, in hex or base64, whatever is around it, or the start of it.
fn is_sent_as_signature(digest: &[u8], headers: &HeaderMap) -> bool {
    let hex = hex::encode(digest);
    let in_base64 = [
        Base64Unpadded::encode_string(digest),
        Base64UrlUnpadded::encode_string(digest),
        // Of the digits that fill its groups: a newline may be behind them.
        Base64Unpadded::encode_string(&hex.as_bytes()[..63]),
        Base64Unpadded::encode_string(&hex.to_ascii_uppercase().as_bytes()[..63]),
    ];
    let is_of_it = |run: &[u8]| {
        let run = run.to_ascii_lowercase();
        holds(&run, hex.as_bytes()) || (run.len() >= TELLING_DIGITS && holds(hex.as_bytes(), &run))
    };
    headers
        .get_all(SIGNATURE)
        .iter()
        .map(HeaderValue::as_bytes)
        .any(|value| hex_runs(value).any(is_of_it) || in_base64.iter().any(|text| holds(value, text.as_bytes())))
}

fn shape_of_body(body: &[u8], headers: &HeaderMap) -> String {
    let digest = Sha256::digest(body);
    // A signature is never shown whole, not even one that anybody can make.
    let is_signature = is_sent_as_signature(&digest, headers);
    let digest = if is_signature { "the same as the signature".to_owned() } else { hex::encode(digest) };
    let mut shape = format!("{} bytes, SHA-256 {digest}", body.len());
    let text = str::from_utf8(body).ok();
    let mut say = |what: &str| {
        shape.push_str(", ");
        shape.push_str(what);
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
        (holds(body, b"\r\n"), "CRLF"),
        (body.ends_with(b"\n"), "a final newline"),
        (holds(body, "\u{fffd}".as_bytes()), "U+FFFD, which stands for bytes that were lost"),
    ];
    for (_, mark) in marks.iter().filter(|(found, _)| *found) {
        say(mark);
    }
    shape
}
