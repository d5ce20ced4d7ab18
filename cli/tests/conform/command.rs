//! The command line, the formats of the report, and bad input.

use std::{
    fs,
    net::TcpListener,
    slice,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    receivers::{
        Receiver,
        flawed::{self, Fault},
        own::{self, OLD_SECRET},
    },
    support::{SECRET, assert_documented, examples, klikit, shell},
};

/// Checks that take a moment.
const QUICK: &str = "genuine,duplicate,over-100-kb,rotated-secret";

fn flawed() -> Receiver {
    Receiver::serve(|| flawed::with(Fault::LimitsBodies))
}

#[test]
fn prints_a_row_for_each_check() {
    let receiver = flawed();
    let ended = klikit(["conform", receiver.url(), "--only", QUICK]).run();
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{ended}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let [header, genuine, over_100_kb, duplicate, rotated_secret, "", summary] = *lines else { panic!("{ended}") };
    for column in ["check", "result", "seen", "why it matters"] {
        assert!(header.contains(column), "{header}");
    }
    for (line, words) in [
        (
            genuine,
            ["genuine ", " pass ", " 200 {\"status\":\"received\"} to all 3 events ", " klikit repeats a delivery "],
        ),
        (
            over_100_kb,
            ["over-100-kb ", " fail ", " 413 {\"error\":\"body too large\"} ", " the default limit of Express."],
        ),
        (
            duplicate,
            ["duplicate ", " pass ", " 200 {\"status\":\"duplicate-ignored\"} ", " klikit delivers at least once."],
        ),
        (rotated_secret, ["rotated-secret ", " not observable ", " --old-secret-file ", " After a rotation, "]),
    ] {
        for word in words {
            assert!(line.contains(word), "{word:?} is not in {line:?}");
        }
    }
    assert_eq!(summary, format!("{}: 2 passed, 1 failed, 1 not observable", receiver.url()));
    assert!(!ended.stdout.contains('\u{1b}') && !ended.stdout.contains(SECRET), "{ended}");
}

#[test]
fn prints_json_with_documented_fields() {
    let receiver = flawed();
    let ended = klikit(["conform", receiver.url(), "--json", "--only", QUICK]).run();
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""), "{ended}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_documented("`conform`", slice::from_ref(&report));
    let results: Vec<_> = report["rows"].as_array().unwrap().iter().map(|row| &row["result"]).collect();
    assert_eq!(results, ["pass", "fail", "pass", "not_observable"]);
    assert_eq!((&report["url"], &report["failed"]), (&receiver.url().into(), &1.into()));
}

#[test]
fn writes_junit() {
    let receiver = flawed();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("conform.xml");
    let ended = klikit(["conform", receiver.url(), "--junit", file.to_str().unwrap(), "--only", QUICK]).run();
    assert_eq!(ended.code, Some(1), "{ended}");
    let xml = fs::read_to_string(file).unwrap();
    let start = r#"<testsuites name="klikit conform" tests="4" failures="1" errors="0">"#;
    assert!(xml.contains(start), "{xml}");
    for part in [
        r#"<testcase name="genuine" classname="klikit.conform">"#,
        r#"<failure message="#,
        "the default limit of Express.",
        r#"<skipped message="name the secret before the rotation with --old-secret-file"/>"#,
    ] {
        assert_eq!(xml.matches(part).count(), 1, "{part} in {xml}");
    }
}

#[test]
fn failed_run_keeps_the_old_junit_file() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("conform.xml");
    fs::write(&file, "the old report").unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ended = klikit(["conform", &format!("http://{free}/"), "--junit", file.to_str().unwrap()]).run();
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "the old report");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn junit_replaces_a_file_behind_a_symlink() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let receiver = flawed();
    let directory = TempDir::new().unwrap();
    let [file, link] = ["conform.xml", "link.xml"].map(|name| directory.path().join(name));
    fs::write(&file, "the old report").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    symlink(&file, &link).unwrap();
    let ended = klikit(["conform", receiver.url(), "--junit", link.to_str().unwrap(), "--only", "genuine"]).run();
    assert_eq!(ended.code, Some(0), "{ended}");
    assert!(link.is_symlink() && fs::read_to_string(&file).unwrap().contains("genuine"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn failed_write_of_junit_keeps_the_printed_report() {
    let receiver = flawed();
    let ended = klikit(["conform", receiver.url(), "--junit", "/dev/full", "--only", "genuine"]).run();
    let error = "error: cannot write /dev/full: No space left on device (os error 28): check the disk\n";
    assert_eq!((ended.code, &*ended.stderr), (Some(2), error), "{ended}");
    assert!(ended.stdout.contains("1 passed, 0 failed"), "{ended}");
}

#[test]
fn wrong_secret_leaves_the_rest_unseen() {
    let receiver = Receiver::serve(flawed::sound);
    let ended = klikit(["conform", receiver.url(), "--json"]).env("KLIKIT_WEBHOOK_SECRET", "another secret").run();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["failed"], &report["passed"]), (Some(1), &1.into(), &1.into()), "{ended}");
    let genuine = &report["rows"][0];
    assert_eq!(
        genuine["seen"],
        r#"403 {"error":"invalid signature"}: check the secret, and whether the receiver requires --basic"#
    );
}

