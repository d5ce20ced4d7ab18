//! Headers in unusual forms.

use bytes::Bytes;
use http::HeaderValue;
use tower_klikit::{
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
    testing::SignedDelivery,
};

use crate::commands::conform::{
    finding::{Checked, Finding},
    sender::headers,
    session::Session,
};

pub(super) async fn two_signatures(session: &Session) -> Checked {
    session.require_acceptance()?;
    let both = |order: [bool; 2]| {
        let delivery = session.samples.delivery();
        let genuine = signature(&delivery);
        let [first, second] = order.map(|is_genuine| if is_genuine { genuine.clone() } else { forged() });
        delivery.header(SIGNATURE, first).added_header(SIGNATURE, second)
    };
    let answer = session.rejected("a genuine signature before a forged one", &both([true, false])).await?;
    session.rejected("a forged signature before a genuine one", &both([false, true])).await?;
    let delivery = session.samples.delivery();
    let joined = [signature(&delivery).as_bytes(), b", ", forged().as_bytes()].concat();
    session.rejected("two signatures in one header", &delivery.header(SIGNATURE, joined)).await?;
    Ok(answer.to_string())
}

pub(super) async fn white_space(session: &Session) -> Checked {
    session.require_acceptance()?;
    let mut seen = String::new();
    for (name, before, after) in
        [("spaces before the signature", "  ", ""), ("a space after it", "", " "), ("tabs around it", "\t", "\t")]
    {
        let delivery = session.samples.delivery();
        let value = [before.as_bytes(), signature(&delivery).as_bytes(), after.as_bytes()].concat();
        seen = session.accepted(name, &delivery.header(SIGNATURE, value)).await?.to_string();
    }
    Ok(seen)
}

pub(super) async fn non_utf8(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let named = |name: &str| samples.body_of([samples.order().field("user_first_name", name)]);
    let accepted = session.accepted("a customer's name beyond ASCII", &samples.signed(named("Zoë 東京 🍜"))).await?;

    for (name, signature) in [("a signature in UTF-8", "é".repeat(32)), ("a longer one", "é".repeat(64))] {
        session.rejected(name, &samples.delivery().header(SIGNATURE, signature)).await?;
    }
    let signature = [b'\xe9'; 64];
    let rejected = session.rejected("a signature in Latin-1", &samples.delivery().header(SIGNATURE, signature)).await?;
    let body = Bytes::from_static(b"{\"brand_id\":1,\"branch_id\":2,\"orders\":[\"\xff\xfe\"]}");
    session.rejected("a forged body that is not UTF-8", &samples.signed(body).header(SIGNATURE, forged())).await?;

    // The receiver may accept or reject these, because klikit signs neither header.
    for (name, header) in [("an event id in Latin-1", EVENT_ID), ("an event type in Latin-1", EVENT_TYPE)] {
        answered(session, name, &samples.delivery().header(header, b"caf\xe9")).await?;
    }
    Ok(format!("{} to text beyond ASCII, {} to signatures", accepted.status.as_u16(), rejected.status.as_u16()))
}

/// Sends a delivery that may be accepted or rejected, and must not crash the receiver.
async fn answered(session: &Session, name: &str, delivery: &SignedDelivery) -> Checked<()> {
    match session.sender.send(delivery).await {
        Ok(answer) if answer.status.is_success() || answer.status.is_client_error() => Ok(()),
        Ok(answer) => Err(Finding::fail(format!("{name}: {answer}"))),
        Err(error) => Err(Finding::fail(format!("{name}: {error}"))),
    }
}

fn signature(delivery: &SignedDelivery) -> HeaderValue {
    headers(delivery)[SIGNATURE].clone()
}

fn forged() -> HeaderValue {
    HeaderValue::from_static("5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed")
}
