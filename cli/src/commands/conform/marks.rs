//! Differences between the responses to new deliveries and to duplicates.

use http::StatusCode;

use crate::exchange::Answer;

/// Words that the response to a duplicate contains, such as klikit's `duplicate-ignored`.
const WORDS: [&str; 2] = ["duplicate", "already"];

/// The difference between the responses to a new delivery and to a duplicate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marks {
    /// Only the response to a duplicate contains one of the [`WORDS`].
    Word,
    /// All new deliveries get one response, and duplicates another.
    Answer { new: Shape, duplicate: Shape },
}

/// The meaning of a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The delivery was new.
    New,
    /// The delivery was known.
    Duplicate,
    /// The response has another form.
    Unclear,
}

/// A response without the parts that differ from one delivery to the next: all words that contain a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    status: StatusCode,
    body: String,
}

impl Marks {
    /// Compares the responses to new deliveries with the response to a duplicate. Returns `None` if nothing tells them
    /// apart.
    pub(super) fn find(new: &[Answer], duplicate: &Answer) -> Option<Self> {
        if has_word(duplicate) && !new.iter().any(has_word) {
            return Some(Self::Word);
        }
        let (first, rest) = new.split_first()?;
        let (first, duplicate) = (Shape::of(first), Shape::of(duplicate));
        let all_alike = rest.iter().all(|answer| Shape::of(answer) == first);
        (all_alike && first != duplicate).then_some(Self::Answer { new: first, duplicate })
    }

    /// Returns the meaning of a success.
    pub(super) fn meaning(&self, answer: &Answer) -> Meaning {
        match self {
            Self::Word if has_word(answer) => Meaning::Duplicate,
            Self::Word => Meaning::New,
            Self::Answer { new, .. } if Shape::of(answer) == *new => Meaning::New,
            Self::Answer { duplicate, .. } if Shape::of(answer) == *duplicate => Meaning::Duplicate,
            Self::Answer { .. } => Meaning::Unclear,
        }
    }
}

fn has_word(answer: &Answer) -> bool {
    let body = answer.body.to_ascii_lowercase();
    WORDS.iter().any(|word| body.contains(word))
}

impl Shape {
    fn of(answer: &Answer) -> Self {
        let mut body = String::new();
        let is_word = |char: char| char.is_alphanumeric() || "-_.:+".contains(char);
        for part in answer.body.split_inclusive(|char| !is_word(char)) {
            let word = part.trim_end_matches(|char| !is_word(char));
            body.push_str(if word.contains(|char: char| char.is_ascii_digit()) { "#" } else { word });
            body.push_str(&part[word.len()..]);
        }
        Self { status: answer.status, body }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: StatusCode::OK, body: body.into(), time: Duration::ZERO }
    }

    #[test]
    fn finds_klikits_words() {
        let new = [answer(r#"{"status":"received"}"#), answer("anything")];
        let marks = Marks::find(&new, &answer(r#"{"status":"duplicate-ignored"}"#)).unwrap();
        assert_eq!(marks, Marks::Word);
        assert_eq!(marks.meaning(&answer("Already handled")), Meaning::Duplicate);
        assert_eq!(marks.meaning(&answer("ok")), Meaning::New);
    }

    #[test]
    fn compares_answers_without_ids_and_times() {
        let new = [
            answer(r#"{"order":7,"at":"2026-06-25T09:14:11Z","new":true}"#),
            answer(r#"{"order":8,"at":"2026-06-25T09:14:12Z","new":true}"#),
        ];
        let known = r#"{"order":7,"at":"2026-06-25T09:14:13Z","new":false}"#;
        let marks = Marks::find(&new, &answer(known)).unwrap();
        assert_eq!(marks.meaning(&new[1]), Meaning::New);
        assert_eq!(marks.meaning(&answer(known)), Meaning::Duplicate);
        assert_eq!(marks.meaning(&answer("busy")), Meaning::Unclear);
    }

    #[test]
    fn finds_nothing_in_equal_or_random_answers() {
        assert_eq!(Marks::find(&[answer("ok"), answer("ok")], &answer("ok")), None);
        assert_eq!(Marks::find(&[answer("one"), answer("two")], &answer("three")), None);
    }
}
