//! Deliveries that are sent more than once.

use std::time::Duration;

use http::StatusCode;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use tower_klikit::{header::EVENT_ID, testing::SignedDelivery};

use crate::{
    commands::conform::{
        finding::{Checked, Finding},
        marks::Meaning,
        paced::PacedBody,
        sender::{Sender, headers},
        session::{Session, no_answer, success},
    },
    exchange::{Answer, Exchange, NoAnswer},
};

/// The number of copies that arrive at the same time.
const COPIES: usize = 8;

/// The number of deliveries that are sent in copies, because a race does not happen each time.
const ROUNDS: usize = 5;

/// The number of retries after which a delivery must be accepted whose copies were rejected.
const RETRIES: usize = 10;

/// The pause before each retry.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) fn duplicate(session: &Session) -> Checked {
    let answer = success("the same delivery again", session.repeated()?.clone())?;
    // The marks come from this answer.
    session.marks()?;
    Ok(answer.to_string())
}

/// Sends copies whose last bytes arrive at the same time, so that the receiver handles all of them at once.
pub(super) async fn concurrent(session: &Session) -> Checked {
    session.require_acceptance()?;
    let mut rejected = 0;
    for _ in 0..ROUNDS {
        let delivery = session.samples.delivery();
        let mut new = 0;
        for exchange in send_copies(&session.sender, &delivery).await {
            let answer = exchange.map_err(|error| no_answer("a copy", &error))?;
            if !answer.status.is_success() {
                rejected += 1;
                continue;
            }
            match session.meaning(&answer)? {
                Meaning::New => new += 1,
                Meaning::Duplicate => {}
                Meaning::Unclear => {
                    return Err(Finding::not_observable(format!("a copy gets another response: {answer}")));
                }
            }
        }
        if new > 1 {
            return Err(Finding::fail(format!("{new} of {COPIES} copies were handled as new deliveries")));
        }
        let answer = accepted_in_the_end(session, &delivery).await?;
        match (new, session.meaning(&answer)?) {
            // A receiver may reject all copies for now, and handle the delivery when it comes again.
            (1, Meaning::Duplicate) | (0, Meaning::New) => {}
            (_, Meaning::New) => return Err(Finding::fail(format!("handled again after its copies: {answer}"))),
            (_, Meaning::Duplicate | Meaning::Unclear) => {
                return Err(Finding::not_observable(format!("the delivery that came after its copies: {answer}")));
            }
        }
    }
    let rest = if rejected > 0 { format!(", and {rejected} were rejected at first") } else { String::new() };
    Ok(format!("{ROUNDS} × {COPIES} copies: one of each {COPIES} was new{rest}"))
}

pub(super) async fn same_id_other_body(session: &Session) -> Checked {
    session.require_acceptance()?;
    let delivery = session.samples.delivery();
    session.accepted("a genuine delivery", &delivery).await?;
    let other = session.samples.delivery().event_id(&headers(&delivery)[EVENT_ID]);
    let answer = match session.sender.send(&other).await {
        // klikit keeps and shows a delivery that is rejected, so nothing is lost in silence.
        Ok(answer) if answer.status.is_client_error() => return Ok(answer.to_string()),
        exchange => success("the same id with another body", exchange)?,
    };
    Ok(session.counts_as_new("another body", answer)?.to_string())
}

/// Sends deliveries that a handler may fail to handle, and sends each again.
pub(super) async fn retry_after_failure(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let malformed = [
        format!(r#"{{"brand_id":663,"branch_id":2,"orders":"{}"}}"#, samples.event_id()),
        format!(r#"{{"brand_id":663,"branch_id":2,"event":"{}"}}"#, samples.event_id()),
        format!("no JSON: {}", samples.event_id()),
    ];
    let given = session.options.failing.iter().map(|body| (true, body.clone()));
    let bodies = given.chain(malformed.into_iter().map(|body| (false, body.into())));
    let mut passed = None;
    for (is_given, body) in bodies {
        let delivery = samples.signed(body);
        let first = session.sender.send(&delivery).await;
        if first.as_ref().is_ok_and(|answer| answer.status.is_success()) {
            continue;
        }
        let second = session.sender.send(&delivery).await;
        let seen = format!("{}, and then {}", shown(&first), shown(&second));
        let is_retried = match &second {
            Ok(answer) if answer.status.is_success() => match session.meaning(answer) {
                Ok(Meaning::Duplicate) => return Err(Finding::fail(seen)),
                Ok(Meaning::New) => true,
                Ok(Meaning::Unclear) | Err(_) => false,
            },
            Ok(_) | Err(_) => true,
        };
        // A receiver may reject a malformed body before it marks the delivery, and any body while it is overloaded.
        // Such a rejection does not show whether the handler ran.
        let is_handler = match &first {
            Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => false,
            Ok(answer) => is_given || answer.status.is_server_error(),
            Err(_) => true,
        };
        if is_retried && is_handler {
            passed.get_or_insert(seen);
        }
    }
    passed.ok_or_else(|| {
        Finding::not_observable("no delivery failed in the handler: name a body that it fails on with --failing")
    })
}

fn shown(exchange: &Exchange) -> String {
    exchange.as_ref().map_or_else(NoAnswer::to_string, Answer::to_string)
}

async fn send_copies(sender: &Sender, delivery: &SignedDelivery) -> Vec<Exchange> {
    /// The time in which all but the last byte of each copy arrives.
    const LEAD: Duration = Duration::from_millis(250);
    let last = Instant::now() + LEAD;
    let mut copies = JoinSet::new();
    for _ in 0..COPIES {
        let (sender, delivery) = (sender.clone(), delivery.clone());
        let body = PacedBody::withholding_the_last_byte(delivery.body(), last);
        copies.spawn(async move { sender.send_paced(&delivery, body).await });
    }
    copies.join_all().await
}

/// Sends a delivery until it is accepted, as klikit does after 503.
async fn accepted_in_the_end(session: &Session, delivery: &SignedDelivery) -> Checked<Answer> {
    const NAME: &str = "sent again after its copies";
    for _ in 0..RETRIES {
        if let Ok(answer) = session.accepted(NAME, delivery).await {
            return Ok(answer);
        }
        sleep(PAUSE).await;
    }
    session.accepted(NAME, delivery).await
}