#[test]
fn rejects_bad_input() {
    let directory = TempDir::new().unwrap();
    let missing = directory.path().join("missing");
    let missing = missing.to_str().unwrap();
    let unwritable = directory.path().join("missing/conform.xml");
    let unwritable = unwritable.to_str().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let free = format!("http://{free}/webhooks/klikit");
    let empty = directory.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let empty = empty.to_str().unwrap();
    for (arguments, words) in [
        (&["ftp://localhost/"][..], "the URL begins with ftp"),
        (&["no URL"], "the URL is invalid"),
        (&["http://198.51.100.1/webhooks/klikit"], "pass --allow-public"),
        (&[&free], "cannot connect to 127.0.0.1"),
        (&[&free, "--old-secret-file", missing], "cannot read"),
        (&[&free, "--old-secret-file", empty], "empty"),
        (&[&free, "--failing", missing], "cannot read"),
        (&[&free, "--junit", unwritable], "cannot write"),
        (&[&free, "--junit", directory.path().to_str().unwrap()], "cannot write"),
        (&[&free, "--only", "everything"], "invalid value 'everything'"),
        (&[&free, "--answer-within", "0"], "0 is not in 1..=10000"),
    ] {
        let ended = klikit(["conform"].into_iter().chain(arguments.iter().copied())).run();
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (Some(2), "", 1), "{ended}");
        assert!(ended.stderr.contains(words), "{words:?} is not in {ended}");
    }
}

#[test]
fn old_secret_comes_from_environment_or_file() {
    let receiver = Receiver::serve(own::verify);
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("secret");
    fs::write(&file, SECRET).unwrap();
    let file = file.to_str().unwrap();
    let run = |old, options: &[&str]| {
        let arguments = ["conform", receiver.url(), "--json", "--only", "rotated-secret"];
        let run = klikit(arguments.into_iter().chain(options.iter().copied()));
        run.env("KLIKIT_WEBHOOK_SECRET_OLD", old).run()
    };
    for (old, options, result, seen) in [
        (OLD_SECRET, &[][..], "pass", "both secrets are accepted"),
        ("a forgotten secret", &[], "fail", "signed with the old secret: 403"),
        (OLD_SECRET, &["--secret-file", file], "not_observable", "with --old-secret-file"),
        (OLD_SECRET, &["--old-secret-file", file], "not_observable", "the old secret is the same as the new one"),
    ] {
        let ended = run(old, options);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let row = &report["rows"][0];
        assert_eq!(row["result"], result, "{ended}");
        assert!(row["seen"].as_str().unwrap().contains(seen), "{seen:?} is not in {ended}");
    }
    run(" ", &[]).assert_error(
        "the environment variable KLIKIT_WEBHOOK_SECRET_OLD is blank: set it to the webhook_secret_key before the \
         rotation, or remove the variable",
    );
}

#[test]
fn needs_a_secret() {
    let receiver = Receiver::serve(flawed::sound);
    let ended = klikit(["conform", receiver.url()]).without_secret().run();
    ended.assert_error("no webhook secret was given: set KLIKIT_WEBHOOK_SECRET, or name a file with --secret-file");
}

#[test]
fn receiver_that_hangs_up_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/webhooks/klikit", listener.local_addr().unwrap());
    thread::spawn(move || listener.incoming().for_each(drop));
    let ended = klikit(["conform", &url]).run();
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (Some(2), "", 1), "{ended}");
    assert!(ended.stderr.starts_with(&format!("error: no delivery reached {url}: ")), "{ended}");
}

#[test]
fn first_response_without_an_end_is_an_error() {
    let receiver = Receiver::serve(|| Router::new().fallback(async || Response::new(Body::new(flawed::Endless))));
    klikit(["conform", receiver.url()]).run().assert_error(&format!(
        "{}: the response began with 200 and did not end within 10 s: name the URL of a webhook endpoint, not of a \
         stream",
        receiver.url()
    ));
}

#[test]
fn ctrl_c_reports_the_checks_that_have_ended() {
    /// The requests until the slow sender has begun: three at the start of the run, and two of the check genuine.
    const REQUESTS: usize = 6;
    let arrived = Arc::new(AtomicUsize::new(0));
    let receiver = Receiver::serve(|| {
        let arrived = Arc::clone(&arrived);
        Router::new().fallback(move |request: Request| {
            arrived.fetch_add(1, Ordering::Relaxed);
            async { to_bytes(request.into_body(), usize::MAX).await.map(drop).map_err(|_| StatusCode::BAD_REQUEST) }
        })
    });
    let running = klikit(["conform", receiver.url(), "--json", "--only", "genuine,slow-sender"]).start();
    let started = Instant::now();
    while arrived.load(Ordering::Relaxed) < REQUESTS {
        assert!(started.elapsed() < Duration::from_secs(60), "fewer requests arrived");
        thread::sleep(Duration::from_millis(5));
    }
    running.interrupt();
    let ended = running.wait();
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((ended.code, &report["interrupted"]), (Some(130), &true.into()), "{ended}");
    let rows = report["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["check"], &rows[0]["result"]), (1, &"genuine".into(), &"pass".into()), "{ended}");
}

#[test]
fn closed_pipe_does_not_hide_a_fault() {
    let receiver = flawed();
    let ended = klikit(["conform", receiver.url(), "--only", QUICK]).run_with_closed_pipe();
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""));
}

#[test]
fn examples_of_the_help_run() {
    let receiver = Receiver::serve(flawed::sound);
    let home = TempDir::new().unwrap();
    for example in examples(["conform"]) {
        let line = example
            .replace("http://localhost:8080/webhooks/klikit", receiver.url())
            .replace("https://staging.example.com/webhooks/klikit", receiver.url());
        let ended = shell(&line, home.path()).run();
        assert!(ended.code == Some(0) && ended.stderr.is_empty(), "{line}\n{ended}");
    }
    assert!(home.path().join("conform.xml").exists());
}
