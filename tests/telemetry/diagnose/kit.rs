//! Helpers: signed requests, assertions, and programs that change bodies.

use std::{
    fs,
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tower_klikit::{
    Keyring, WebhookSecret,
    diagnose::{Cause, Certainty, Diagnosis, Diagnostician, diagnose},
    header::SIGNATURE,
    testing::SignedDelivery,
};

pub(crate) const SECRET: &str = "klikit-test-secret";
pub(crate) const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;

/// A body with everything that JSON encoders write differently, and without numbers that they change.
pub(crate) const MIXED: &str = concat!(
    r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42,"external_id":"A/7","brands":[{"id":3,"title":"Café <Bali> & 'Söhne'"}],"#,
    r#""status":2,"cart":[],"note":"no \"chilli\"\n","emoji":"🍜","line":"a2028b","total":"12.50","extra":{},"#,
    r#""a_last":[1,[],{},null,true,-3]}]}"#
);

pub(crate) fn keyring(secret: impl AsRef<[u8]>) -> Keyring {
    WebhookSecret::new(secret).expect("the secret is valid").into()
}

/// Returns the headers of a delivery of this body, as klikit sends them.
pub(crate) fn signed(secret: impl AsRef<[u8]>, body: &[u8]) -> HeaderMap {
    let request = SignedDelivery::new(secret, Bytes::copy_from_slice(body)).request::<Bytes>();
    request.headers().clone()
}

/// Replaces the signature header.
pub(crate) fn with_signature(mut headers: HeaderMap, value: impl AsRef<[u8]>) -> HeaderMap {
    headers.insert(SIGNATURE, HeaderValue::from_bytes(value.as_ref()).expect("the header value is valid"));
    headers
}

/// Adds a header.
pub(crate) fn with(mut headers: HeaderMap, name: HeaderName, value: &str) -> HeaderMap {
    headers.append(name, HeaderValue::from_str(value).expect("the header value is valid"));
    headers
}

/// Removes a header.
pub(crate) fn without(mut headers: HeaderMap, name: &HeaderName) -> HeaderMap {
    headers.remove(name);
    headers
}

/// Returns the signature header.
pub(crate) fn signature(headers: &HeaderMap) -> String {
    headers[SIGNATURE].to_str().expect("the signature is ASCII").to_owned()
}

/// Removes `Content-Length`, because a proxy that changes a body corrects or removes the length.
pub(crate) fn without_length(headers: HeaderMap) -> HeaderMap {
    without(headers, &header::CONTENT_LENGTH)
}

pub(crate) fn diagnose_with(candidates: &Keyring, keyring: Keyring, headers: &HeaderMap, body: &[u8]) -> Diagnosis {
    Diagnostician::new(keyring).candidates(candidates.clone()).diagnose(headers, body)
}

#[track_caller]
pub(crate) fn assert_found(diagnosis: &Diagnosis, cause: Cause, certainty: Certainty) {
    assert_eq!((diagnosis.cause(), diagnosis.certainty()), (cause, certainty), "{diagnosis}");
}

/// Asserts that a receiver with [`SECRET`] proves this cause.
#[track_caller]
pub(crate) fn assert_proven(headers: &HeaderMap, body: &[u8], cause: Cause) -> Diagnosis {
    let diagnosis = diagnose(&keyring(SECRET), headers, body);
    assert_found(&diagnosis, cause, Certainty::Proven);
    assert_eq!(diagnosis.secret_id(), Some("default"));
    diagnosis
}

/// Asserts that the request shows this cause.
#[track_caller]
pub(crate) fn assert_shown(headers: &HeaderMap, body: &[u8], cause: Cause) -> Diagnosis {
    let diagnosis = diagnose(&keyring(SECRET), headers, body);
    assert_found(&diagnosis, cause, Certainty::Shown);
    assert_eq!(diagnosis.secret_id(), None);
    assert!(diagnosis.to_string().contains("other faults are possible"), "{diagnosis}");
    diagnosis
}

/// Asserts that the cause is unknown.
#[track_caller]
pub(crate) fn assert_unknown(headers: &HeaderMap, body: &[u8]) {
    let diagnosis = diagnose(&keyring(SECRET), headers, body);
    assert_found(&diagnosis, Cause::Unknown, Certainty::Unknown);
    assert_eq!(diagnosis.secret_id(), None);
}

/// Runs a program with this input and returns its output. `command` is the program and its arguments.
#[track_caller]
pub(crate) fn run(command: &[&str], input: &[u8]) -> Vec<u8> {
    let (program, arguments) = command.split_first().expect("the command names a program");
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    let feeder = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("the program ends");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    // A program that needs no input may close stdin first, so a failed write is fine.
    let _ = feeder.join().expect("the writing thread does not panic");
    output.stdout
}

/// Returns the content of a file that a shell script writes. `$1` is the path of the file.
pub(crate) fn file_by_shell(script: &str) -> Vec<u8> {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}-{}", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let path: PathBuf = std::env::temp_dir().join(format!("tower-klikit-diagnose-{name}"));
    run(&["sh", "-c", script, "sh", path.to_str().expect("the path is UTF-8")], b"");
    let bytes = fs::read(&path).expect("the script wrote the file");
    fs::remove_file(&path).expect("the file can be removed");
    bytes
}
