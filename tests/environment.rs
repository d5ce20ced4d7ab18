//! `KlikitVerifyLayer::from_env` and `Keyring::from_env` read the secrets from the environment.
//!
//! Each case runs in its own process, because all threads of a process share the environment. This test is therefore a
//! program without a test harness.

use std::{
    convert::Infallible,
    env,
    error::Error,
    process::{Command, Output},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{Layer, ServiceExt, service_fn};
use tower_klikit::{Delivery, Keyring, KlikitVerifyLayer, VerifiedBody, testing::SignedDelivery};

const CHILD: &str = "as-a-child";

const NEW: &str = "q8ZrT2vLx0NfW6uB";
const OLD: &str = "Jc4mYh7sKd1PgE9a";

/// The `Debug` of a keyring with the newest secret, and of one with both.
const ONE: &str = r#"Keyring { name: "default", ids: ["default"] }"#;
const BOTH: &str = r#"Keyring { name: "default", ids: ["default", "old"] }"#;

const BY_NEWEST: &str = "verified with default of default";
const BY_OLD: &str = "verified with old of default";

const REMEDY: &str = "set it to the webhook_secret_key that klikit shows";
const OLD_REMEDY: &str = "set it to the webhook_secret_key before the rotation, or remove the variable";

/// The secrets in `KLIKIT_WEBHOOK_SECRET` and `KLIKIT_WEBHOOK_SECRET_OLD`.
#[derive(Debug, Clone, Copy)]
struct Secrets(Option<&'static str>, Option<&'static str>);

impl Secrets {
    /// Runs a service with these secrets in its environment.
    fn run_service(self) -> Output {
        let mut child = Command::new(env::current_exe().expect("this program has a path"));
        for (name, secret) in [("KLIKIT_WEBHOOK_SECRET", self.0), ("KLIKIT_WEBHOOK_SECRET_OLD", self.1)] {
            child.env_remove(name).envs(secret.map(|secret| (name, secret)));
        }
        child.arg(CHILD).output().expect("the program starts")
    }

    /// Asserts that the service does not start, and prints this error.
    fn assert_unusable(self, error: &str) {
        let Output { status, stdout, stderr } = self.run_service();
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(stderr, format!("Error: the environment variable {error}\n"), "for {self:?}");
        assert!(!status.success() && stdout.is_empty(), "for {self:?}");
    }

    /// Asserts that the service starts and prints these lines.
    fn assert_serves(self, lines: &[&str]) {
        let Output { status, stdout, stderr } = self.run_service();
        let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert_eq!((stdout.lines().collect::<Vec<_>>(), &*stderr), (lines.to_vec(), ""), "for {self:?}");
        assert!(status.success(), "for {self:?}");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if env::args().any(|argument| argument == CHILD) {
        // If a `main` returns an error, Rust prints its `Debug` form.
        return serve().await;
    }
    names_faulty_variable();
    reads_both_secrets();
    preflight_checks_both_secrets();
    println!("3 tests passed");
    Ok(())
}

/// Prints the ids of the secrets, the secrets that deliveries with the new and the old secret verify with, and the
/// problems of the secrets.
async fn serve() -> Result<(), Box<dyn Error>> {
    let verify = KlikitVerifyLayer::from_env()?;
    println!("{:?}", Keyring::from_env()?);
    let service = verify.layer(service_fn(async |request: Request<VerifiedBody>| {
        let delivery = request.extensions().get::<Delivery>().expect("the layer inserts the delivery");
        println!("verified with {} of {}", delivery.secret_id(), delivery.tenant());
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    for secret in [NEW, OLD] {
        let request = SignedDelivery::new(secret, "{}").event_id("evt-1").request::<Full<Bytes>>();
        let response = service.clone().oneshot(request).await?;
        println!("{}", response.status().as_u16());
    }
    for problem in verify.preflight().err().iter().flat_map(|error| error.problems()) {
        println!("{:?} {}", problem.kind(), problem.secret_id().unwrap_or_default());
    }
    Ok(())
}

fn names_faulty_variable() {
    for (value, fault) in [(None, "not set"), (Some(""), "empty"), (Some(" \n"), "blank")] {
        for old in [None, Some(OLD), Some("")] {
            Secrets(value, old).assert_unusable(&format!("KLIKIT_WEBHOOK_SECRET is {fault}: {REMEDY}"));
        }
    }
    for (value, fault) in [("", "empty"), (" \n", "blank"), ("''", "blank")] {
        Secrets(Some(NEW), Some(value)).assert_unusable(&format!("KLIKIT_WEBHOOK_SECRET_OLD is {fault}: {OLD_REMEDY}"));
    }
}

fn reads_both_secrets() {
    Secrets(Some(NEW), None).assert_serves(&[ONE, BY_NEWEST, "200", "403"]);
    Secrets(Some(OLD), None).assert_serves(&[ONE, "403", BY_NEWEST, "200"]);
    Secrets(Some(NEW), Some(OLD)).assert_serves(&[BOTH, BY_NEWEST, "200", BY_OLD, "200"]);
    Secrets(Some(OLD), Some(NEW)).assert_serves(&[BOTH, BY_OLD, "200", BY_NEWEST, "200"]);
    Secrets(Some(NEW), Some(NEW)).assert_serves(&[ONE, BY_NEWEST, "200", "403"]);
}

fn preflight_checks_both_secrets() {
    let placeholder = Secrets(Some(NEW), Some("your-webhook-secret"));
    placeholder.assert_serves(&[BOTH, BY_NEWEST, "200", "403", "SecretPlaceholder old"]);
    let short = Secrets(Some("q8Zr"), Some(OLD));
    short.assert_serves(&[BOTH, "403", BY_OLD, "200", "SecretTooShort default"]);
    // The values are not trimmed.
    let with_line_end = Secrets(Some(NEW), Some("Jc4mYh7sKd1PgE9a\n"));
    with_line_end.assert_serves(&[BOTH, BY_NEWEST, "200", "403", "SecretWhiteSpace old"]);
    let nearly_twice = Secrets(Some("Jc4mYh7sKd1PgE9a "), Some(OLD));
    let problems = ["SecretWhiteSpace default", "SecretNearlyTwice old"];
    nearly_twice.assert_serves(&[BOTH, "403", BY_OLD, "200", problems[0], problems[1]]);
}
