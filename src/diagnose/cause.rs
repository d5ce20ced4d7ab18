use std::fmt;

/// Why a delivery does not verify.
///
/// `Display` is a sentence that holds nothing of the delivery. What a cause looks like in klikit's own words is on the
/// troubleshooting page of its developer documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Nothing is wrong: it verifies.
    Verifies,
    /// There is no signature header.
    SignatureMissing,
    /// There is more than one signature.
    SignatureRepeated,
    /// The signature is in base64 in place of hex.
    SignatureBase64,
    /// The signature has a prefix such as `sha256=`.
    SignaturePrefixed,
    /// The signature is the beginning of the right one. Never named by less than 16 digits.
    SignatureTruncated,
    /// The signature has klikit's older form, `t=<seconds>,v1=<hex>`.
    SignatureTimestamped,
    /// The signature has nearly klikit's older form: white space in it, another order, further parts, or a time that is none in
    /// seconds. No layer accepts that.
    SignatureTimestampMalformed,
    /// The time in the older form is further away from the receiver's clock than it accepts. Named by a layer alone:
    /// [`diagnose`](super::diagnose()) has no clock.
    SignatureStale,
    /// The body begins with a time and a dot, which belong into the header of klikit's older form: somebody has moved them, so that
    /// nobody checks the time. A fault only where that form is accepted.
    TimestampInBody,
    /// The signature has upper-case digits, and verifies: this crate takes either case, others may not.
    SignatureUpperCase,
    /// The signature has quotes or white space around it.
    SignaturePadded,
    /// The signature header is none of the forms above, nor 64 hex digits.
    SignatureMalformed,
    /// The signature is a digest that takes no secret: plain SHA-256 of the body, or HMAC with an empty key. Anyone can send it.
    SignedWithoutSecret,
    /// The signature is plain SHA-256 of secret and body, or of body and secret, in place of HMAC.
    SignedWithoutHmac,
    /// There is no event id. Proven: the signature verifies.
    EventIdMissing,
    /// There is more than one event id. Proven: the signature verifies.
    EventIdRepeated,
    /// The event id is not 1 to 255 visible ASCII characters.
    EventIdMalformed,
    /// The configured secret has white space at an end that the right one has not, or lacks some.
    SecretWhiteSpace,
    /// The configured secret begins with a byte order mark and the right one does not, or the other way round.
    SecretByteOrderMark,
    /// The configured secret has quotes, around it or at one end, that the right one has not, or lacks them.
    SecretQuoted,
    /// The configured secret ends in the two characters `\n`, which stand for a line feed, and the right one does not, or the
    /// other way round.
    SecretEscaped,
    /// The configured secret is a whole line, such as `NAME=secret`.
    SecretLine,
    /// The configured secret is the hex or base64 text of the right one, or was escaped for a URL.
    SecretEncoded,
    /// The right secret is the hex or base64 text of the configured one, or that one escaped for a URL.
    SecretDecoded,
    /// The right secret is another one that was offered, such as the partner API's.
    OtherSecret,
    /// The body is JSON that was written anew, as by parsing it and encoding it again: white space, the order of keys, or escapes
    /// were changed.
    BodyReencoded,
    /// A newline was added to the body's end, or removed from it.
    BodyFinalNewline,
    /// A byte order mark was added to the body, or removed from it.
    BodyByteOrderMark,
    /// The body's line feeds were turned into CRLF, or the other way round.
    BodyLineEndings,
    /// The body is empty.
    BodyEmpty,
    /// The body is shorter than its `Content-Length`.
    BodyShorter,
    /// The body broke off, or had not come whole within its deadline.
    BodyIncomplete,
    /// The body is longer than its `Content-Length`.
    BodyLonger,
    /// The body is compressed.
    BodyCompressed,
    /// The body is not compressed and its `Content-Encoding` says that it is.
    BodyDecompressed,
    /// The body was wrapped as a whole in another encoding, such as base64, by a gateway.
    BodyWrapped,
    /// The body is Latin-1 (or windows-1252), and was signed as UTF-8.
    BodyLatin1,
    /// The body was encoded in UTF-8 twice.
    BodyEncodedTwice,
    /// Nothing was found. Every well-formed forgery ends here, and so does much else.
    Unknown,
}

impl Cause {
    /// A name for logs and alerts, in `snake_case`. It stays as it is: further causes get names of their own.
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

