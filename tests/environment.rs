//! `KlikitVerifyLayer::from_env` reads its secret from the environment.
//!
//! Each case runs in its own process, because all threads of a process share the environment. This test is therefore a
//! program without a test harness.

use std::{
    env,
    process::{Command, ExitCode},
};

use tower_klikit::KlikitVerifyLayer;

const CHILD: &str = "as-a-child";

fn main() -> ExitCode {
    if env::args().any(|argument| argument == CHILD) {
        return match KlikitVerifyLayer::from_env() {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                println!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let cases = [
        (None, "the environment variable KLIKIT_WEBHOOK_SECRET is not set\n"),
        (Some(""), "the environment variable KLIKIT_WEBHOOK_SECRET is empty\n"),
        (Some(" \n"), "the environment variable KLIKIT_WEBHOOK_SECRET is blank\n"),
        (Some("secret\n"), ""),
    ];
    for (value, message) in cases {
        let mut child = Command::new(env::current_exe().expect("this program has no path"));
        child.arg(CHILD).env_remove("KLIKIT_WEBHOOK_SECRET").envs(value.map(|value| ("KLIKIT_WEBHOOK_SECRET", value)));
        let output = child.output().expect("this program does not start");
        assert_eq!(String::from_utf8_lossy(&output.stdout), message, "for {value:?}");
        assert_eq!(output.status.success(), message.is_empty(), "for {value:?}");
    }
    println!("{} cases passed", cases.len());
    ExitCode::SUCCESS
}
