//! Signed deliveries, as klikit sends them.

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::{
    event::{Delivery, EventId, EventType},
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
    keyring::{Keyring, Signer},
    secret::WebhookSecret,
};

/// A delivery as klikit sends it, signed when it is created.
///
/// By default, it is a `POST /webhooks/klikit` of `application/json` with the type `klikit.order.created.v2`. Its id
/// depends only on the secret and the body, so equal deliveries have equal ids. Every part can be changed, but the
/// signature stays the same: that is how to forge a delivery.
#[derive(Clone)]
pub struct SignedDelivery {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl SignedDelivery {
    /// Creates a delivery of `body`, signed with `secret`.
    ///
    /// # Panics
    ///
    /// If the secret is empty or blank.
    #[track_caller]
    pub fn new(secret: impl AsRef<[u8]>, body: impl Into<Bytes>) -> Self {
        let secret = WebhookSecret::new(secret).unwrap_or_else(|error| panic!("{error}"));
        Self::signed_with(&secret, body)
    }

    /// Creates a delivery of `body`, signed with an existing secret.
    pub fn signed_with(secret: &WebhookSecret, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let signature = secret.sign(&body).to_string();
        let delivery = Self { uri: Uri::from_static("/webhooks/klikit"), headers: HeaderMap::new(), body };
        delivery
            .header(header::CONTENT_TYPE, "application/json")
            .header(EVENT_ID, format!("test-{:.16}", signature))
            .header(EVENT_TYPE, EventType::OrderCreated.as_str())
            .header(SIGNATURE, signature)
    }

    /// Creates a delivery of `data` with a timestamped signature, which
    /// [`accept_timestamped`](crate::KlikitVerifyLayer::accept_timestamped) accepts. The body is an envelope that names
    /// the event.
    ///
    /// # Panics
    ///
    /// If the secret is empty or blank, or `data` is not JSON.
    #[cfg(feature = "payload")]
    #[track_caller]
    pub fn timestamped(
        secret: impl AsRef<[u8]>,
        signed_at: SystemTime,
        event_id: &str,
        event_type: impl Into<EventType>,
        data: &str,
    ) -> Self {
        let seconds = signed_at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let data: &serde_json::value::RawValue = serde_json::from_str(data).expect("the data is not JSON");
        let event_type = event_type.into();
        let text = |text: &str| serde_json::Value::from(text);
        let body = format!(
            r#"{{"event_id":{},"event_type":{},"event_version":"v2","created_at":"2026-05-01T00:00:00Z","business_id":737,"data":{data}}}"#,
            text(event_id),
            text(event_type.as_str()),
        );
        let secret = WebhookSecret::new(secret).unwrap_or_else(|error| panic!("{error}"));
        let signature = secret.sign(format!("{seconds}.{body}").as_bytes());
        Self::signed_with(&secret, body)
            .event_id(event_id)
            .without_header(&EVENT_TYPE)
            .header(HeaderName::from_static("x-klikit-event"), event_type.as_str())
            .header(HeaderName::from_static("x-klikit-webhook-id"), "1")
            .header(SIGNATURE, format!("t={seconds},v1={signature}"))
    }

    /// Sets the URI.
    ///
    /// # Panics
    ///
    /// If `uri` is invalid.
    #[must_use]
    #[track_caller]
    pub fn uri(mut self, uri: &str) -> Self {
        self.uri = uri.parse().expect("the URI is invalid");
        self
    }

    /// Sets the event id. It need not be valid, so that tests can send invalid ids.
    ///
    /// # Panics
    ///
    /// If `id` contains bytes that a header cannot hold.
    #[must_use]
    #[track_caller]
    pub fn event_id(self, id: impl AsRef<[u8]>) -> Self {
        self.header(EVENT_ID, id)
    }

    /// Sets the event type.
    ///
    /// # Panics
    ///
    /// If the type contains bytes that a header cannot hold.
    #[must_use]
    #[track_caller]
    pub fn event_type(self, event_type: impl Into<EventType>) -> Self {
        self.header(EVENT_TYPE, event_type.into().as_str())
    }

    /// Sets a header, and replaces existing values.
    ///
    /// # Panics
    ///
    /// If `value` contains bytes that a header cannot hold.
    #[must_use]
    #[track_caller]
    pub fn header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        self.headers.insert(name, header_value(value.as_ref()));
        self
    }

