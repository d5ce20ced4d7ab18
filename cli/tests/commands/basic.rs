//! Tests of `Authorization: Basic`.

use std::fs;

use crate::{
    receiver::{Receiver, Reply},
    support::{SECRET, klikit},
    terminal::Terminal,
};

/// The header for the user `partner` and the password `hunter2`.
const HEADER: &str = "Basic cGFydG5lcjpodW50ZXIy";

fn requiring_basic() -> Receiver {
    Receiver::start(|_, received| {
        let is_known = received.headers.get("authorization").is_some_and(|value| value == HEADER);
        Reply::Status(if is_known { 200 } else { 401 })
    })
}

#[test]
fn password_comes_from_environment_or_file() {
    let receiver = requiring_basic();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password.txt");
    let send = ["send", &receiver.url, "--basic", "partner", "--retries", "0"];
    let from_variable = klikit(send).env("KLIKIT_BASIC_PASSWORD", "hunter2").run();
    assert_eq!(from_variable.code, Some(0), "{from_variable}");
    for content in ["hunter2", "hunter2\n", "hunter2\r\n"] {
        fs::write(&file, content).unwrap();
        // The file precedes the variable.
        let send = send.into_iter().chain(["--basic-file", file.to_str().unwrap()]);
        let from_file = klikit(send).env("KLIKIT_BASIC_PASSWORD", "another").run();
        assert_eq!(from_file.code, Some(0), "{from_file}");
    }
    let without = klikit(["send", &receiver.url, "--retries", "0"]).env("KLIKIT_BASIC_PASSWORD", "hunter2").run();
    assert_eq!(without.code, Some(1), "{without}");
}

#[test]
fn asks_for_password_without_showing_it() {
    let receiver = requiring_basic();
    let mut terminal = Terminal::start(&format!("send {} --basic partner", receiver.url), Some(SECRET));
    terminal.wait_for("password for --basic (not shown): ");
    terminal.wait_until_input_is_hidden();
    terminal.input("hunter2\n");
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn password_is_never_printed() {
    let receiver = Receiver::start(|_, _| Reply::Status(401));
    for options in [&["--json"][..], &[]] {
        let send = ["send", &receiver.url, "--basic", "partner", "--retries", "0"];
        let ended = klikit(send.iter().chain(options).copied()).env("KLIKIT_BASIC_PASSWORD", "hunter2").run();
        assert_eq!(ended.code, Some(1), "{ended}");
        for hidden in ["hunter2", HEADER] {
            assert!(!ended.stdout.contains(hidden) && !ended.stderr.contains(hidden), "{ended}");
        }
    }
}

#[test]
fn faulty_credentials_are_errors_with_a_remedy() {
    let remedy = "set KLIKIT_BASIC_PASSWORD, or name a file with --basic-file";
    for command in ["send", "conform"] {
        let run = |options: &[&'static str]| {
            klikit([command, "http://127.0.0.1:9/"].into_iter().chain(options.iter().copied()))
        };
        run(&["--basic", "partner"]).run().assert_error(&format!("no password for --basic was given: {remedy}"));
        run(&["--basic", "partner"])
            .env("KLIKIT_BASIC_PASSWORD", "")
            .run()
            .assert_error(&format!("the password for --basic is empty: {remedy}"));
        run(&["--basic", "partner", "--basic-file", "/absent"])
            .run()
            .assert_error("cannot read /absent: No such file or directory (os error 2): name a readable file");
        let ended = run(&["--basic", ":hunter2"]).run();
        assert!(ended.stderr.contains("a user is a text without a colon: the password comes from "), "{ended}");
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended}");
    }
}
