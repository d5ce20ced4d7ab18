//! Known faults, each with the cause that describes it.

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding};
use http::header;
use serde_json::Value;
use tower_klikit::{
    diagnose::Cause,
    header::{EVENT_ID, SIGNATURE},
};

use super::{Change, SECRET, outside_of_strings};
use crate::diagnose::{
    kit::{signature, signed, with, with_signature, without},
    random::Random,
};

/// Changes that one of the causes describes.
pub(super) const FAULTS: [(&str, Change); 36] = [
    ("newline at the end", |random, case| {
        case.body.extend_from_slice(random.of(&[&b"\n"[..], b"\r\n"]));
        case.expected = vec![Cause::BodyFinalNewline];
    }),
    ("byte order mark", |_, case| {
        case.body.splice(0..0, "\u{feff}".bytes());
        case.expected = vec![Cause::BodyByteOrderMark];
    }),
    ("encoded twice", |_, case| {
        let twice: String = case.body.iter().map(|&byte| char::from(byte)).collect();
        case.expected = if case.body.is_ascii() { vec![Cause::Verifies] } else { vec![Cause::BodyEncodedTwice] };
        case.body = twice.into_bytes();
    }),
    ("Latin-1", |_, case| {
        let text = str::from_utf8(&case.body).unwrap();
        let bytes: Option<Vec<u8>> = text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect();
        // Characters outside of Latin-1 are lost.
        case.expected = if case.body.is_ascii() { vec![Cause::Verifies] } else { vec![Cause::BodyLatin1] };
        case.body = bytes.unwrap_or_else(|| {
            case.expected = Vec::new();
            text.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect()
        });
    }),
    ("compressed", |random, case| {
        use std::io::Write;
        let level = flate2::Compression::new(u32::try_from(random.below(10)).unwrap());
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), level);
        gzip.write_all(&case.body).unwrap();
        case.body = gzip.finish().unwrap();
        case.expected = vec![Cause::BodyCompressed];
    }),
    ("through serde_json", |random, case| {
        let value: Value = serde_json::from_slice(&case.body).unwrap();
        let pretty = random.below(2) == 0;
        case.body = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() }.into();
        case.expected = vec![Cause::BodyReencoded];
    }),
    ("white space between values", |random, case| {
        let between = random.of(&[&b" "[..], b"\n", b"\t", b"  "]);
        let mut places: Vec<usize> = outside_of_strings(&case.body).collect();
        places.retain(|&at| at > 0 && matches!(case.body[at - 1], b',' | b':'));
        for at in places.into_iter().rev() {
            case.body.splice(at..at, between.iter().copied());
        }
        case.expected = vec![Cause::BodyReencoded];
    }),
    ("slashes escaped", |_, case| {
        let text = str::from_utf8(&case.body).unwrap().replace('/', "\\/");
        case.expected = if text.len() == case.body.len() { vec![Cause::Verifies] } else { vec![Cause::BodyReencoded] };
        case.body = text.into_bytes();
    }),
    ("empty", |_, case| {
        case.body.clear();
        case.expected = vec![Cause::BodyEmpty];
    }),
    ("shorter than announced", |random, case| {
        case.headers.insert(header::CONTENT_LENGTH, case.body.len().into());
        case.body.truncate(1 + random.below(case.body.len() - 1));
        case.expected = vec![Cause::BodyShorter];
    }),
    ("signature missing", |_, case| {
        case.headers = without(case.headers.clone(), &SIGNATURE);
        case.expected = vec![Cause::SignatureMissing];
    }),
    ("signature repeated", |random, case| {
        let other = if random.below(2) == 0 { signature(&case.headers) } else { "0".repeat(64) };
        case.headers = with(case.headers.clone(), SIGNATURE, &other);
        case.expected = vec![Cause::SignatureRepeated];
    }),
    ("signature in base64", |_, case| {
        let hex = signature(&case.headers);
        let bytes: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
        case.headers = with_signature(case.headers.clone(), Base64::encode_string(&bytes));
        case.expected = vec![Cause::SignatureBase64];
    }),
    ("signature with a prefix", |random, case| {
        let prefix = random.of(&["sha256=", "hmac=", "v1=", "SHA256:"]);
        case.headers = with_signature(case.headers.clone(), format!("{prefix}{}", signature(&case.headers)));
        case.expected = vec![Cause::SignaturePrefixed];
    }),
    ("signature cut off", |random, case| {
        let hex = signature(&case.headers);
        let len = random.below(64);
        // A short start cannot be proven and counts as malformed.
        case.expected = vec![if len < 16 { Cause::SignatureMalformed } else { Cause::SignatureTruncated }];
        case.headers = with_signature(case.headers.clone(), &hex[..len]);
    }),
    ("signature with a timestamp", |random, case| {
        let time = random.below(2_000_000_000);
        let tag = signature(&signed(SECRET, &[format!("{time}.").as_bytes(), &case.original].concat()));
        case.headers = with_signature(case.headers.clone(), format!("t={time},v1={tag}"));
        case.expected = vec![Cause::SignatureTimestamped];
    }),
    ("signature in upper case", |_, case| {
        case.headers = with_signature(case.headers.clone(), signature(&case.headers).to_uppercase());
        case.expected = vec![Cause::SignatureUpperCase];
    }),
    ("signature with quotes", |random, case| {
        let quote = random.of(&["\"", "'", " ", "\t"]);
        case.headers = with_signature(case.headers.clone(), format!("{quote}{}{quote}", signature(&case.headers)));
        case.expected = vec![Cause::SignaturePadded];
    }),
    ("no event id", |_, case| {
        case.headers = without(case.headers.clone(), &EVENT_ID);
        case.expected = vec![Cause::EventIdMissing];
    }),
    ("secret with white space", |random, case| {
        let space = random.of(&["\n", "\r\n", " ", "\t"]);
        let ends = [format!("{SECRET}{space}"), format!("{space}{SECRET}"), format!("{SECRET}{space}{space}")];
        case.configured = ends[random.below(3)].clone().into_bytes();
        case.expected = vec![Cause::SecretWhiteSpace];
    }),
    ("secret in quotes", |random, case| {
        let quote = random.of(&["\"", "'", "`"]);
        case.configured = format!("{quote}{SECRET}{quote}").into_bytes();
        case.expected = vec![Cause::SecretQuoted];
    }),
    ("secret with its name", |random, case| {
        let line = random.of(&["KLIKIT_WEBHOOK_SECRET=", "export KLIKIT_SECRET=", "secret="]);
        case.configured = format!("{line}{SECRET}").into_bytes();
        case.expected = vec![Cause::SecretLine];
    }),
    ("secret in base64", |_, case| {
        case.configured = Base64::encode_string(SECRET.as_bytes()).into_bytes();
        case.expected = vec![Cause::SecretEncoded];
    }),
    ("secret in hex", |_, case| {
        case.configured = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
        case.expected = vec![Cause::SecretEncoded];
    }),
    ("in base64", |random, case| {
        case.body = in_base64(random, &case.body);
        case.expected = vec![Cause::BodyWrapped];
    }),
    ("in hex", |random, case| {
        let hex: String = case.body.iter().map(|byte| format!("{byte:02x}")).collect();
        case.body = if random.below(2) == 0 { hex.into_bytes() } else { format!("\\x{hex}").into_bytes() };
        case.expected = vec![Cause::BodyWrapped];
    }),
    ("in a URL or a form", |random, case| {
        let name = random.of(&["", "payload=", "data="]);
        case.body = [name.as_bytes(), &in_url(&case.body, random.of(&["%20", "+"]))].concat();
        case.expected = vec![Cause::BodyWrapped];
    }),
    ("in a JSON string", |_, case| {
        case.body = serde_json::to_vec(str::from_utf8(&case.body).unwrap()).unwrap();
        case.expected = vec![Cause::BodyWrapped];
    }),
    ("in a gateway's event", |random, case| {
        let is_base64 = random.below(2) == 0;
        let body = if is_base64 { Base64::encode_string(&case.body) } else { text(&case.body) };
        let event = serde_json::json!({ "httpMethod": "POST", "body": body, "isBase64Encoded": is_base64 });
        case.body = event.to_string().into_bytes();
        case.expected = vec![Cause::BodyWrapped];
    }),
    ("compressed and wrapped", |random, case| {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&case.body).unwrap();
        case.body = in_base64(random, &gzip.finish().unwrap());
        (case.expected, case.also) = (vec![Cause::BodyWrapped], vec![Cause::BodyCompressed]);
    }),
    ("a newline and wrapped", |random, case| {
        case.body.extend_from_slice(random.of(&[&b"\n"[..], b"\r\n"]));
        case.body = in_base64(random, &case.body);
        (case.expected, case.also) = (vec![Cause::BodyWrapped], vec![Cause::BodyFinalNewline]);
    }),
    ("reencoded and wrapped", |random, case| {
        let value: Value = serde_json::from_slice(&case.body).unwrap();
        case.body = in_base64(random, value.to_string().as_bytes());
        (case.expected, case.also) = (vec![Cause::BodyWrapped], vec![Cause::BodyReencoded]);
        if value.to_string().as_bytes() == case.original {
            case.also.clear();
        }
    }),
    ("byte order mark and newline", |random, case| {
        case.body.extend_from_slice(random.of(&[&b"\n"[..], b"\r\n"]));
        case.body.splice(0..0, "\u{feff}".bytes());
        (case.expected, case.also) = (vec![Cause::BodyFinalNewline], vec![Cause::BodyByteOrderMark]);
    }),
    ("secret in a URL", |random, case| {
        let (secret, space) = (b"klikit+fixture/secret =", random.of(&["%20", "+"]));
        let tag = signature(&signed(secret, &case.original));
        case.headers = with_signature(case.headers.clone(), tag);
        case.configured = in_url(secret, space);
        case.expected = vec![Cause::SecretEncoded];
    }),
    ("right secret in a URL", |random, case| {
        let (secret, space) = (b"klikit+fixture/secret =", random.of(&["%20", "+"]));
        let tag = signature(&signed(in_url(secret, space), &case.original));
        case.headers = with_signature(case.headers.clone(), tag);
        case.configured = secret.to_vec();
        case.expected = vec![Cause::SecretDecoded];
    }),
    ("a candidate", |_, case| {
        let headers = signed("the partner API's", &case.original);
        case.headers = with_signature(case.headers.clone(), signature(&headers));
        case.expected = vec![Cause::OtherSecret];
    }),
];

fn text(body: &[u8]) -> String {
    str::from_utf8(body).unwrap().to_owned()
}

/// Encodes base64 in either alphabet, with or without padding, in one line or in lines of 76 characters (RFC 2045).
fn in_base64(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let encoders = [
        Base64::encode_string,
        Base64Unpadded::encode_string,
        Base64Url::encode_string,
        Base64UrlUnpadded::encode_string,
    ];
    let encoded = random.of(&encoders)(body);
    if random.below(2) == 0 {
        return encoded.into_bytes();
    }
    encoded
        .as_bytes()
        .chunks(76)
        .map(|line| format!("{}\r\n", str::from_utf8(line).unwrap()))
        .collect::<String>()
        .into()
}

/// Percent-encodes all characters that are not unreserved (RFC 3986), with `space` for a space.
fn in_url(text: &[u8], space: &str) -> Vec<u8> {
    let escape = |&byte: &u8| match byte {
        b' ' => space.to_owned(),
        _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.iter().map(escape).collect::<String>().into_bytes()
}