    fn sentence(self) -> &'static str {
        match self {
            Self::Verifies => "the delivery verifies",
            Self::SignatureMissing => "there is no x-klikit-signature header",
            Self::SignatureRepeated => "there is more than one x-klikit-signature",
            Self::SignatureBase64 => "the signature is base64, not hex",
            Self::SignaturePrefixed => "the signature has a prefix",
            Self::SignatureTruncated => "the signature is cut off",
            Self::SignatureTimestamped => "the signature has klikit's older form with a time",
            Self::SignatureTimestampMalformed => "the signature is nearly klikit's older form with a time",
            Self::SignatureStale => "the signature's time is too far from this machine's clock",
            Self::TimestampInBody => "the body begins with the time that belongs into the signature header",
            Self::SignatureUpperCase => "the signature verifies, and has upper-case digits",
            Self::SignaturePadded => "the signature has quotes or white space around it",
            Self::SignatureMalformed => "the signature is not 64 hex digits",
            Self::SignedWithoutSecret => "whoever signed the body used no secret",
            Self::SignedWithoutHmac => "the body was signed with plain SHA-256 of secret and body, not with HMAC",
            Self::EventIdMissing => "there is no x-klikit-event-id header",
            Self::EventIdRepeated => "there is more than one x-klikit-event-id",
            Self::EventIdMalformed => "the event id is not 1 to 255 visible ASCII characters",
            Self::SecretWhiteSpace => "the configured secret differs from the right one by white space at an end",
            Self::SecretByteOrderMark => "the configured secret differs from the right one by a byte order mark",
            Self::SecretQuoted => "the configured secret differs from the right one by quotes",
            Self::SecretEscaped => {
                r"the configured secret differs from the right one by the two characters `\n` at its end"
            }
            Self::SecretLine => "the configured secret is a whole line NAME=secret",
            Self::SecretEncoded => "the configured secret is an encoded text of the right one",
            Self::SecretDecoded => "the right secret is an encoded text of the configured one",
            Self::OtherSecret => "the body was signed with another secret",
            Self::BodyReencoded => "the body's JSON was written anew, as by parsing and encoding it again",
            Self::BodyFinalNewline => "the body's final newline was changed",
            Self::BodyByteOrderMark => "the body's byte order mark was changed",
            Self::BodyLineEndings => "the body's line endings were changed",
            Self::BodyEmpty => "the body is empty",
            Self::BodyShorter => "the body is shorter than its Content-Length",
            Self::BodyIncomplete => "the body did not come whole",
            Self::BodyLonger => "the body is longer than its Content-Length",
            Self::BodyCompressed => "the body is compressed",
            Self::BodyDecompressed => "the body is not compressed as its Content-Encoding says",
            Self::BodyWrapped => "the body was wrapped as a whole in another encoding",
            Self::BodyLatin1 => "the body is Latin-1 and was signed as UTF-8",
            Self::BodyEncodedTwice => "the body was encoded in UTF-8 twice",
            Self::Unknown => "the delivery does not show why",
        }
    }

    /// What to do, in a few words for a person to read. They may change.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Verifies => "nothing is to be done here",
            Self::SignatureMissing => {
                "let the x-klikit-* headers through: look at nginx, Cloudflare's rules, and the API gateway's \
                 list of allowed headers"
            }
            Self::SignatureRepeated => "have every proxy on the way pass the header on once, and add none",
            Self::SignatureBase64 => "have the sender write the tag as 64 hex digits",
            Self::SignaturePrefixed => "have the sender, or the proxy that adds it, leave the prefix out",
            Self::SignatureTruncated => "look for what cuts the header: the signature is 64 hex digits",
            Self::SignatureTimestamped => "accept this form too, with KlikitVerifyLayer::accept_timestamped",
            Self::SignatureTimestampMalformed => {
                "have the sender, or what changes the header, write `t=<seconds since 1970>,v1=<64 hex digits>` and nothing else: \
                 KlikitVerifyLayer::accept_timestamped accepts that alone"
            }
            Self::SignatureStale => {
                "have NTP set this machine's clock; with a clock that is right, it is an old delivery that was sent again, or a \
                 tolerance in KlikitVerifyLayer::accept_timestamped that is too short"
            }
            Self::TimestampInBody => {
                "never accept it: somebody has captured a delivery of klikit's older form, and sends it as one of the current form, \
                 which has no time limit"
            }
            Self::SignatureUpperCase => {
                "nothing is to be done here; a receiver that compares text must turn the digits to lower case first"
            }
            Self::SignaturePadded => {
                "look for what adds quotes or white space to the header, and have it pass the value on as it came"
            }
            Self::SignatureMalformed => {
                "look for what changes the header: klikit sends 64 lower-case hex digits and nothing else"
            }
            Self::SignedWithoutSecret => {
                "never accept it, since anyone can send it; if it is a test of yours, sign with HMAC-SHA256 and the webhook secret"
            }
            Self::SignedWithoutHmac => "have the sender use HMAC-SHA256 (RFC 2104), as klikit does",
            Self::EventIdMissing => {
                "let x-klikit-event-id through on the way; if klikit sends none, KlikitVerifyLayer::allow_missing_event_id does without"
            }
            Self::EventIdRepeated => "have every proxy on the way pass x-klikit-event-id on once, and add none",
            Self::EventIdMalformed => "look for what changes x-klikit-event-id on the way",
            Self::SecretWhiteSpace => {
                "configure the very bytes that klikit signs with: `printf %s` writes no newline, and `echo` writes one"
            }
            Self::SecretByteOrderMark => {
                "configure the very bytes that klikit signs with: some editors put a byte order mark at the start of a file"
            }
            Self::SecretQuoted => {
                "configure the very bytes that klikit signs with: Docker's --env-file keeps quotes, and shells take them away"
            }
            Self::SecretEscaped => {
                r"configure the very bytes that klikit signs with: nothing turns `\n` into a line feed here"
            }
            Self::SecretLine => "configure what is behind the name alone",
            Self::SecretEncoded => {
                "configure the secret itself: nothing is decoded here; a Kubernetes secret's `data` is base64, and a \
                 secret in a URL has its signs escaped"
            }
            Self::SecretDecoded => {
                "configure the text that klikit shows: klikit signs with its bytes and does not decode it"
            }
            Self::OtherSecret => {
                "find out who signs with this one. If it is klikit, and the secret is being rotated, have Keyring::add hold the previous \
                 one beside the new one, and retire it once nothing comes under it. If it is another secret of klikit's, have klikit sign \
                 with the webhook secret, which is not the partner API's secret_key. Never put one back that was withdrawn"
            }
            Self::BodyReencoded => {
                "verify the bytes as they came: put KlikitVerifyLayer outside of whatever reads JSON, and stop proxies from rewriting it"
            }
            Self::BodyFinalNewline => {
                "verify the bytes as they came; to replay a saved body, use `curl --data-binary`, and `printf %s` in place of `echo`"
            }
            Self::BodyByteOrderMark => {
                "verify the bytes as they came; some editors put a byte order mark at the start of a saved body"
            }
            Self::BodyLineEndings => {
                "verify the bytes as they came; keep editors, git and text-mode files away from a saved body"
            }
            Self::BodyEmpty => {
                "put KlikitVerifyLayer outside of whatever reads the body first; look for a proxy that sends none, as nginx does by \
                 proxy_pass_request_body or proxy_set_body"
            }
            Self::BodyShorter => "look for what reads the body first, or for a proxy or a buffer that cuts it off",
            Self::BodyIncomplete => {
                "look at the network, and for a proxy that announces a body and sends none, as nginx does by proxy_pass_request_body"
            }
            Self::BodyLonger => "look for what rewrites the body before KlikitVerifyLayer sees it",
            Self::BodyCompressed => "have nothing on the way compress requests: klikit signs the bytes before that",
            Self::BodyDecompressed => {
                "put KlikitVerifyLayer outside of whatever unpacks the body and leaves its Content-Encoding"
            }
            Self::BodyWrapped => {
                "verify the bytes inside: have the gateway hand the body on as it came, as AWS API Gateway does without a binary media type \
                 that covers application/json, or decode what its `isBase64Encoded` marks before KlikitVerifyLayer"
            }
            Self::BodyLatin1 => "have nothing on the way change the body's character set: klikit signs UTF-8",
            Self::BodyEncodedTwice => "have nothing on the way take the UTF-8 body for Latin-1 and encode it again",
            Self::Unknown => {
                "a wrong secret, a changed body and a forgery look the same: compare secret and body with klikit's, or offer the \
                 secrets that it may have been as candidates"
            }
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.sentence())
    }
}

/// How sure a [`Diagnosis`](super::Diagnosis) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Certainty {
    /// With the fault undone, the signature matches. Whoever signed it held that secret, which is not the configured one where the
    /// secret is at fault.
    Proven,
    /// The request itself shows it, whoever sent it. Other things may be wrong too.
    Shown,
    /// Nothing was found.
    Unknown,
}

impl Certainty {
    /// A name for logs.
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
