//! Forgeries that a careless verification accepts.

use http::header::CONTENT_TYPE;
use tower_klikit::header::SIGNATURE;

use super::rejections::random_signature;
use crate::commands::conform::{finding::Checked, session::Session};

/// Types that frameworks do not parse as JSON, and JSON's type with a parameter.
const CONTENT_TYPES: [&str; 3] = ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8"];

/// Sends genuine bodies with signatures that differ from the right one in their length or in one digit.
pub(super) async fn partial_signature(session: &Session) -> Checked {
    session.require_acceptance()?;
    let mut seen = String::new();
    for (name, form) in FORMS {
        let delivery = session.samples.delivery();
        let signature = form(&session.samples.signature(delivery.body()));
        seen = session.rejected(name, &delivery.header(SIGNATURE, signature)).await?.to_string();
    }
    Ok(seen)
}

/// Sends forgeries with other content types, and one without any.
pub(super) async fn content_type(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let forgery = || samples.delivery().header(SIGNATURE, random_signature(samples));
    for content_type in CONTENT_TYPES {
        let name = format!("a forgery of {content_type}");
        session.rejected(&name, &forgery().header(CONTENT_TYPE, content_type)).await?;
    }
    let answer = session.rejected("a forgery without a content type", &forgery().without_header(&CONTENT_TYPE)).await?;
    Ok(answer.to_string())
}

/// A function that changes the right signature.
type SignatureForm = fn(&str) -> String;

/// The changes of the right signature.
const FORMS: [(&str, SignatureForm); 6] = [
    ("the first digit of the right signature", |right| right[..1].to_owned()),
    ("the first half of the right signature", |right| right[..32].to_owned()),
    ("the first 63 digits of the right signature", |right| right[..63].to_owned()),
    ("the right signature with another first digit", |right| format!("{}{}", other_digit(&right[..1]), &right[1..])),
    ("the right signature with another last digit", |right| format!("{}{}", &right[..63], other_digit(&right[63..]))),
    ("the right signature with 2 more digits", |right| format!("{right}00")),
];

fn other_digit(digit: &str) -> &'static str {
    if digit == "0" { "1" } else { "0" }
}
