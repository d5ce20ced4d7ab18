//! Bodies in unusual forms and sizes.

use tower_klikit::header::SIGNATURE;

use crate::commands::conform::{finding::Checked, session::Session};

/// The default limit of Express, `100kb`, and some bytes more.
const OVER_THE_LIMIT: usize = 100 * 1024 + 1;

/// Sends bodies that a JSON library would write in another way, signed as they are, and a body that was written anew,
/// with the signature of the original.
pub(super) async fn json_written_anew(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let mut seen = String::new();
    for (name, form) in FORMS {
        seen = session.accepted(name, &samples.signed(form(&samples.body()))).await?.to_string();
    }
    let body = samples.body();
    let anew = samples.signed(spaced(&body)).header(SIGNATURE, samples.signature(body.as_bytes()));
    let rejected = session.rejected("white space added after the signing", &anew).await?;
    Ok(format!("{seen} to {} signed forms, {rejected} to a rewritten body", FORMS.len()))
}

pub(super) async fn batch(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let orders: Vec<_> = (0..5).map(|_| samples.order()).collect();
    let answer = session.accepted("5 orders", &samples.signed(samples.body_of(orders))).await?;
    Ok(format!("{answer} to 5 orders; how many of them were handled is not observable"))
}

pub(super) async fn over_100_kb(session: &Session) -> Checked {
    session.require_acceptance()?;
    let samples = &session.samples;
    let mut orders = Vec::new();
    let mut length = 0;
    while length < OVER_THE_LIMIT {
        let order = samples.large_order();
        length += order.to_json().len();
        orders.push(order);
    }
    let body = samples.body_of(orders);
    let name = format!("{} kB", body.len() / 1000);
    let answer = session.accepted(&name, &samples.signed(body)).await?;
    Ok(format!("{answer} to {name}"))
}

/// A function that gives a body another form with the same meaning.
type Form = fn(&str) -> String;

/// The forms that a JSON library would not write.
const FORMS: [(&str, Form); 4] = [
    ("white space between the members", spaced),
    ("a line feed at the end", |body| format!("{body}\n")),
    ("a price of 25000.00", |body| body.replacen(":25000", ":25000.00", 1)),
    ("escaped letters and slashes", |body| body.replace("Nasi", r"N\u0061si").replace('/', r"\/")),
];

/// Adds white space between the members.
fn spaced(body: &str) -> String {
    body.replace("\":", "\": ").replace(",\"", ",\n  \"")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use tower_klikit::testing::orders::{FakeOrder, body};

    use super::*;

    #[test]
    fn forms_differ_and_mean_the_same() {
        let body = body(663, 2, [FakeOrder::new(1).item("Nasi goreng", 2, 25_000)]);
        let value: Value = serde_json::from_str(&body).unwrap();
        for (name, form) in FORMS {
            let form = form(&body);
            assert_ne!(form, body, "{name}");
            // `serde_json` distinguishes numbers with decimals from others.
            let same: Value = serde_json::from_str(&form.replace("25000.00", "25000")).unwrap();
            assert_eq!(same, value, "{name}");
        }
    }
}
