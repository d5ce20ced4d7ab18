//! The responses to genuine deliveries.

use bytes::Bytes;
use reqwest::Url;
use tower_klikit::{EventType, header::SIGNATURE};

use super::rejections::forgery;
use crate::commands::conform::{
    finding::{Checked, Finding},
    marks::Meaning,
    session::{Session, rejection, success},
};

/// The number of deliveries whose responses are timed.
const TIMED: usize = 20;

pub(super) async fn genuine(session: &Session) -> Checked {
    let answer = match session.first() {
        Ok(answer) if [401, 403].contains(&answer.status.as_u16()) => {
            return Err(Finding::fail(format!(
                "{answer}: check the secret, and whether the receiver requires --basic"
            )));
        }
        first => success(EventType::OrderCreated.as_str(), first.clone())?,
    };
    for event_type in [EventType::OrderStatusUpdated, EventType::OrderCartUpdated] {
        let delivery = session.samples.delivery().event_type(event_type.clone());
        session.accepted(event_type.as_str(), &delivery).await?;
    }
    Ok(format!("{answer} to all 3 events"))
}

/// Sends a delivery that is signed with the old secret, and then the same one signed with the new secret.
pub(super) async fn rotated_secret(session: &Session) -> Checked {
    session.require_acceptance()?;
    let Some(old_secret) = &session.options.old_secret else {
        return Err(Finding::not_observable("name the secret before the rotation with --old-secret-file"));
    };
    let new = session.samples.delivery();
    let signature = old_secret.sign(new.body()).to_string();
    if new.request::<Bytes>().headers().get(SIGNATURE).is_some_and(|value| *value == signature) {
        return Err(Finding::not_observable(
            "the old secret is the same as the new one: name the one before the rotation",
        ));
    }
    let old = new.clone().header(SIGNATURE, signature);
    session.accepted("signed with the old secret", &old).await?;
    let answer = session.accepted("the same delivery, signed with the new secret", &new).await?;
    match session.marks().map(|marks| marks.meaning(&answer)) {
        Ok(Meaning::New) => {
            Err(Finding::fail(format!("the same delivery, signed with the new secret, is new: {answer}")))
        }
        Ok(Meaning::Duplicate) => {
            Ok(format!("both secrets are accepted, and the second delivery is a duplicate: {answer}"))
        }
        Ok(Meaning::Unclear) | Err(_) => Ok(format!("both secrets are accepted: {answer}")),
    }
}

/// Reports the redirects of the whole run.
pub(super) fn redirect(session: &Session) -> Checked {
    match (session.sender.redirect(), session.first()) {
        (Some(status), _) => {
            Err(Finding::fail(format!("{}: let klikit register the URL that it leads to", status.as_u16())))
        }
        (None, Ok(answer)) => Ok(format!("no redirect: {}", answer.status.as_u16())),
        (None, Err(error)) => Err(Finding::not_observable(error.to_string())),
    }
}

/// Sends deliveries to the URL with a slash at its end, or without it.
pub(super) async fn trailing_slash(session: &Session) -> Checked {
    session.require_acceptance()?;
    let Some(url) = with_other_slash(session.sender.url()) else {
        return Err(Finding::not_observable("the URL has no path"));
    };
    let path = url.path();
    let delivery = session.samples.delivery();
    let answer = match session.sender.send_to(&url, &delivery).await {
        Ok(answer) if answer.status.is_client_error() => return Ok(format!("{} at {path}", answer.status.as_u16())),
        exchange => success(path, exchange)?,
    };
    let forged = forgery(&session.samples, session.samples.body());
    rejection("a forged delivery there", session.sender.send_to(&url, &forged).await)?;
    Ok(format!("{answer} at {path}"))
}

/// Measures the responses to deliveries that are sent one after the other.
pub(super) async fn answer_time(session: &Session) -> Checked {
    let limit = session.options.answer_within;
    let mut slowest = match session.first() {
        Ok(answer) => answer.time,
        Err(error) => return Err(Finding::fail(error.to_string())),
    };
    session.require_acceptance()?;
    for _ in 0..TIMED {
        let answer = session.accepted("a genuine delivery", &session.samples.delivery()).await?;
        slowest = slowest.max(answer.time);
        if slowest > limit {
            return Err(Finding::fail(format!("{} ms, over {} ms", slowest.as_millis(), limit.as_millis())));
        }
    }
    Ok(format!("the slowest of {TIMED} responses took {} ms", slowest.as_millis()))
}

/// Adds a slash to the path, or removes it. Returns `None` if the path is `/`.
fn with_other_slash(url: &Url) -> Option<Url> {
    let path = url.path();
    let other = match path.strip_suffix('/') {
        Some("") => return None,
        Some(without) => without.to_owned(),
        None => format!("{path}/"),
    };
    let mut url = url.clone();
    url.set_path(&other);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_or_removes_a_slash() {
        let other = |url: &str| with_other_slash(&url.parse().unwrap()).map(String::from);
        assert_eq!(other("http://localhost/hook?a=b").as_deref(), Some("http://localhost/hook/?a=b"));
        assert_eq!(other("http://localhost/hook/").as_deref(), Some("http://localhost/hook"));
        assert_eq!(other("http://localhost"), None);
    }
}
