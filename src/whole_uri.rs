use http::{Extensions, Uri};

/// Returns the URI that the client sent. axum's `Router::nest` strips a prefix from the request's `uri` and keeps the
/// whole in the `extensions`.
#[cfg_attr(not(feature = "axum"), allow(unused_variables, reason = "only axum has another URI"))]
pub(crate) fn whole_uri<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a Uri {
    #[cfg(feature = "axum")]
    if let Some(::axum::extract::OriginalUri(whole)) = extensions.get() {
        return whole;
    }
    uri
}
