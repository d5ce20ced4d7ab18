//! A delivery as klikit would send it.

use std::{fmt, sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use crate::{
    event::{Delivery, EventId, EventType},
    header::{EVENT_ID, EVENT_TYPE, SIGNATURE},
    keyring::{Keyring, Signer},
    secret::WebhookSecret,
};

/// A delivery as klikit would send it, signed when it is made.
///
/// `POST /webhooks/klikit`, `application/json`, type `klikit.order.created.v2`, and an id that depends on the secret and the
/// body alone, so that making the same delivery again gives the same id. Everything can be changed, and the signature stays
/// what it was: that is how a forged delivery is made.
#[derive(Clone)]
pub struct SignedDelivery {
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl SignedDelivery {
    /// Signs `body` with `secret`.
    ///
    /// # Panics
    ///
    /// When the secret is empty or blank.
    #[track_caller]
    pub fn new(secret: impl AsRef<[u8]>, body: impl Into<Bytes>) -> Self {
        let secret = WebhookSecret::new(secret).unwrap_or_else(|error| panic!("{error}"));
        Self::signed_with(&secret, body)
    }

    /// Signs `body` with a secret that was parsed already.
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

    /// Signs `data` in the older form, which [`accept_timestamped`](crate::KlikitVerifyLayer::accept_timestamped) lets in: with a
    /// time, and in an envelope that names the event.
    ///
    /// # Panics
    ///
    /// When the secret is empty or blank, or `data` is no JSON.
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
        let data: &serde_json::value::RawValue = serde_json::from_str(data).expect("data in JSON");
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

    /// Sends it to this URI.
    ///
    /// # Panics
    ///
    /// When `uri` is none.
    #[must_use]
    #[track_caller]
    pub fn uri(mut self, uri: &str) -> Self {
        self.uri = uri.parse().expect("a URI");
        self
    }

    /// Gives it this id.
    ///
    /// # Panics
    ///
    /// When `id` has bytes that no header can hold. An id that klikit would not send is fine: this is how to test one.
    #[must_use]
    #[track_caller]
    pub fn event_id(self, id: impl AsRef<[u8]>) -> Self {
        self.header(EVENT_ID, id)
    }

    /// Gives it this type.
    ///
    /// # Panics
    ///
    /// When the type has bytes that no header can hold.
    #[must_use]
    #[track_caller]
    pub fn event_type(self, event_type: impl Into<EventType>) -> Self {
        self.header(EVENT_TYPE, event_type.into().as_str())
    }

    /// Sets a header, in place of what it was.
    ///
    /// # Panics
    ///
    /// When `value` has bytes that no header can hold.
    #[must_use]
    #[track_caller]
    pub fn header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        self.headers.insert(name, header_value(value.as_ref()));
        self
    }

    /// Adds a header beside those of the same name.
    ///
    /// # Panics
    ///
    /// When `value` has bytes that no header can hold.
    #[must_use]
    #[track_caller]
    pub fn added_header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        self.headers.append(name, header_value(value.as_ref()));
        self
    }

    /// Leaves a header out.
    #[must_use]
    pub fn without_header(mut self, name: &HeaderName) -> Self {
        self.headers.remove(name);
        self
    }

    /// Its twin with one bit of the body changed, or one byte added to an empty body, under the same signature.
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

    /// The bytes of the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The request, with a `Content-Length`.
    pub fn request<B: From<Bytes>>(&self) -> Request<B> {
        let mut request = self.request_with(B::from);
        request.headers_mut().insert(header::CONTENT_LENGTH, self.body.len().into());
        request
    }

    /// The request with a body of any type, and no `Content-Length`: for bodies that come in many frames, slowly, or fail.
    pub fn request_with<B>(&self, body: impl FnOnce(Bytes) -> B) -> Request<B> {
        let mut request = Request::new(body(self.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// What a handler behind [`KlikitVerify`](crate::KlikitVerify) finds in the extensions of this request, for calling a
    /// handler by itself.
    ///
    /// Nothing is verified here: the signature may be wrong.
    ///
    /// # Panics
    ///
    /// When the delivery has an id that the layer would refuse.
    #[track_caller]
    pub fn to_delivery(&self) -> Delivery {
        let field = |name| self.headers.get(name).map(HeaderValue::as_bytes);
        Delivery {
            event_id: field(EVENT_ID).map(|id| EventId::parse(id).expect("an id of 1 to 255 visible ASCII characters")),
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

    /// A line for a POSIX shell that sends this delivery to `url` with curl.
    ///
    /// The line holds the body: do not print one that holds customers' data.
    pub fn curl(&self, url: &str) -> String {
        let mut line = format!("curl -i {}", quoted(url));
        for (name, value) in &self.headers {
            // By `x:`, curl would leave the header out.
            let field = if value.is_empty() {
                format!("{name};")
            } else {
                format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
            };
            line.push_str(&format!(" -H {}", quoted(&field)));
        }
        match str::from_utf8(&self.body) {
            Ok(text) if !text.contains('\0') && text.len() < LONGEST_ARGUMENT => {
                format!("{line} --data-raw {}", quoted(text))
            }
            // No argument of a command can hold this.
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

/// Below what Linux allows for one argument, with room for quotes.
const LONGEST_ARGUMENT: usize = 100_000;

#[track_caller]
fn header_value(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(bytes).expect("bytes that a header can hold")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::*;

    /// Has a real shell run the line, with a program in place of curl that prints its arguments, and what it reads if the last
    /// one asks for that.
    fn by_shell(delivery: &SignedDelivery) -> Vec<u8> {
        let temporary = tempfile::tempdir().expect("a folder for the stand-in");
        let folder = temporary.path();
        let curl = folder.join("curl");
        let stand_in = "#!/bin/sh\nfor last; do printf '%s\\n' \"$last\"; done\n[ \"$last\" != @- ] || cat\n";
        fs::write(&curl, stand_in).expect("the stand-in");
        let script = format!(
            "chmod +x '{0}/curl'; PATH='{0}':$PATH; {1}\n",
            folder.display(),
            delivery.curl("http://127.0.0.1:8080/webhooks/klikit")
        );
        let script_file = folder.join("script");
        fs::write(&script_file, &script).expect("the script");
        let output = Command::new("sh").arg(&script_file).output().expect("sh runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    #[test]
    fn a_shell_hands_curl_the_delivery() {
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
            let printed = by_shell(&delivery);
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
    fn the_altered_twin_keeps_everything_but_the_body() {
        for body in ["", "{}"] {
            let delivery = SignedDelivery::new("secret", body);
            let altered = delivery.clone().altered();
            assert_eq!(altered.headers, delivery.headers);
            assert_ne!(altered.body, delivery.body);
        }
    }

    #[test]
    fn the_same_delivery_has_the_same_id() {
        let id = |secret: &str, body: &'static str| SignedDelivery::new(secret, body).headers[EVENT_ID].clone();
        assert_eq!(id("a", "{}"), id("a", "{}"));
        assert_ne!(id("a", "{}"), id("a", "[]"));
    }
}
