//! Deliveries that the receiver must reject.

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use sha2::Sha256;
use tower_klikit::{
    WebhookSecret,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};

use super::shown::shows;
use crate::{
    commands::conform::{
        finding::{Checked, Finding},
        samples::Samples,
        sender::headers,
        session::{Session, no_answer},
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
    let unknown = forgery(&session.samples, session.samples.body()).event_type("test");
    session.rejected("a random signature with an unknown event type", &unknown).await?;
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
        let answer = rejection_without_signature(session, name, forgery).await?;
        match &first {
            Some((first, other)) if other.status != answer.status => {
                return Err(Finding::fail(format!("{first}: {}, but {name}: {}", other.status, answer.status)));
            }
            Some(_) => {}
            None => first = Some((name, answer)),
        }
    }
    // These may have another status: the sender knows that the signature is missing.
    for (name, unsigned) in [
        ("no signature", samples.delivery().without_header(&SIGNATURE)),
        ("an empty signature", samples.delivery().header(SIGNATURE, "")),
    ] {
        rejection_without_signature(session, name, &unsigned).await?;
    }
    let status = first.map(|(_, answer)| answer.status.as_u16()).unwrap_or_default();
    Ok(format!("{status} to {} kinds of forgery", forgeries.len()))
}

/// Sends a forgery. Returns the response, which must not contain the right signature.
async fn rejection_without_signature(session: &Session, name: &str, forgery: &SignedDelivery) -> Checked<Answer> {
    let answer = session.sender.send(forgery).await.map_err(|error| no_answer(name, &error))?;
    if answer.status.is_success() {
        return Err(Finding::not_observable(format!("{name}: accepted, see the rows above")));
    }
    let signature = hex::decode(session.samples.signature(forgery.body())).expect("a signature is hex");
    if shows(&answer.body, &signature) {
        return Err(Finding::fail(format!("{name}: the response contains the right signature, so anybody can forge")));
    }
    Ok(answer)
}

/// Makes a delivery with a random signature.
pub(super) fn forgery(samples: &Samples, body: String) -> SignedDelivery {
    samples.signed(body).header(SIGNATURE, random_signature(samples))
}

pub(super) fn random_signature(samples: &Samples) -> HeaderValue {
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
