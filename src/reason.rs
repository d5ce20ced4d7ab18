use std::{borrow::Cow, fmt};

use crate::visible::one_line;

/// A handler's short reason for its response, which the handler puts into the response's extensions.
///
/// klikit does not see the reason. When an attempt fails, the inbox's worker logs the reason and stores it with the
/// delivery, so that an operator sees more than a status:
///
/// ```
/// use http::{Response, StatusCode};
/// use tower_klikit::FailureReason;
///
/// let mut response = Response::new("");
/// *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
/// response.extensions_mut().insert(FailureReason::new("printer is out of paper"));
/// ```
///
/// With the `axum` feature, an axum handler can return the reason as a part of its response:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::response::IntoResponse;
/// use http::StatusCode;
/// use tower_klikit::FailureReason;
///
/// async fn order() -> impl IntoResponse {
///     (StatusCode::CONFLICT, FailureReason::new("table 7 is closed"))
/// }
/// # }
/// ```
///
/// A reason is a single line of at most 200 characters: see [`new`](Self::new). Leave out data that does not belong in
/// a log, such as customers' data.
#[derive(Clone, PartialEq, Eq)]
pub struct FailureReason(Box<str>);

impl FailureReason {
    /// Creates a reason from a text. Keeps only the first 200 characters. Replaces each control character, line
    /// separator and invisible format character (such as U+202E, which reverses the text after it) with a space.
    pub fn new<'a>(reason: impl Into<Cow<'a, str>>) -> Self {
        Self(one_line(&reason.into()).into())
    }

    /// Returns the text of the reason.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for FailureReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FailureReason").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keeps_visible_text() {
        for text in ["", "printer is out of paper", "`orders[0].note` is „größer“ — 価格 😀", "  two  spaces  "]
        {
            assert_eq!(FailureReason::new(text).as_str(), text);
        }
        let reason = FailureReason::new(String::from("no paper"));
        assert_eq!(
            (format!("{reason}"), format!("{reason:?}")),
            ("no paper".into(), r#"FailureReason("no paper")"#.into())
        );
    }

    #[test]
    fn second_line_cannot_be_forged() {
        let forged = "paid\r\n2026-06-25 INFO\u{85}a\u{2028}b\u{2029}c\u{b}d\u{1b}[31m";
        assert_eq!(one_line(forged), "paid  2026-06-25 INFO a b c d [31m");
    }

    #[test]
    fn text_cannot_be_reversed_or_hidden() {
        assert_eq!(one_line("a\u{202e}b\u{200b}c\u{2066}d\u{feff}e\u{e0041}f\u{ad}g"), "a b c d e f g");
    }

    #[test]
    fn length_is_bounded() {
        assert_eq!(FailureReason::new("é".repeat(201)).as_str(), "é".repeat(200));
        assert_eq!(one_line(&"x".repeat(1 << 20)).len(), 200);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 4000, ..ProptestConfig::default() })]

        /// Compares with the Unicode categories of the regular expressions.
        #[test]
        fn agrees_with_unicode(hidden in r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]", shown in r"[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cn}]") {
            prop_assert_eq!(one_line(&hidden), " ");
            prop_assert_eq!(one_line(&shown), shown);
        }
    }
}
