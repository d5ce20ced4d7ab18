//! Tests on a terminal.

use std::{fs, time::Duration};

use tower_klikit::WebhookSecret;

use crate::{
    receiver::{Receiver, Reply},
    support::SECRET,
    terminal::Terminal,
};

#[test]
fn asks_for_secret_without_showing_it() {
    let folder = tempfile::tempdir().unwrap();
    let body = folder.path().join("body.json");
    fs::write(&body, "{}").unwrap();
    let mut terminal = Terminal::start(&format!("sign '{}'", body.display()), None);
    terminal.wait_for("webhook secret (not shown): ");
    terminal.wait_until_input_is_hidden();
    terminal.input(&format!("{SECRET}\n"));
    let (code, shown) = terminal.end();
    let signature = WebhookSecret::new(SECRET).unwrap().sign("{}").to_string();
    assert!(code == Some(0) && shown.contains(&signature) && !shown.contains(SECRET), "{shown}");
}

#[test]
fn ctrl_c_at_the_prompt_restores_the_terminal() {
    let mut terminal = Terminal::start("sign /dev/null", None);
    terminal.wait_for("webhook secret (not shown): ");
    terminal.wait_until_input_is_hidden();
    terminal.input("\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == Some(130) && !shown.contains("error"), "{code:?} {shown}");
    assert!(shown.contains(" echo ") && shown.contains(" icanon "), "{shown}");
}

#[test]
fn shows_progress_and_colours_on_a_terminal() {
    let receiver = Receiver::start(|_, _| Reply::Late(Duration::from_millis(300), 200));
    let mut terminal = Terminal::start(&format!("send {} --count 4", receiver.url), Some(SECRET));
    terminal.wait_for("/4 deliveries");
    let (code, shown) = terminal.end();
    assert!(code == Some(0) && shown.contains("delivered at the first attempt"), "{shown}");

    let (_, help) = Terminal::start("--help", None).end();
    assert!(help.contains('\u{1b}'), "{help}");
}

#[test]
fn ctrl_c_in_a_terminal_reports_what_was_done() {
    let receiver = Receiver::start(|_, _| Reply::Late(Duration::from_secs(60), 200));
    let mut terminal = Terminal::start(&format!("send {}", receiver.url), Some(SECRET));
    receiver.wait_for_requests(1);
    terminal.input("\u{3}");
    let (code, shown) = terminal.end();
    assert!(code == Some(130) && shown.contains("Interrupted."), "{code:?} {shown}");
}
