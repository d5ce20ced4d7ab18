//! Tests of what all commands share: arguments, help, completions and standard output.

use std::process::Command;

use crate::support::klikit;

const COMMANDS: [&str; 8] = ["completions", "conform", "doctor", "explain", "inbox", "migrate", "send", "sign"];

#[test]
fn help_ends_with_examples() {
    for command in COMMANDS {
        for flag in ["-h", "--help"] {
            let help = klikit([command, flag]).run().success();
            assert!(help.contains(&format!("\nUsage: klikit {command} ")), "{help}");
            let (_, examples) = help.split_once("\nExamples:\n").expect("examples at the end");
            assert!(examples.lines().all(|line| line.starts_with("  ") && line.contains("klikit ")), "{examples}");
        }
        let general = klikit(["--help"]).run().success();
        assert!(general.contains(&format!("\n  {command} ")), "{general}");
    }
}

#[test]
fn faulty_arguments_are_one_line_with_a_remedy() {
    for (arguments, line) in [
        (&["sing"][..], "unrecognized subcommand 'sing'; tip: a similar subcommand exists: 'sign'; see --help"),
        (&["send"], "the following required arguments were not provided: <URL>; see --help"),
        (
            &["sign", "--cury", "x"],
            "unexpected argument '--cury' found; tip: a similar argument exists: '--curl'; see --help",
        ),
    ] {
        klikit(arguments.iter().copied()).run().assert_error(line);
    }
    let without = klikit([]).run();
    assert!(without.code == Some(2) && without.stderr.contains("Usage: klikit"), "{without}");
}

#[test]
fn secret_is_not_an_argument() {
    for arguments in [["sign", "--secret=hunter2"], ["sign", "--secret-file=hunter2"]] {
        let ended = klikit(arguments).run();
        assert_eq!(ended.code, Some(2), "{ended}");
        let is_name_of_file = arguments[1].starts_with("--secret-file");
        assert_eq!(ended.stderr.contains("hunter2"), is_name_of_file, "{ended}");
    }
}

#[test]
fn closed_pipe_is_no_fault() {
    for (arguments, code) in [
        (&["sign"][..], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
        // The delivery has no signature.
        (&["explain", "--json"], 1),
    ] {
        let dump = "x-klikit-event-id: evt-1\n\n{}";
        let ended = klikit(arguments.iter().copied()).stdin(dump).run_with_closed_pipe();
        assert_eq!((ended.code, &*ended.stderr), (Some(code), ""), "{arguments:?}");
    }
}

#[test]
fn closed_standard_output_is_no_fault() {
    for arguments in ["sign < /dev/null >&-", "completions bash >&-", "--help >&-", "sign <&- >&-"] {
        let command = format!("'{}' {arguments}", env!("CARGO_BIN_EXE_klikit"));
        let output =
            Command::new("sh").args(["-c", &command]).env("KLIKIT_WEBHOOK_SECRET", "a-secret").output().unwrap();
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]), "{arguments}");
    }
}

#[test]
fn arguments_that_are_not_utf_8_are_errors() {
    for arguments in ["send \"$(printf '\\377')\"", "completions \"$(printf '\\377')\""] {
        let command = format!("'{}' {arguments}", env!("CARGO_BIN_EXE_klikit"));
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.lines().count() == 1, "{stderr}");
        assert!(stderr.starts_with("error: in") && stderr.ends_with("; see --help\n"), "{stderr}");
    }
}

#[test]
fn full_disk_is_an_error_with_a_remedy() {
    let command = format!("printf {{}} | '{}' sign > /dev/full", env!("CARGO_BIN_EXE_klikit"));
    let output = Command::new("sh").args(["-c", &command]).env("KLIKIT_WEBHOOK_SECRET", "a-secret").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let line = "error: cannot write to standard output: No space left on device (os error 28): \
                write to another file or device\n";
    assert_eq!((output.status.code(), &*stderr), (Some(2), line));
}

#[test]
fn output_has_no_colour_outside_of_a_terminal() {
    for arguments in [&["--help"][..], &["send", "--help"], &["sing"]] {
        let ended = klikit(arguments.iter().copied()).env("TERM", "xterm-256color").run();
        assert!(!ended.stdout.contains('\u{1b}') && !ended.stderr.contains('\u{1b}'), "{ended}");
    }
}

#[test]
fn completions_know_the_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = klikit(["completions", shell]).run().success();
        assert!(["klikit", "candidate-file", "duplicates"].iter().all(|word| script.contains(word)), "{shell}");
    }
    let json = klikit(["completions", "bash", "--json"]).run();
    json.assert_error("completions are a script and have no JSON: remove --json");
    let ended = klikit(["completions", "tcsh"]).run();
    assert!(ended.code == Some(2) && ended.stderr.lines().count() == 1, "{ended}");
}
