use std::fmt;

/// The reason why a delivery does not verify.
///
/// `Display` is a sentence that contains no data of the delivery. Some of these causes are also on the troubleshooting page of
/// klikit's developer documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// No fault: the delivery verifies.
    Verifies,
    /// There is no signature header.
    SignatureMissing,
    /// There is more than one signature.
    SignatureRepeated,
    /// The signature is base64 instead of hex.
    SignatureBase64,
    /// The signature has a prefix such as `sha256=`.
    SignaturePrefixed,
    /// The signature consists of the first digits of the right signature, at least 16.
    SignatureTruncated,
    /// The signature is a timestamped signature, `t=<seconds>,v1=<hex>`, and the receiver does not accept those.
    SignatureTimestamped,
    /// The signature is a malformed timestamped signature: white space, another order of its parts, additional parts, or a time
    /// that is not in seconds. No layer accepts it.
    SignatureTimestampMalformed,
    /// The time of a timestamped signature differs from the receiver's clock by more than the tolerance. Only a layer reports
    /// this: [`diagnose`](super::diagnose()) has no clock.
    SignatureStale,
    /// The body begins with a time and a dot, which belong in the header of a timestamped signature. Somebody moved them, so that
    /// the receiver does not check the time. A fault only for a receiver that accepts timestamped signatures.
    TimestampInBody,
    /// The signature verifies and has upper-case digits. This crate accepts both cases; other receivers may not.
    SignatureUpperCase,
    /// The signature has quotes or white space around it.
    SignaturePadded,
    /// The signature is not 64 hex digits, and has none of the faults above.
    SignatureMalformed,
    /// The signature is a digest that needs no secret: plain SHA-256 of the body, or HMAC with an empty key. Anyone can send it.
    SignedWithoutSecret,
    /// The signature is plain SHA-256 of secret and body, or of body and secret, instead of HMAC.
    SignedWithoutHmac,
    /// There is no event id. If the certainty is [`Proven`](Certainty::Proven), the signature itself matches.
    EventIdMissing,
    /// There is more than one event id. If the certainty is [`Proven`](Certainty::Proven), the signature itself matches.
    EventIdRepeated,
    /// The event id is not 1 to 255 visible ASCII characters.
    EventIdMalformed,
    /// The configured secret has white space at its start or end that the right secret does not have, or the reverse.
    SecretWhiteSpace,
    /// The configured secret begins with a byte order mark and the right secret does not, or the reverse.
    SecretByteOrderMark,
    /// The configured secret has quotes around it or at one end that the right secret does not have, or the reverse.
    SecretQuoted,
    /// The configured secret ends in the two characters `\n`, which stand for a line feed, and the right secret does not, or the
    /// reverse.
    SecretEscaped,
    /// The configured secret is a whole line, such as `NAME=secret`.
    SecretLine,
    /// The configured secret is the hex, base64 or URL encoding of the right secret.
    SecretEncoded,
    /// The right secret is the hex, base64 or URL encoding of the configured secret.
    SecretDecoded,
    /// The right secret is one of the candidates, such as the partner API's secret.
    OtherSecret,
    /// The body is JSON that was rewritten, usually parsed and encoded again. White space, the order of keys, or escapes changed.
    BodyReencoded,
    /// A newline was added to the end of the body, or removed.
    BodyFinalNewline,
    /// A byte order mark was added to the body, or removed.
    BodyByteOrderMark,
    /// The body's line feeds were changed to CRLF, or the reverse.
    BodyLineEndings,
    /// The body is empty.
    BodyEmpty,
    /// The body is shorter than its `Content-Length`.
    BodyShorter,
    /// The body ended early, or was not complete before its deadline.
    BodyIncomplete,
    /// The body is longer than its `Content-Length`.
    BodyLonger,
    /// The body is compressed.
    BodyCompressed,
    /// The body is not compressed, although its `Content-Encoding` names a compression.
    BodyDecompressed,
    /// A gateway wrapped the whole body in another encoding, such as base64.
    BodyWrapped,
    /// The body is Latin-1 (or windows-1252) and was signed as UTF-8.
    BodyLatin1,
    /// The body was encoded as UTF-8 twice.
    BodyEncodedTwice,
    /// No cause was found. A forgery that shows no fault has this cause, and so has a delivery with a fault that cannot be undone.
    Unknown,
}

