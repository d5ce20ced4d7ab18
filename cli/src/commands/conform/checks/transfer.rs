//! Bodies that arrive in unusual ways.

use std::time::Duration;

use tower_klikit::testing::SignedDelivery;

use super::rejections::forgery;
use crate::commands::conform::{
    finding::{Checked, Finding},
    paced::PacedBody,
    session::{Session, rejection, success},
};

pub(super) async fn chunked(session: &Session) -> Checked {
    session.require_acceptance()?;
    let chunks = |delivery: &SignedDelivery| PacedBody::new(delivery.body(), 5, Duration::ZERO);
    let delivery = session.samples.delivery();
    let exchange = session.sender.send_paced(&delivery, chunks(&delivery)).await;
    let answer = success("5 chunks without a Content-Length", exchange)?;
    let forged = forgery(&session.samples, session.samples.body());
    rejection("a forged delivery in chunks", session.sender.send_paced(&forged, chunks(&forged)).await)?;
    Ok(answer.to_string())
}

pub(super) async fn slow_sender(session: &Session) -> Checked {
    session.require_acceptance()?;
    const PIECES: usize = 9;
    const PAUSE: Duration = Duration::from_millis(250);
    let delivery = session.samples.delivery();
    let body = PacedBody::new(delivery.body(), PIECES, PAUSE).with_length();
    let answer = success("a body that takes 2 s", session.sender.send_paced(&delivery, body).await)?;
    Ok(format!("{answer} to a body that takes 2 s"))
}

/// Sends half of a delivery, hangs up, and sends the whole.
pub(super) async fn half_a_body(session: &Session) -> Checked {
    session.require_acceptance()?;
    const PAUSE: Duration = Duration::from_millis(300);
    let delivery = session.samples.delivery();
    let half = session.sender.send_paced(&delivery, PacedBody::half(delivery.body(), PAUSE)).await;
    if let Ok(answer) = half
        && answer.status.is_success()
    {
        return Err(Finding::fail(format!("half of the body: accepted with {answer}")));
    }
    let name = "the whole body after half of it";
    let answer = session.counts_as_new(name, session.accepted(name, &delivery).await?)?;
    Ok(format!("{name}: {answer}"))
}
