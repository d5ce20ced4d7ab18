//! `preflight` finds mistakes in secrets and limits, and passes sound ones.

mod limits;
mod placeholders;
mod secrets;

use std::time::Duration;

use tower_klikit::{
    Keyring, KlikitVerifyLayer, WebhookSecret,
    preflight::{
        PreflightError,
        ProblemKind::{self, *},
    },
};

/// A secret without problems: random and long enough.
const SECRET: &str = "cd3b7a8ac9bd4b1d9f6be0cc21d37a55";

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn secret(text: impl AsRef<[u8]>) -> WebhookSecret {
    WebhookSecret::new(text).unwrap()
}

/// Returns the kinds of the problems that a check found.
fn kinds(result: Result<(), PreflightError>) -> Vec<ProblemKind> {
    result.map_or_else(|error| error.problems().iter().map(|problem| problem.kind()).collect(), |()| Vec::new())
}

fn of_secret(text: impl AsRef<[u8]>) -> Vec<ProblemKind> {
    kinds(Keyring::from(secret(text)).preflight())
}

/// Asserts that each of these secrets has only this problem.
#[track_caller]
fn assert_each(texts: impl IntoIterator<Item = String>, kind: ProblemKind) {
    for text in texts {
        assert_eq!(of_secret(&text), [kind], "{text:?}");
    }
}

#[test]
fn reports_all_problems_at_once() {
    let layer = KlikitVerifyLayer::new(" \"changeme\"").body_limit(0).body_deadline(Duration::ZERO);
    let expected = [SecretWhiteSpace, SecretQuoted, SecretPlaceholder, BodyLimitTooLow, BodyDeadlineZero];
    assert_eq!(kinds(layer.preflight()), expected);
}

#[test]
fn error_names_settings_but_no_secret() {
    let keyring = Keyring::new("bali-bites", "2026-06", secret(format!("\"{SECRET}\"\n")));
    keyring.add("2026-11", secret(SECRET)).unwrap();
    keyring.add("2026-12", secret("hunter2")).unwrap();
    let error = KlikitVerifyLayer::with_keyring(keyring).body_limit(1).preflight().unwrap_err();
    let text = error.to_string();
    for part in
        ["\"2026-06\" has white space", "\"2026-06\" has quotes", "next to \"2026-11\"", "; body_limit is below"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(format!("{error:?}"), text);
    for line in error.problems() {
        assert!(line.to_string().starts_with(char::is_lowercase), "{line}");
    }
    let printed = format!("{text} {error:?} {error:#?}");
    // Neither parts of the secrets nor their lengths, which are 32, 34, 35 and 7 bytes.
    for hidden in [&SECRET[..6], &SECRET[26..], "hunter", "32", "34", "35", "7"] {
        assert!(!printed.contains(hidden), "{hidden}: {printed}");
    }
}
