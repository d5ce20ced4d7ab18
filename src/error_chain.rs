//! The text of an error with its sources, for logs and for `Debug`.

use std::{
    error::Error,
    fmt::{self, Write},
};

use crate::visible::Escaped;

/// An error and its sources as one line: `error: source: source`.
///
/// A source is left out if an earlier text contains its text. Hidden characters and line ends are escaped, because
/// sources may quote a server, a sender or a file.
///
/// ```
/// use std::io::{Error, ErrorKind};
/// use tower_klikit::ErrorChain;
/// # #[cfg(feature = "dedupe")] {
/// use tower_klikit::dedupe::StoreError;
///
/// let error = StoreError::new(Error::new(ErrorKind::Other, "disk\non fire"));
/// assert_eq!(ErrorChain::new(&error).to_string(), r"the store call failed: disk\non fire");
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(&'a (dyn Error + 'static));

impl<'a> ErrorChain<'a> {
    /// Wraps an error, so that it can be displayed with its sources.
    pub fn new(error: &'a (dyn Error + 'static)) -> Self {
        Self(error)
    }
}

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let added = error.to_string();
            if !text.contains(&added) {
                write!(text, ": {added}")?;
            }
            source = error.source();
        }
        fmt::Display::fmt(&Escaped(text), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layered(&'static str, Option<Box<Self>>);

    impl fmt::Display for Layered {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layered {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|source| source as _)
        }
    }

    fn chain(texts: &[&'static str]) -> String {
        let error = texts.iter().rev().fold(None, |source, text| Some(Box::new(Layered(text, source))));
        ErrorChain::new(&*error.expect("there are texts")).to_string()
    }

    #[test]
    fn shows_each_text_once() {
        assert_eq!(chain(&["cannot open"]), "cannot open");
        assert_eq!(chain(&["cannot open", "no such file", "code 2"]), "cannot open: no such file: code 2");
        assert_eq!(
            chain(&["cannot open: no such file", "no such file", "code 2"]),
            "cannot open: no such file: code 2"
        );
    }

    #[test]
    fn escapes_hidden_characters_of_sources() {
        assert_eq!(chain(&["failed", "a\nb\u{202e}"]), r"failed: a\nb\u{202e}");
    }
}
