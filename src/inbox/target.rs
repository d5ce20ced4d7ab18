//! The method, path, query and content type of a request, with limits on their length.

use http::{header, request::Parts};

use crate::{direct_response::DirectResponse, whole_uri::whole_uri};

/// The longest path that is stored, in bytes. A longer one is rejected, because the path decides which handler is
/// called.
pub(super) const MAX_PATH: usize = 2048;

/// The longest query that is stored, in bytes. A longer one is left out.
pub(super) const MAX_QUERY: usize = 2048;

/// The longest method that is stored, in bytes. klikit's is `POST`.
const MAX_METHOD: usize = 32;

/// The longest content type that is stored, in bytes. A longer one loses its parameters.
const MAX_CONTENT_TYPE: usize = 255;

/// Parts of a request's head that are stored although klikit does not sign them.
///
/// Their length is limited, because anybody who has captured a delivery can send it again with other values, and
/// servers accept about 64 KiB of each.
pub(super) struct Target {
    pub(super) method: String,
    /// Path and query.
    pub(super) uri: String,
    pub(super) content_type: Option<String>,
    /// The length of a query that was left out.
    pub(super) left_out: Option<usize>,
}

impl Target {
    /// Returns the response if the delivery cannot be stored so that its handler is found again.
    pub(super) fn of(parts: &Parts) -> Result<Self, DirectResponse> {
        let method = parts.method.as_str();
        if method.len() > MAX_METHOD {
            return Err(DirectResponse::MethodTooLong);
        }
        // The path without the prefix of a nested router would have no route in the worker's router.
        let uri = whole_uri(&parts.uri, &parts.extensions);
        let path = uri.path();
        if path.len() > MAX_PATH {
            return Err(DirectResponse::PathTooLong);
        }
        let (stored, left_out) = match uri.query() {
            Some(query) if query.len() > MAX_QUERY => (path, Some(query.len())),
            _ => (uri.path_and_query().map_or("/", |uri| uri.as_str()), None),
        };
        Ok(Self { method: method.into(), uri: stored.into(), content_type: content_type(parts), left_out })
    }
}

fn content_type(parts: &Parts) -> Option<String> {
    let value = parts.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let essence = || value.split(';').next().map(str::trim_end).filter(|essence| essence.len() <= MAX_CONTENT_TYPE);
    if value.len() <= MAX_CONTENT_TYPE { Some(value.into()) } else { essence().map(Into::into) }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn target(method: &str, uri: &str, content_type: &str) -> Result<Target, DirectResponse> {
        let request = Request::builder().method(method).uri(uri).header(header::CONTENT_TYPE, content_type);
        Target::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn each_part_is_bounded() {
        let path = |len: usize| format!("/{}", "p".repeat(len - 1));
        for (path_len, query_len) in [(1, 1), (MAX_PATH, MAX_QUERY), (1, MAX_QUERY), (MAX_PATH, 0)] {
            let uri = format!("{}?{}", path(path_len), "q".repeat(query_len));
            let target = target("POST", &uri, "a/b").unwrap();
            assert_eq!((target.uri, target.left_out), (uri, None));
        }
        for query_len in [MAX_QUERY + 1, 60_000] {
            let target = target("POST", &format!("/a?{}", "q".repeat(query_len)), "a/b").unwrap();
            assert_eq!((&*target.uri, target.left_out), ("/a", Some(query_len)));
        }
        assert!(matches!(target("POST", &path(MAX_PATH + 1), "a/b"), Err(DirectResponse::PathTooLong)));
        assert_eq!(target(&"M".repeat(32), "/", "a/b").unwrap().method, "M".repeat(32));
        assert!(matches!(target(&"M".repeat(33), "/", "a/b"), Err(DirectResponse::MethodTooLong)));
        for (content_type, stored) in [
            (format!("a/b; c={}", "c".repeat(247)), Some(format!("a/b; c={}", "c".repeat(247)))),
            (format!("a/b ; c={}", "c".repeat(248)), Some("a/b".into())),
            (format!("a/{}", "b".repeat(254)), None),
        ] {
            assert_eq!(target("POST", "/", &content_type).unwrap().content_type, stored);
        }
    }
}
