//! Tests of the process: its start and stop, crashes, a failing printer, arguments and settings.

use std::fs;

use tower_klikit::testing::SignedDelivery;

use crate::kitchen::{Kitchen, command, hang_printer_at, run, ticket, tickets, tickets_in};

fn order(id: u32) -> String {
    format!(r#"{{"id":{id},"status":1,"cart":[{{"title":"Soup","quantity":1}}]}}"#)
}

#[test]
fn restart_after_kill_prints_each_ticket_once() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    let pipe = hang_printer_at(folder.path(), "order-42-cook-1");
    kitchen.deliver("evt-1", &[order(41), order(42), order(43)].join(","));
    kitchen.wait_for("printed  order-41-cook-1");
    kitchen.kill();
    fs::remove_file(pipe).unwrap();

    let kitchen = Kitchen::start(folder.path());
    kitchen.wait_for("known    order-41-cook-1");
    kitchen.wait_for("printed  order-42-cook-1");
    kitchen.wait_for("printed  order-43-cook-1");
    // Not handled a third time.
    kitchen.stop();
    let again = Kitchen::start(folder.path()).stop();
    assert!(!again.contains("order-41") && !again.contains("Dead letter"), "{again}");
    assert_eq!(tickets(folder.path()), ["order-41-cook-1", "order-42-cook-1", "order-43-cook-1"]);
}

#[test]
fn next_start_finishes_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    // Without its folder, the printer fails.
    fs::remove_dir(tickets_in(folder.path())).unwrap();
    kitchen.deliver("evt-1", &order(41));
    kitchen.wait_for("cannot print");
    let output = kitchen.stop();
    assert!(!output.contains("printed"), "{output}");

    let kitchen = Kitchen::start(folder.path());
    kitchen.wait_for("printed  order-41-cook-1");
    kitchen.stop();
    assert_eq!(ticket(folder.path(), "order-41-cook-1"), "COOK order 41 \n   1 x Soup\n");
}

#[test]
fn failing_printer_is_retried() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::start(folder.path());
    fs::remove_dir(tickets_in(folder.path())).unwrap();
    // The order without an id does not make a dead letter as long as the other is not printed.
    kitchen.deliver("evt-1", &[r#"{"status":1}"#.into(), order(41)].join(","));
    kitchen.wait_for("orders[1]: cannot print");
    fs::create_dir(tickets_in(folder.path())).unwrap();
    kitchen.wait_for("printed  order-41-cook-1");
    kitchen.wait_for("dead-lettered a delivery: orders[0]: `id` is missing");
    kitchen.stop();
}

#[test]
fn hung_printer_does_not_block_other_orders() {
    let folder = tempfile::tempdir().unwrap();
    let kitchen = Kitchen::spawn(command(folder.path()).env("TOKIO_WORKER_THREADS", "1"));
    hang_printer_at(folder.path(), "order-41-cook-1");
    kitchen.deliver("evt-1", &order(41));
    for id in 42..47 {
        kitchen.deliver(&format!("evt-{id}"), &order(id));
        kitchen.wait_for(&format!("printed  order-{id}-cook-1"));
    }
    kitchen.kill();
}

#[test]
fn data_folder_is_fixed() {
    let folder = tempfile::tempdir().unwrap();
    for setting in [None, Some("elsewhere/data")] {
        let mut command = command(folder.path());
        command.envs(setting.map(|path| ("KITCHEN_FOLDER", path)));
        let kitchen = Kitchen::spawn(&mut command);
        let path = folder.path().join(setting.unwrap_or("kitchen"));
        kitchen.wait_for(&format!("Tickets and inbox are in {}.", path.canonicalize().unwrap().display()));
        kitchen.stop();
        assert!(path.join("klikit.db").is_file() && path.join("tickets").is_dir());
    }
}

#[test]
fn help_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    for argument in ["--help", "-h"] {
        let (code, stdout, stderr) = run(command(folder.path()).arg(argument));
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        for word in ["Usage: ", "--once", "KITCHEN_FOLDER", "[default: kitchen]", "KLIKIT_WEBHOOK_SECRET", "PORT"] {
            assert!(stdout.contains(word), "{stdout}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn wrong_argument_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(command(folder.path()).arg("--onse"));
    assert_eq!((code, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with("error: unexpected argument: --onse\n\nUsage: "), "{stderr}");
}

#[test]
fn once_cleans_up() {
    let folder = tempfile::tempdir().unwrap();
    let (code, stdout, stderr) = run(command(folder.path()).arg("--once").env("TMPDIR", folder.path()));
    assert!(code == Some(0) && stdout.contains("order-42-stop-1.txt"), "{stdout}{stderr}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn demo_secret_only_replaces_a_missing_one() {
    let folder = tempfile::tempdir().unwrap();
    let delivery =
        |secret: &str| SignedDelivery::new(secret, r#"{"brand_id":1,"branch_id":2,"orders":[]}"#).event_id("evt-1");
    let kitchen = Kitchen::start(folder.path());
    kitchen.wait_for("using the demo secret");
    assert_eq!(kitchen.send(&delivery("klikit-demo-secret")), "200");
    kitchen.stop();

    let kitchen = Kitchen::spawn(command(folder.path()).env("KLIKIT_WEBHOOK_SECRET", "a secret of klikit's"));
    assert_eq!(kitchen.send(&delivery("klikit-demo-secret")), "403");
    assert_eq!(kitchen.send(&delivery("a secret of klikit's")), "200");
    let output = kitchen.stop();
    assert!(!output.contains("a secret of") && !output.contains("caution"), "{output}");

    let kitchen = Kitchen::spawn(command(folder.path()).env("KLIKIT_WEBHOOK_SECRET", "your-webhook-secret"));
    kitchen.wait_for("caution: the webhook secret");
    kitchen.stop();

    let (code, _, stderr) = run(command(folder.path()).env("KLIKIT_WEBHOOK_SECRET", ""));
    assert!(code == Some(1) && stderr.contains("KLIKIT_WEBHOOK_SECRET"), "{stderr}");
}

#[test]
fn wrong_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, stderr) = run(command(folder.path()).env("PORT", "80a"));
    assert_eq!(
        (code, stderr.trim()),
        (Some(1), "error: PORT is \"80a\": set it to a port number, or to 0 for any free port")
    );
}