    /// Adds a header, and keeps existing values.
    ///
    /// # Panics
    ///
    /// If `value` contains bytes that a header cannot hold.
    #[must_use]
    #[track_caller]
    pub fn added_header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(name, header_value(value.as_ref()));
        self
    }

    /// Removes a header.
    #[must_use]
    pub fn without_header(mut self, name: &HeaderName) -> Self {
        self.headers.remove(name);
        self
    }

    /// Flips one bit of the body, or adds one byte to an empty body. The signature stays the same and no longer
    /// matches.
    #[must_use]
    pub fn altered(mut self) -> Self {
        let mut body = self.body.to_vec();
        match body.last_mut() {
            Some(byte) => *byte ^= 1,
            None => body.push(b' '),
        }
        self.body = body.into();
        self
    }

    /// Returns the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Builds the request, with a `Content-Length`.
    pub fn request<B: From<Bytes>>(&self) -> Request<B> {
        let mut request = self.request_with(B::from);
        request.headers_mut().insert(header::CONTENT_LENGTH, self.body.len().into());
        request
    }

    /// Builds the request with a body of any type and without a `Content-Length`, for bodies that arrive in many
    /// frames, arrive slowly, or fail.
    pub fn request_with<B>(&self, body: impl FnOnce(Bytes) -> B) -> Request<B> {
        let mut request = Request::new(body(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Builds the metadata that [`KlikitVerify`](crate::KlikitVerify) inserts into the extensions of this request, for
    /// tests that call a handler without the layer.
    ///
    /// The signature is not verified and may be wrong.
    ///
    /// # Panics
    ///
    /// If the layer would reject the event id.
    #[track_caller]
    pub fn to_delivery(&self) -> Delivery {
        let field = |name| self.headers.get(name).map(HeaderValue::as_bytes);
        Delivery {
            event_id: field(EVENT_ID)
                .map(|id| EventId::parse(id).expect("the id does not have 1 to 255 visible ASCII characters")),
            event_type: field(EVENT_TYPE).and_then(EventType::parse).filter(|_| self.has_one(&EVENT_TYPE)),
            signer: Arc::new(Signer { tenant: Keyring::DEFAULT.into(), secret_id: Keyring::DEFAULT.into() }),
            received_at: SystemTime::now(),
            signed_at: None,
            is_copy: false,
        }
    }

    fn has_one(&self, name: &HeaderName) -> bool {
        self.headers.get_all(name).iter().count() == 1
    }

    /// Returns a command line for a POSIX shell that sends this delivery to `url` with curl.
    ///
    /// The command contains the body. Do not print it if the body holds customers' data.
    pub fn curl(&self, url: &str) -> String {
        let mut line = format!("curl -i {}", quoted(url));
        for (name, value) in &self.headers {
            // curl removes a header that is given as `x:`, and sends an empty one for `x;`.
            let field = if value.is_empty() {
                format!("{name};")
            } else {
                format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
            };
            line.push_str(&format!(" -H {}", quoted(&field)));
        }
        match str::from_utf8(&self.body) {
            Ok(text) if !text.contains('\0') && text.len() < MAX_ARGUMENT => {
                format!("{line} --data-raw {}", quoted(text))
            }
            // An argument cannot hold this body, so pass it through a pipe.
            _ => {
                let octal: String = self.body.iter().map(|byte| format!("\\{byte:03o}")).collect();
                format!("printf '{octal}' | {line} --data-binary @-")
            }
        }
    }
}

impl fmt::Debug for SignedDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.headers.get(EVENT_ID);
        f.debug_struct("SignedDelivery").field("event_id", &id).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// The longest body that becomes an argument, in bytes. Linux allows 128 KiB for one argument, including quotes.
const MAX_ARGUMENT: usize = 100_000;

#[track_caller]
fn header_value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("a header cannot hold this value")
}

/// Quotes a text for a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// Runs the command in a shell, and returns its output. A stand-in for curl prints its arguments, and its input if
    /// the last argument is `@-`.
    fn run_in_shell(delivery: &SignedDelivery) -> Vec<u8> {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = temporary.path();
        let curl = folder.join("curl");
        let stand_in = "#!/bin/sh\nfor last; do printf '%s\\n' \"$last\"; done\n[ \"$last\" != @- ] || cat\n";
        fs::write(&curl, stand_in).expect("the stand-in is written");
        let script = format!(
            "chmod +x '{0}/curl'; PATH='{0}':$PATH; {1}\n",
            folder.display(),
            delivery.curl("http://127.0.0.1:8080/webhooks/klikit")
        );
        let script_file = folder.join("script");
        fs::write(&script_file, &script).expect("the script is written");
        let output = Command::new("sh").arg(&script_file).output().expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn shell_passes_delivery_to_curl() {
        let large = vec![b'o'; 200_000];
        let bodies: [&[u8]; 7] = [
            b"",
            b"{}",
            b"it's \"quoted\" \\n $HOME `id`\n",
            "Phở — ขอบคุณ".as_bytes(),
            b"@file",
            b"\0\xff%d\n",
            &large,
        ];
        for body in bodies {
            let delivery = SignedDelivery::new("secret", Bytes::copy_from_slice(body)).event_id("");
            let printed = run_in_shell(&delivery);
            let printed = printed.strip_suffix(b"\n").filter(|_| !printed.ends_with(body)).unwrap_or(&printed);
            assert!(printed.ends_with(body), "{:.99}", String::from_utf8_lossy(body));
            let arguments = String::from_utf8_lossy(printed);
            assert!(arguments.contains("\nx-klikit-event-id;\n"), "{arguments:.999}");
            assert!(
                arguments
                    .contains(&format!("\nx-klikit-signature: {}\n", delivery.headers[SIGNATURE].to_str().unwrap()))
            );
        }
    }

    #[test]
    fn altered_changes_only_the_body() {
        for body in ["", "{}"] {
            let delivery = SignedDelivery::new("secret", body);
            let altered = delivery.clone().altered();
            assert_eq!(altered.headers, delivery.headers);
            assert_ne!(altered.body, delivery.body);
        }
    }

    #[test]
    fn equal_deliveries_have_equal_ids() {
        let id = |secret: &str, body: &'static str| SignedDelivery::new(secret, body).headers[EVENT_ID].clone();
        assert_eq!(id("a", "{}"), id("a", "{}"));
        assert_ne!(id("a", "{}"), id("a", "[]"));
    }
}
