//! `KlikitVerifyLayer::from_env` reads its secret from the environment.
//!
//! Each case runs in its own process, because all threads of a process share the environment. This test is therefore a
//! program without a test harness.

use std::{
    env,
    error::Error,
    process::{Command, Output},
};

use tower_klikit::KlikitVerifyLayer;

const CHILD: &str = "as-a-child";

const REMEDY: &str = "set it to the webhook_secret_key that klikit shows";

fn main() -> Result<(), Box<dyn Error>> {
    if env::args().any(|argument| argument == CHILD) {
        // If a `main` returns an error, Rust prints its `Debug` form.
        KlikitVerifyLayer::from_env()?;
        return Ok(());
    }
    let cases =
        [(None, Some("not set")), (Some(""), Some("empty")), (Some(" \n"), Some("blank")), (Some("secret\n"), None)];
    for (value, fault) in cases {
        let mut child = Command::new(env::current_exe()?);
        child.arg(CHILD).env_remove("KLIKIT_WEBHOOK_SECRET").envs(value.map(|value| ("KLIKIT_WEBHOOK_SECRET", value)));
        let Output { status, stderr, .. } = child.output()?;
        let message = fault.map_or_else(String::new, |fault| {
            format!("Error: the environment variable KLIKIT_WEBHOOK_SECRET is {fault}: {REMEDY}\n")
        });
        assert_eq!(String::from_utf8_lossy(&stderr), message, "for {value:?}");
        assert_eq!(status.success(), fault.is_none(), "for {value:?}");
    }
    println!("{} cases passed", cases.len());
    Ok(())
}
