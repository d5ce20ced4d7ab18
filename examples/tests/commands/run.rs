//! Tests of `tests/run`, without running the tests.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use crate::{Ended, root};

/// Returns the command `tests/run` with a `PATH` that has only what a shell script needs, and these programs.
fn command(folder: &Path, programs: &[(&str, &str)]) -> Command {
    for name in ["bash", "dirname", "env"] {
        symlink(which(name), folder.join(name)).expect("the folder is writable");
    }
    for (name, script) in programs {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("the folder is writable");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).expect("the folder is writable");
    }
    let mut command = Command::new(root().join("tests/run"));
    command.env("PATH", folder).env_remove("KLIKIT_TEST_REDIS_URL").env_remove("KLIKIT_TEST_POSTGRES_URL");
    command
}

fn which(name: &str) -> String {
    let path = Command::new("sh").args(["-c", r#"command -v "$1""#, "sh", name]).output().expect("sh runs");
    String::from_utf8(path.stdout).expect("a path").trim().to_owned()
}

#[test]
fn prints_help() {
    let folder = tempfile::tempdir().unwrap();
    let ended = Ended::of(command(folder.path(), &[]).arg("--help"));
    assert!(ended.stdout.starts_with("Usage: tests/run\n"), "{ended}");
    assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
}

#[test]
fn names_unexpected_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let ended = Ended::of(command(folder.path(), &[]).arg("--instal"));
    assert!(ended.stderr.starts_with("error: unexpected argument: --instal\n\nUsage: "), "{ended}");
    assert_eq!((ended.code, &*ended.stdout), (Some(2), ""));
}

/// Where it may not install programs, the command ends with one line that says what to install.
#[test]
fn says_what_to_install() {
    const USER: (&str, &str) = ("id", "echo 1000");
    const ROOT: (&str, &str) = ("id", "echo 0");
    const APT: (&str, &str) = ("apt-get", "exit 100");
    const SUDO_WITH_PASSWORD: (&str, &str) = ("sudo", "exit 1");
    for (programs, message) in [
        (&[][..], "there is no apt-get: install what these Debian packages contain: redis-server "),
        (&[USER, APT][..], "missing programs: run sudo apt-get install redis-server "),
        (&[USER, APT, SUDO_WITH_PASSWORD], "missing programs: run sudo apt-get install redis-server "),
        (&[ROOT, APT], "apt-get has failed: install redis-server "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let ended = Ended::of(&mut command(folder.path(), programs));
        assert!(ended.stderr.contains(message) && ended.stderr.contains(" jq "), "{ended}");
        assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended}");
    }
}

/// The stub of `apt-get` prints its arguments and installs nothing, so the command ends before the tests.
#[test]
fn installs_missing_programs() {
    const APT: (&str, &str) = ("apt-get", r#"echo "apt-get $@"; [ "$3" = update ]"#);
    const SUDO: (&str, &str) = ("sudo", r#"[ "$2" = true ] && exit; echo "as root"; shift; exec "$@""#);
    for (programs, uses_sudo) in [(&[("id", "echo 0"), APT][..], false), (&[("id", "echo 1000"), APT, SUDO], true)] {
        let folder = tempfile::tempdir().unwrap();
        let ended = Ended::of(&mut command(folder.path(), programs));
        assert!(ended.stdout.contains(" install -y -qq --no-install-recommends redis-server "), "{ended}");
        assert_eq!(ended.stdout.contains("as root"), uses_sudo, "{ended}");
    }
}