impl Cause {
    /// Returns a name for logs and alerts, in `snake_case`. Names are stable.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verifies => "verifies",
            Self::SignatureMissing => "signature_missing",
            Self::SignatureRepeated => "signature_repeated",
            Self::SignatureBase64 => "signature_base64",
            Self::SignaturePrefixed => "signature_prefixed",
            Self::SignatureTruncated => "signature_truncated",
            Self::SignatureTimestamped => "signature_timestamped",
            Self::SignatureTimestampMalformed => "signature_timestamp_malformed",
            Self::SignatureStale => "signature_stale",
            Self::TimestampInBody => "timestamp_in_body",
            Self::SignatureUpperCase => "signature_upper_case",
            Self::SignaturePadded => "signature_padded",
            Self::SignatureMalformed => "signature_malformed",
            Self::SignedWithoutSecret => "signed_without_secret",
            Self::SignedWithoutHmac => "signed_without_hmac",
            Self::EventIdMissing => "event_id_missing",
            Self::EventIdRepeated => "event_id_repeated",
            Self::EventIdMalformed => "event_id_malformed",
            Self::SecretWhiteSpace => "secret_white_space",
            Self::SecretByteOrderMark => "secret_byte_order_mark",
            Self::SecretQuoted => "secret_quoted",
            Self::SecretEscaped => "secret_escaped",
            Self::SecretLine => "secret_line",
            Self::SecretEncoded => "secret_encoded",
            Self::SecretDecoded => "secret_decoded",
            Self::OtherSecret => "other_secret",
            Self::BodyReencoded => "body_reencoded",
            Self::BodyFinalNewline => "body_final_newline",
            Self::BodyByteOrderMark => "body_byte_order_mark",
            Self::BodyLineEndings => "body_line_endings",
            Self::BodyEmpty => "body_empty",
            Self::BodyShorter => "body_shorter",
            Self::BodyIncomplete => "body_incomplete",
            Self::BodyLonger => "body_longer",
            Self::BodyCompressed => "body_compressed",
            Self::BodyDecompressed => "body_decompressed",
            Self::BodyWrapped => "body_wrapped",
            Self::BodyLatin1 => "body_latin1",
            Self::BodyEncodedTwice => "body_encoded_twice",
            Self::Unknown => "unknown",
        }
    }

    /// Returns the text of `Display`.
    fn sentence(self) -> &'static str {
        match self {
            Self::Verifies => "the delivery verifies",
            Self::SignatureMissing => "there is no x-klikit-signature header",
            Self::SignatureRepeated => "there is more than one x-klikit-signature",
            Self::SignatureBase64 => "the signature is base64, not hex",
            Self::SignaturePrefixed => "the signature has a prefix",
            Self::SignatureTruncated => "the signature is truncated",
            Self::SignatureTimestamped => {
                "the signature is a timestamped signature, which this receiver does not accept"
            }
            Self::SignatureTimestampMalformed => "the signature is a malformed timestamped signature",
            Self::SignatureStale => "the signature's time is too far from this machine's clock",
            Self::TimestampInBody => "the body begins with a time that belongs in the signature header",
            Self::SignatureUpperCase => "the signature verifies and has upper-case digits",
            Self::SignaturePadded => "the signature has quotes or white space around it",
            Self::SignatureMalformed => "the signature is not 64 hex digits",
            Self::SignedWithoutSecret => "the body was signed without a secret",
            Self::SignedWithoutHmac => "the body was signed with plain SHA-256 of secret and body, not with HMAC",
            Self::EventIdMissing => "there is no x-klikit-event-id header",
            Self::EventIdRepeated => "there is more than one x-klikit-event-id",
            Self::EventIdMalformed => "the event id is not 1 to 255 visible ASCII characters",
            Self::SecretWhiteSpace => {
                "the configured secret differs from the right one by white space at its start or end"
            }
            Self::SecretByteOrderMark => "the configured secret differs from the right one by a byte order mark",
            Self::SecretQuoted => "the configured secret differs from the right one by quotes",
            Self::SecretEscaped => {
                r"the configured secret differs from the right one by the two characters `\n` at its end"
            }
            Self::SecretLine => "the configured secret is a whole line NAME=secret",
            Self::SecretEncoded => "the configured secret is an encoding of the right one",
            Self::SecretDecoded => "the right secret is an encoding of the configured one",
            Self::OtherSecret => "the body was signed with another secret",
            Self::BodyReencoded => "the body's JSON was rewritten, for example parsed and encoded again",
            Self::BodyFinalNewline => "the body's final newline was changed",
            Self::BodyByteOrderMark => "the body's byte order mark was changed",
            Self::BodyLineEndings => "the body's line endings were changed",
            Self::BodyEmpty => "the body is empty",
            Self::BodyShorter => "the body is shorter than its Content-Length",
            Self::BodyIncomplete => "the body is incomplete",
            Self::BodyLonger => "the body is longer than its Content-Length",
            Self::BodyCompressed => "the body is compressed",
            Self::BodyDecompressed => "the body is not compressed, although its Content-Encoding names a compression",
            Self::BodyWrapped => "the whole body was wrapped in another encoding",
            Self::BodyLatin1 => "the body is Latin-1 and was signed as UTF-8",
            Self::BodyEncodedTwice => "the body was encoded as UTF-8 twice",
            Self::Unknown => "no cause was found",
        }
    }

    /// Returns advice on how to fix the cause, for a person to read. The wording may change.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Verifies => "no action is needed",
            Self::SignatureMissing => {
                "let the x-klikit-* headers through: check nginx, Cloudflare's rules, and the API gateway's list of allowed headers"
            }
            Self::SignatureRepeated => "make every proxy forward the header once and add none",
            Self::SignatureBase64 => "make the sender write the signature as 64 hex digits",
            Self::SignaturePrefixed => "make the sender, or the proxy that adds the prefix, leave it out",
            Self::SignatureTruncated => "find what truncates the header: the signature is 64 hex digits",
            Self::SignatureTimestamped => {
                "accept timestamped signatures too, with KlikitVerifyLayer::accept_timestamped"
            }
            Self::SignatureTimestampMalformed => {
                "make the sender, or the proxy that changes the header, write `t=<seconds since 1970>,v1=<64 hex digits>` and nothing \
                 else: KlikitVerifyLayer::accept_timestamped accepts only that"
            }
            Self::SignatureStale => {
                "set this machine's clock with NTP; if the clock is right, an old delivery was sent again, or the tolerance in \
                 KlikitVerifyLayer::accept_timestamped is too short"
            }
            Self::TimestampInBody => {
                "never accept it: somebody captured a delivery with a timestamped signature and sends it with a plain signature, which \
                 has no time limit"
            }
            Self::SignatureUpperCase => {
                "no action is needed; a receiver that compares text must convert the digits to lower case first"
            }
            Self::SignaturePadded => {
                "find what adds quotes or white space to the header, and make it forward the value unchanged"
            }
            Self::SignatureMalformed => {
                "find what changes the header: klikit sends 64 lower-case hex digits and nothing else"
            }
            Self::SignedWithoutSecret => {
                "never accept it, because anyone can send it; if it is your own test, sign with HMAC-SHA256 and the webhook secret"
            }
            Self::SignedWithoutHmac => "make the sender use HMAC-SHA256 (RFC 2104), as klikit does",
            Self::EventIdMissing => {
                "make every proxy forward x-klikit-event-id; if klikit sends none, use KlikitVerifyLayer::allow_missing_event_id"
            }
            Self::EventIdRepeated => "make every proxy forward x-klikit-event-id once and add none",
            Self::EventIdMalformed => "find what changes x-klikit-event-id on the way",
            Self::SecretWhiteSpace => {
                "configure the exact bytes that klikit signs with: `printf %s` writes no newline, and `echo` writes one"
            }
            Self::SecretByteOrderMark => {
                "configure the exact bytes that klikit signs with: some editors put a byte order mark at the start of a file"
            }
            Self::SecretQuoted => {
                "configure the exact bytes that klikit signs with: Docker's --env-file keeps quotes, and shells remove them"
            }
            Self::SecretEscaped => {
                r"configure the exact bytes that klikit signs with: this crate does not turn `\n` into a line feed"
            }
            Self::SecretLine => "configure only the part after the name",
            Self::SecretEncoded => {
                "configure the secret itself: this crate decodes nothing; a Kubernetes secret's `data` is base64, and a secret in a URL \
                 has its special characters escaped"
            }
            Self::SecretDecoded => {
                "configure the text that klikit shows: klikit signs with its bytes and does not decode it"
            }
            Self::OtherSecret => {
                "find out who signs with this secret. If it is klikit and the secret is being rotated, accept both secrets until no more \
                 deliveries are signed with the old one: set the new secret in KLIKIT_WEBHOOK_SECRET and the old one in \
                 KLIKIT_WEBHOOK_SECRET_OLD, or call Keyring::add. If it is another secret of klikit's, make klikit sign with the webhook \
                 secret, which is not the partner API's secret_key. Never restore a secret that was withdrawn"
            }
            Self::BodyReencoded => {
                "verify the bytes as received: put KlikitVerifyLayer outside of any layer that reads JSON, and stop proxies from \
                 rewriting it"
            }
            Self::BodyFinalNewline => {
                "verify the bytes as received; to replay a saved body, use `curl --data-binary`, and `printf %s` instead of `echo`"
            }
            Self::BodyByteOrderMark => {
                "verify the bytes as received; some editors put a byte order mark at the start of a saved body"
            }
            Self::BodyLineEndings => {
                "verify the bytes as received; do not let editors, git or text-mode files change a saved body"
            }
            Self::BodyEmpty => {
                "put KlikitVerifyLayer outside of any layer that reads the body; check for a proxy that sends no body, as nginx does with \
                 proxy_pass_request_body or proxy_set_body"
            }
            Self::BodyShorter => "find what reads the body first, or the proxy or buffer that truncates it",
            Self::BodyIncomplete => {
                "check the network, and check for a proxy that announces a body and sends none, as nginx does with \
                 proxy_pass_request_body"
            }
            Self::BodyLonger => "find what rewrites the body before KlikitVerifyLayer sees it",
            Self::BodyCompressed => "make sure that no proxy compresses requests: klikit signs the uncompressed bytes",
            Self::BodyDecompressed => {
                "put KlikitVerifyLayer outside of the layer that decompresses the body and leaves its Content-Encoding"
            }
            Self::BodyWrapped => {
                "make the gateway forward the body unchanged: AWS API Gateway does so if none of its binary media types covers \
                 application/json. Otherwise decode the body before KlikitVerifyLayer, for example if `isBase64Encoded` is true"
            }
            Self::BodyLatin1 => "make sure that no proxy changes the body's character set: klikit signs UTF-8",
            Self::BodyEncodedTwice => "make sure that no proxy reads the UTF-8 body as Latin-1 and encodes it again",
            Self::Unknown => {
                "a wrong secret, a changed body and a forgery look the same: compare the secret and the body with klikit's, or add \
                 other secrets that klikit may have used as candidates"
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.sentence())
    }
}

/// The certainty of a [`Diagnosis`](super::Diagnosis).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Certainty {
    /// The signature matches once the fault is undone. The signer held the secret that matched. If the fault is in the secret, that
    /// is not the configured secret.
    Proven,
    /// The request itself shows the fault. Anyone could have sent that request, and other faults are possible.
    Shown,
    /// No cause was found.
    Unknown,
}

impl Certainty {
    /// Returns a name for logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Shown => "shown",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
