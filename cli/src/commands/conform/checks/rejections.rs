//! Deliveries that the receiver must reject.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderValue, header::CONTENT_TYPE};
use sha2::Sha256;
use tower_klikit::{
    WebhookSecret,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};

use crate::{
    commands::conform::{
        finding::{Checked, Finding},
        samples::Samples,
        sender::headers,
        session::Session,
    },
    exchange::Answer,
};

/// The secret in klikit's samples.
const SAMPLE_SECRET: &str = "your-webhook-secret";

pub(super) async fn forged(session: &Session) -> Checked {
    session.require_acceptance()?;
    let answer = session.rejected("a random signature", &forgery(&session.samples, session.samples.body())).await?;
    session.rejected("a random signature with a known event id", &forgery_of_known(session)).await?;
    let known = session.known_delivery().clone().header(SIGNATURE, random_signature(&session.samples));
    session.rejected("a known delivery with a random signature", &known).await?;
    for (name, delivery) in partial_forgeries(&session.samples) {
        session.rejected(name, &delivery).await?;
    }
    let forgery = || forgery(&session.samples, session.samples.body());
    session.rejected("a random signature with an unknown event type", &forgery().event_type("test")).await?;
    session.rejected("a random signature on a text", &forgery().header(CONTENT_TYPE, "text/plain")).await?;
    Ok(answer.to_string())
}

pub(super) async fn altered(session: &Session) -> Checked {
    session.require_acceptance()?;
    let answer = session.rejected("one bit of the body flipped", &session.samples.delivery().altered()).await?;
    session.rejected("another price in the body", &repriced(&session.samples)).await?;
    Ok(answer.to_string())
}

pub(super) async fn unsigned(session: &Session) -> Checked {
    session.require_acceptance()?;
    let delivery = session.samples.delivery();
    let answer = session.rejected("no signature", &delivery.clone().without_header(&SIGNATURE)).await?;
    session.rejected("an empty signature", &delivery.header(SIGNATURE, "")).await?;
    Ok(answer.to_string())
}

pub(super) async fn wrong_secret(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let answer = session.rejected("a random secret", &signed_with(samples, &samples.event_id())).await?;
    let sample = signed_with(samples, SAMPLE_SECRET);
    // A receiver whose secret is klikit's sample is a matter of its configuration.
    if !is_genuine(samples, &sample) {
        session.rejected("the secret of klikit's samples", &sample).await?;
    }
    let body = samples.body();
    let signature = signature_without_secret(body.as_bytes());
    session.rejected("an empty secret", &samples.signed(body).header(SIGNATURE, signature)).await?;
    Ok(answer.to_string())
}

pub(super) async fn alike(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let forgeries = [
        ("a random signature", forgery(samples, samples.body())),
        ("an altered body", samples.delivery().altered()),
        ("another secret", signed_with(samples, &samples.event_id())),
        ("a known event id", forgery_of_known(session)),
        ("a body that is not JSON", forgery(samples, "no JSON".to_owned())),
        ("a signature of 63 digits", samples.delivery().header(SIGNATURE, "a".repeat(63))),
        ("a signature that is not hex", samples.delivery().header(SIGNATURE, "z".repeat(64))),
    ];
    let mut first: Option<(&str, Answer)> = None;
    for (name, forgery) in &forgeries {
        let answer = match session.sender.send(forgery).await {
            Ok(answer) => answer,
            Err(error) => return Err(Finding::fail(format!("{name}: {error}"))),
        };
        if answer.status.is_success() {
            return Err(Finding::not_observable(format!("{name}: accepted, see the rows above")));
        }
        if answer.body.to_ascii_lowercase().contains(&samples.signature(forgery.body())) {
            return Err(Finding::fail(format!(
                "{name}: the response contains the right signature, so anybody can forge"
            )));
        }
        match &first {
            Some((first, other)) if other.status != answer.status => {
                return Err(Finding::fail(format!("{first}: {}, but {name}: {}", other.status, answer.status)));
            }
            Some(_) => {}
            None => first = Some((name, answer)),
        }
    }
    let status = first.map(|(_, answer)| answer.status.as_u16()).unwrap_or_default();
    Ok(format!("{status} to {} kinds of forgery", forgeries.len()))
}

/// Returns deliveries whose signatures are right only in a part.
fn partial_forgeries(samples: &Samples) -> [(&'static str, SignedDelivery); 3] {
    let with = |change: fn(&str) -> String| {
        let delivery = samples.delivery();
        let signature = change(&samples.signature(delivery.body()));
        delivery.header(SIGNATURE, signature)
    };
    [
        (
            "the right signature with another first digit",
            with(|right| format!("{}{}", other_digit(&right[..1]), &right[1..])),
        ),
        (
            "the right signature with another last digit",
            with(|right| format!("{}{}", &right[..63], other_digit(&right[63..]))),
        ),
        ("the first digit of the right signature", with(|right| right[..1].to_owned())),
    ]
}

fn other_digit(digit: &str) -> &'static str {
    if digit == "0" { "1" } else { "0" }
}

/// Makes a delivery with a random signature.
pub(super) fn forgery(samples: &Samples, body: String) -> SignedDelivery {
    samples.signed(body).header(SIGNATURE, random_signature(samples))
}

fn random_signature(samples: &Samples) -> HeaderValue {
    headers(&signed_with(samples, &samples.event_id()))[SIGNATURE].clone()
}

/// Makes a forgery with an event id that the receiver knows.
fn forgery_of_known(session: &Session) -> SignedDelivery {
    forgery(&session.samples, session.samples.body()).event_id(&headers(session.known_delivery())[EVENT_ID])
}

fn signed_with(samples: &Samples, secret: &str) -> SignedDelivery {
    let secret = WebhookSecret::new(secret).expect("the secret has visible characters");
    samples.signed_with(&secret, samples.body())
}

/// Signs with an empty secret, which [`WebhookSecret`] rejects.
fn signature_without_secret(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(b"").expect("any length is valid");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn is_genuine(samples: &Samples, delivery: &SignedDelivery) -> bool {
    headers(delivery)[SIGNATURE] == samples.signature(delivery.body())
}

/// Makes a genuine delivery, and then changes a price in it.
fn repriced(samples: &Samples) -> SignedDelivery {
    let body = samples.body();
    let signature = samples.signature(body.as_bytes());
    let other = body.replacen("25000", "15000", 1);
    samples.signed(other).header(SIGNATURE, signature)
}
