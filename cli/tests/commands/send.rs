//! Tests of `klikit send` with receivers that respond.

use std::{collections::HashSet, fs, thread, time::Duration};

use serde_json::{Value, from_slice, from_str, json};

use crate::{
    receiver::{Received, Receiver, Reply},
    support::{Ended, assert_documented, klikit},
};

/// Sends with these options, and returns the exit code and the report.
fn send(receiver: &Receiver, options: &[&str]) -> (Option<i32>, Value) {
    report(&klikit(["send", &receiver.url, "--json"].into_iter().chain(options.iter().copied())).run())
}

#[track_caller]
fn report(ended: &Ended) -> (Option<i32>, Value) {
    assert_eq!(ended.stderr, "", "{ended}");
    (ended.code, from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}")))
}

fn order_id(received: &Received) -> u64 {
    let body: Value = from_slice(&received.body).unwrap();
    body["orders"][0]["id"].as_u64().unwrap()
}

fn different<'a>(values: impl Iterator<Item = &'a str>) -> usize {
    values.collect::<HashSet<_>>().len()
}

#[test]
fn requests_are_as_klikit_sends_them() {
    let receiver = Receiver::verifying();
    assert_eq!(send(&receiver, &[]).0, Some(0));
    let [received] = &receiver.received()[..] else { panic!("not one request") };
    assert!(received.verifies());
    assert_eq!(received.header("content-type"), "application/json");
    assert_eq!(received.header("content-length"), received.body.len().to_string());
    assert_eq!(received.header("x-klikit-event-type"), "klikit.order.created.v2");
    let id = received.header("x-klikit-event-id");
    assert!(id.len() <= 255 && id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
    assert_eq!(received.method, "POST");
}

#[test]
fn deliveries_have_different_orders_and_ids() {
    let receiver = Receiver::verifying();
    for _ in 0..2 {
        assert_eq!(send(&receiver, &["--count", "20"]).0, Some(0));
    }
    let received = receiver.received();
    assert_eq!(different(received.iter().map(|received| received.header("x-klikit-event-id"))), 40);
    let orders: HashSet<u64> = received.iter().map(order_id).collect();
    assert_eq!(orders.len(), 40);
}

#[test]
fn same_body_differs_only_in_event_id() {
    let receiver = Receiver::verifying();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.bin");
    fs::write(&file, b"\xff not JSON\r\n").unwrap();
    assert_eq!(send(&receiver, &[file.to_str().unwrap(), "--same-body", "--count", "3"]).0, Some(0));
    let received = receiver.received();
    assert!(received.len() == 3 && received.iter().all(|received| received.body == b"\xff not JSON\r\n"[..]));
    assert_eq!(different(received.iter().map(|received| received.header("x-klikit-event-id"))), 3);
}

#[test]
fn settings_change_only_their_values() {
    let receiver = Receiver::verifying();
    let body = r#"{"orders": [{"id": 7, "status": 1.0, "note": "\u00e9"}]}"#;
    let arguments = ["send", &receiver.url, "-", "--set", "orders.0.status=3", "--set", "orders.0.id=42"];
    let arguments = arguments.into_iter().chain(["--set", "brand_id=\"x\"", "--count", "2"]);
    assert_eq!(klikit(arguments).stdin(body).run().code, Some(0));
    let bodies: Vec<_> = receiver.received().iter().map(|received| received.body.clone()).collect();
    let expected = |id| format!(r#"{{"orders": [{{"id": {id}, "status": 3, "note": "\u00e9"}}],"brand_id":"x"}}"#);
    assert_eq!(bodies, [expected(42), expected(43)]);
}

#[test]
fn files_and_fixtures_take_turns() {
    let receiver = Receiver::verifying();
    let fixtures = ["--fixture", "status-ready", "--fixture", "cart-updated", "--count", "3"];
    assert_eq!(send(&receiver, &fixtures).0, Some(0));
    let types: Vec<_> = receiver.received().iter().map(|it| it.header("x-klikit-event-type").to_owned()).collect();
    let ready = "klikit.order.status.updated";
    assert_eq!(types, [ready, "klikit.order.cart.updated", ready]);

    let receiver = Receiver::verifying();
    let folder = tempfile::tempdir().unwrap();
    let files = ["a", "b"].map(|name| folder.path().join(name));
    files.iter().for_each(|file| fs::write(file, file.to_str().unwrap()).unwrap());
    let [a, b] = files.each_ref().map(|file| file.to_str().unwrap());
    assert_eq!(send(&receiver, &[a, b, "--same-body", "--event-type", "other"]).0, Some(0));
    let bodies: Vec<_> = receiver.received().iter().map(|received| received.body.clone()).collect();
    assert_eq!(bodies, [a, b]);
    assert_eq!(receiver.received()[0].header("x-klikit-event-type"), "other");
}

#[test]
fn duplicates_and_corrupted_deliveries_are_counted() {
    let receiver = Receiver::verifying();
    let (code, report) = send(&receiver, &["--count", "100", "--duplicates", "5%", "--corrupt", "5%"]);
    let received = receiver.received();
    let corrupted = received.iter().filter(|received| !received.verifies()).count();
    assert_eq!((received.len(), corrupted), (105, 5));
    assert_eq!(different(received.iter().map(|received| received.header("x-klikit-event-id"))), 100);
    let copies = received.windows(2).filter(|pair| pair[0].body == pair[1].body && pair[0].headers == pair[1].headers);
    assert_eq!(copies.count(), 5);
    assert_eq!(code, Some(0));
    assert_eq!(report["statuses"], json!({ "200": 100, "403": 5 }));
    assert_eq!([&report["delivered_at_once"], &report["corrupt_rejected"], &report["deliveries"]], [100, 5, 105]);
    assert_eq!(report["first_failure"], Value::Null);
}

#[test]
fn accepting_corrupted_deliveries_is_a_fault() {
    for options in [&[][..], &["--same-body"]] {
        // The receiver rejects nothing but malformed JSON.
        let receiver = Receiver::start(|_, received| {
            Reply::Status(if from_slice::<Value>(&received.body).is_ok() { 200 } else { 400 })
        });
        let (code, report) = send(&receiver, &[options, &["--count", "10", "--corrupt", "20%"]].concat());
        assert_eq!((code, &report["corrupt_accepted"], &report["delivered_at_once"]), (Some(1), &json!(2), &json!(8)));
        assert_eq!(receiver.received().iter().filter(|received| !received.verifies()).count(), 2);
    }
}

#[test]
fn failed_deliveries_are_retried_unchanged() {
    let receiver = Receiver::start(|number, _| Reply::Status(if number < 3 { 503 } else { 204 }));
    let (code, report) = send(&receiver, &[]);
    assert_eq!((code, &report["delivered_later"], &report["failed"]), (Some(0), &json!(1), &json!(0)));
    assert_eq!((&report["attempts"], &report["statuses"]), (&json!(4), &json!({ "204": 1, "503": 3 })));
    let received = receiver.received();
    assert!(received.iter().all(|it| it.body == received[0].body && it.headers == received[0].headers));
    // 30 seconds, 2 minutes and 10 minutes, of which 3600 take a second.
    assert!(report["seconds"].as_f64().unwrap() >= 750.0 / 3600.0, "{report}");
}

#[test]
fn speed_divides_retry_delays() {
    // The delays are 30 seconds and 2 minutes. Undivided, they are longer than the test waits.
    let receiver = Receiver::start(|number, _| Reply::Status(if number < 2 { 500 } else { 200 }));
    let (code, report) = send(&receiver, &["--speed", "100"]);
    assert!(code == Some(0) && report["seconds"].as_f64().unwrap() >= 1.5, "{report}");
}

#[test]
fn failure_after_all_retries_is_a_fault() {
    let receiver = Receiver::start(|_, _| Reply::Text(500, "\u{1b}[31mout of\npaper".into()));
    let ended = klikit(["send", &receiver.url, "--retries", "2"]).run();
    assert_eq!((ended.code, &*ended.stderr), (Some(1), ""));
    assert!(ended.stdout.contains("\nfailed after 2 retries  1\n"), "{ended}");
    assert!(ended.stdout.contains("500 Internal Server Error  3\n"), "{ended}");
    let failure = "First failure: 500 \\u{1b}[31mout of\\npaper\n";
    assert!(ended.stdout.ends_with(failure), "{ended}");
    assert_eq!(receiver.received().len(), 3);
}

#[test]
fn report_says_after_how_many_retries() {
    for (retries, line) in [
        ("0", "failed without a retry"),
        ("1", "failed after 1 retry"),
        ("6", "failed after 6 retries: klikit would dead-letter them"),
    ] {
        let receiver = Receiver::start(|_, _| Reply::Status(500));
        let ended = klikit(["send", &receiver.url, "--retries", retries, "--speed", "1e6"]).run();
        assert!(ended.code == Some(1) && ended.stdout.contains(&format!("\n{line}  1\n")), "{ended}");
        assert_eq!(ended.stdout.contains(": 1 attempt in "), retries == "0", "{ended}");
    }
}

#[test]
fn only_start_of_response_is_shown() {
    let receiver = Receiver::start(|_, _| Reply::Text(500, "x".repeat(100_000)));
    let (_, report) = send(&receiver, &["--retries", "0"]);
    assert_eq!(report["first_failure"], format!("500 {}…", "x".repeat(200)));
}

#[test]
fn redirects_are_failures() {
    let elsewhere = Receiver::verifying();
    let location = elsewhere.url.clone();
    let receiver = Receiver::start(move |_, _| Reply::Redirect(location.clone()));
    let (code, report) = send(&receiver, &["--retries", "0"]);
    assert_eq!((code, &report["statuses"]), (Some(1), &json!({ "307": 1 })));
    assert!(elsewhere.received().is_empty());
}

#[test]
fn proxies_of_the_environment_are_ignored() {
    let receiver = Receiver::verifying();
    let ended = klikit(["send", &receiver.url]).env("http_proxy", "http://127.0.0.1:9").run();
    assert_eq!(ended.code, Some(0), "{ended}");
}

#[test]
fn plain_http_needs_no_certificates() {
    let receiver = Receiver::verifying();
    let ended = klikit(["send", &receiver.url]).env("SSL_CERT_FILE", "/absent").env("SSL_CERT_DIR", "/absent").run();
    assert_eq!(ended.code, Some(0), "{ended}");
}

#[test]
fn late_responses_are_failures() {
    let late = Receiver::start(|_, _| Reply::Late(Duration::from_secs(20), 200));
    let endless = Receiver::start(|number, _| if number == 0 { Reply::Status(200) } else { Reply::Endless });
    let run = |receiver: Receiver, count| thread::spawn(move || send(&receiver, &["--retries", "0", "--count", count]));
    for (thread, failure) in [
        (run(late, "1"), "no response within 10 s"),
        (run(endless, "2"), "the response began with 200 and did not end within 10 s"),
    ] {
        let (code, report) = thread.join().unwrap();
        assert_eq!((code, &report["timed_out"], &report["failed"]), (Some(1), &json!(1), &json!(1)), "{report}");
        assert_eq!(report["first_failure"], failure);
        let slowest = report["latency_ms"]["max"].as_f64().unwrap();
        assert!((9_990.0..19_000.0).contains(&slowest), "{report}");
    }
}

#[test]
fn response_before_an_endless_one_may_be_a_failure() {
    let receiver = Receiver::start(|number, _| if number == 0 { Reply::Status(500) } else { Reply::Endless });
    let (code, report) = send(&receiver, &["--retries", "1"]);
    let counts = [&report["timed_out"], &report["failed"], &report["attempts"]];
    assert_eq!((code, counts), (Some(1), [&json!(1), &json!(1), &json!(2)]));
}

#[test]
fn late_response_rejects_nothing() {
    let receiver = Receiver::start(|_, _| Reply::Late(Duration::from_secs(20), 403));
    let (code, report) = send(&receiver, &["--corrupt", "100%"]);
    let counts = [&report["timed_out"], &report["corrupt_unanswered"], &report["corrupt_rejected"]];
    assert_eq!((code, counts), (Some(1), [&json!(1), &json!(1), &json!(0)]));
}

#[test]
fn latency_is_measured() {
    let receiver = Receiver::start(|number, _| {
        let pause = if number < 5 { 100 } else { 1_500 };
        Reply::Late(Duration::from_millis(pause), 200)
    });
    let (_, report) = send(&receiver, &["--count", "6"]);
    let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    assert!(latency("p50") >= 100.0 && latency("max") >= 1_499.0, "{report}");
}

#[test]
fn concurrency_limits_attempts() {
    for concurrency in [1, 4] {
        // The responses are held until as many requests have arrived as are allowed at a time.
        let receiver = Receiver::start(move |number, _| Reply::After((number / concurrency + 1) * concurrency));
        assert_eq!(send(&receiver, &["--count", "8", "--concurrency", &concurrency.to_string()]).0, Some(0));
        assert_eq!(receiver.most_at_once(), concurrency);
    }
}

#[test]
fn concurrency_limits_retries() {
    let receiver = Receiver::start(|number, _| match number {
        0..6 => Reply::Status(500),
        _ => Reply::After((number / 2 + 1) * 2),
    });
    assert_eq!(send(&receiver, &["--count", "6", "--concurrency", "2"]).0, Some(0));
    assert_eq!((receiver.received().len(), receiver.most_at_once()), (12, 2));
}

#[test]
fn rate_limits_first_attempts() {
    // With a rate, an attempt starts while others wait for their responses.
    let receiver = Receiver::start(|_, _| Reply::After(20));
    let (code, report) = send(&receiver, &["--count", "20", "--rate", "20"]);
    // The last one starts after 950 milliseconds.
    assert!(code == Some(0) && report["seconds"].as_f64().unwrap() >= 0.95, "{report}");
    assert_eq!(receiver.most_at_once(), 20);
}

#[test]
fn json_has_documented_fields() {
    let receiver = Receiver::verifying();
    let (_, mut report) = send(&receiver, &[]);
    // The names in this field are statuses.
    assert_eq!(report["statuses"].take(), json!({ "200": 1 }));
    assert_documented("`send`", &[report]);
}

#[test]
fn ctrl_c_reports_what_was_done() {
    // During an attempt.
    let receiver = Receiver::start(|number, _| match number {
        0 => Reply::Status(200),
        _ => Reply::Late(Duration::from_secs(60), 200),
    });
    let running = klikit(["send", &receiver.url, "--json", "--count", "3"]).start();
    receiver.wait_for_requests(2);
    running.interrupt();
    let (code, interrupted) = report(&running.wait());
    assert_eq!((code, &interrupted["interrupted"]), (Some(130), &json!(true)));
    assert_eq!([&interrupted["delivered_at_once"], &interrupted["unfinished"]], [1, 2]);

    // During klikit's retry delay of 30 seconds. The second request shows that the first one has failed.
    let receiver = Receiver::start(|_, _| Reply::Status(500));
    let running = klikit(["send", &receiver.url, "--speed", "1", "--count", "2"]).start();
    receiver.wait_for_requests(2);
    running.interrupt();
    let ended = running.wait();
    assert_eq!((ended.code, &*ended.stderr), (Some(130), ""));
    let lines = ["Interrupted.", "unfinished  2\n", "500 Internal Server Error  "];
    assert!(lines.iter().all(|line| ended.stdout.contains(line)), "{ended}");
}
