//! The incidents, each solved with the commands of the guide.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use axum::{Router, routing::post_service};
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tower::Layer;
use tower_klikit::{
    KlikitVerifyLayer, WebhookSecret,
    inbox::{Inbox, Pause},
};
use tower_klikit_sqlite::SqliteStore;
use tower_klikit_test_support::service::{NEW_SECRET, OLD_SECRET, Service, open};

use crate::{
    GUIDE,
    process::{Process, Secrets},
    shell::{Shell, assert_shown},
};

fn shell(service: &Service) -> Shell<'_> {
    let secrets = Secrets { newest: OLD_SECRET, old: None };
    Shell { folder: service.folder.path(), store: "klikit.db", secrets }
}

/// Returns the lines of a table as words.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// Returns the first column of a table below its header.
fn first_column(table: &str) -> Vec<&str> {
    rows(table).into_iter().skip(1).filter_map(|row| row.first().copied()).collect()
}

/// Returns the results of the checks of `klikit conform --json`.
fn results(report: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).unwrap();
    report["rows"].as_array().unwrap().iter().map(|row| row["result"].as_str().unwrap().to_owned()).collect()
}

/// Writes a signed request into a file, as a proxy may keep it.
fn keep_request(folder: &Path, secret: &str) {
    let signature = WebhookSecret::new(secret).unwrap().sign("{}");
    let request = format!("POST / HTTP/1.1\nx-klikit-event-id: evt-1\nx-klikit-signature: {signature}\n\n{{}}");
    fs::write(folder.join("request.txt"), request).unwrap();
}

/// Returns a service with a store in `timed.db`, for which it is always this time.
fn at(time: SystemTime) -> Service {
    let mut service = Service::in_file();
    let path = service.folder.path().join("timed.db");
    let store = SqliteStore::builder().create().clock(move || time).open(path).unwrap();
    service.inbox = Inbox::new(store).keep_bodies(Duration::from_secs(35 * 24 * 60 * 60));
    service
}

#[tokio::test]
async fn dead_letters() {
    let service = Service::in_file();
    let worker = service.dead_letter_four().await;
    let stats = shell(&service).look("klikit inbox stats --reasons");
    assert!(rows(&stats).contains(&vec!["3", "the", "printer", "is", "out", "of", "paper"]), "{stats}");

    service.answers(StatusCode::OK, "");
    let command = "klikit inbox retry --reason 'out of paper' --younger-than 1h --rate 5";
    assert_eq!(shell(&service).act(command), "Retried 3 deliveries.\n");
    service.until("three are handled", |counts| counts.done == 3 && counts.dead == 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn klikit_says_failed() {
    let service = Service::in_file();
    service.fail_twice().await;
    let listed = shell(&service).look("klikit inbox list --event-id evt-1");
    assert_eq!(first_column(&listed), ["1"]);
    let shown = shell(&service).look("klikit inbox show 1");
    assert_eq!(shown.matches("kitchen-1").count(), 2, "{shown}");
    assert!(shown.contains("503") && shown.contains("the printer is offline"), "{shown}");

    keep_request(service.folder.path(), "the secret of somebody else");
    let command = "klikit explain request.txt";
    assert_shown(command);
    assert!(shell(&service).run(command, 1).contains("The delivery does not verify."));
}

#[test]
fn secret_rotated() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("new-secret.txt"), NEW_SECRET).unwrap();
    keep_request(folder.path(), NEW_SECRET);
    let [before, during, after] = [(OLD_SECRET, None), (NEW_SECRET, Some(OLD_SECRET)), (NEW_SECRET, None)]
        .map(|(newest, old)| Secrets { newest, old });
    let shell = |secrets| Shell { folder: folder.path(), store: "klikit.db", secrets };
    let service = Process::start(folder.path(), before);

    let command = "klikit explain request.txt --candidate-file new-secret.txt";
    assert_shown(command);
    let explained = shell(before).run(command, 1);
    assert!(rows(&explained).contains(&vec!["secret", "new-secret.txt"]), "{explained}");

    let checked = shell(during).look("klikit doctor");
    let seen = "KLIKIT_WEBHOOK_SECRET and KLIKIT_WEBHOOK_SECRET_OLD hold plausible secrets";
    assert!(checked.contains(seen), "{checked}");

    let command = "klikit conform http://localhost:8080/webhooks/klikit --only genuine,rotated-secret";
    assert_shown(command);
    let conform = |service: &Process, code| {
        let command = command.replace("localhost:8080", &service.address().to_string()) + " --json";
        results(&shell(during).run(&command, code))
    };
    assert_eq!(conform(&service, 1), ["fail", "not_observable"]);
    drop(service);
    let service = Process::start(folder.path(), during);
    assert_eq!(conform(&service, 0), ["pass", "pass"]);
    drop(service);
    let service = Process::start(folder.path(), after);
    assert_eq!(conform(&service, 1), ["pass", "fail"]);
}

#[tokio::test]
async fn secret_rotated_without_restart() {
    let service = Service::in_file();
    for (file, secret) in [("new-secret.txt", NEW_SECRET), ("old-secret.txt", OLD_SECRET)] {
        fs::write(service.folder.path().join(file), secret).unwrap();
    }
    let verify = KlikitVerifyLayer::with_keyring(service.keyring.clone());
    let receiver = post_service(verify.layer(service.inbox.acceptor()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, Router::new().route("/webhooks/klikit", receiver)).into_future());
    let files = "--secret-file new-secret.txt --old-secret-file old-secret.txt";
    assert!(GUIDE.contains(&format!("`{files}`")), "not in the guide: {files}");
    let command =
        format!("klikit conform http://{address}/webhooks/klikit --only genuine,rotated-secret {files} --json");
    let folder = service.folder.path().to_owned();
    let conform = async |code| {
        let (folder, command) = (folder.clone(), command.clone());
        let secrets = Secrets { newest: "the secret of somebody else", old: None };
        let run = move || Shell { folder: &folder, store: "klikit.db", secrets }.run(&command, code);
        results(&tokio::task::spawn_blocking(run).await.unwrap())
    };
    assert_eq!(conform(1).await, ["fail", "not_observable"]);
    service.keyring.add("2026-12", WebhookSecret::new(NEW_SECRET).unwrap()).unwrap();
    assert_eq!(conform(0).await, ["pass", "pass"]);
}

#[tokio::test]
async fn disk_full() {
    let service = at(SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60));
    let worker = service.work();
    service.accept(1..=3).await;
    service.until("all are handled", |counts| counts.done == 3).await;
    worker.stop().await;
    service.accept([4]).await;
    let shell = Shell { store: "timed.db", ..shell(&service) };
    assert!(rows(&shell.look("klikit inbox stats")).contains(&vec!["done", "3"]));
    let dry_run = shell.look("klikit inbox purge --older-than 7d --dry-run");
    assert_eq!(dry_run, "Purge would apply to 3 deliveries.\n");
    assert_eq!(shell.act("klikit inbox purge --older-than 7d"), "Purged 3 deliveries.\n");
    let counts = service.inbox.counts().await.unwrap();
    assert_eq!((counts.ready, counts.stored()), (1, 1));
}

#[tokio::test]
async fn database_moved() {
    let time: Timestamp = "2026-01-31T18:30:00+07:00".parse().unwrap();
    let service = at(time.try_into().unwrap());
    let worker = service.work();
    service.accept([1]).await;
    service.until("it is handled", |counts| counts.done == 1).await;
    worker.stop().await;
    service.accept([2]).await;
    let shell = Shell { store: "timed.db", ..shell(&service) };
    shell.look("klikit inbox backup moved.db");
    let counts = |table: &str| rows(table)[1..5].iter().map(|row| row.join(" ")).collect::<Vec<_>>();
    let old = shell.look("klikit inbox stats");
    let new = shell.look("klikit inbox stats --store moved.db");
    assert_eq!(counts(&old), ["ready 1", "leased 0", "dead 0", "done 1"]);
    assert_eq!(counts(&old), counts(&new));

    let moved = Shell { store: "moved.db", ..shell };
    let command = "klikit ledger forget --accepted 2026-01-31T18:00:00+07:00..2026-01-31T19:30:00+07:00";
    assert_eq!(moved.act(command), "Forgot 1 delivery.\n");
    let moved = Service::on(open(&service.folder, "moved.db"));
    moved.accept([1]).await;
    assert_eq!(moved.inbox.counts().await.unwrap().ready, 2);
}

#[tokio::test]
async fn poison_order() {
    let service = Service::in_file();
    service.crash_three_workers().await;
    let listed = shell(&service).look("klikit inbox list --state ready,leased --attempts 2..");
    assert_eq!(first_column(&listed), ["1"]);
    let shown = shell(&service).look("klikit inbox show 1");
    assert!(shown.matches("outcome unknown").count() >= 2, "{shown}");
    let command = "klikit inbox dead-letter 1 --reason-text 'crashes the handler'";
    assert_eq!(shell(&service).act(command), "Dead-lettered 1 delivery.\n");
    let worker = service.work();
    service.until("the other is handled", |counts| (counts.dead, counts.done) == (1, 1)).await;
    worker.stop().await;
    assert_eq!(service.handled(), ["evt-2"]);
}

#[tokio::test]
async fn wrong_clock() {
    let service = Service::in_file();
    let worker = service.expire_first().await;
    let path = service.folder.path().join("klikit.db");
    // The system clock was set back by an hour after the delivery was accepted.
    let step =
        "UPDATE klikit_clock SET ahead = ahead + 3600000, latest = latest + 3600000, generation = generation + 1";
    rusqlite::Connection::open(path).unwrap().execute_batch(step).unwrap();
    assert_shown("klikit doctor");
    let report = shell(&service).run("klikit doctor", 1);
    let clock = report.lines().find(|line| line.starts_with("clock ")).unwrap();
    assert!(clock.contains("warning") && clock.contains("ahead of this machine's"), "{report}");

    let command = "klikit inbox retry --reason 'expired before it was handled'";
    assert_eq!(shell(&service).act(command), "Retried 1 delivery.\n");
    service.until("it is handled", |counts| counts.done == 1).await;
    worker.stop().await;
}

#[tokio::test]
async fn replay_attack() {
    let service = Service::in_file();
    service.accept_copies().await;
    let listed = shell(&service).look("klikit inbox list --same-body-as 1");
    assert_eq!(first_column(&listed), ["1", "2", "3", "4"]);
    let copies: Vec<_> = rows(&listed).into_iter().filter(|row| row.contains(&"copy")).map(|row| row[0]).collect();
    assert_eq!(copies, ["2", "3", "4"]);
    let command = "klikit inbox dead-letter 2 3 4 --reason-text 'a replay'";
    assert_eq!(shell(&service).act(command), "Dead-lettered 3 deliveries.\n");
    let worker = service.work();
    service.until("the genuine one is handled", |counts| (counts.dead, counts.done) == (3, 1)).await;
    worker.stop().await;
    assert_eq!(service.handled(), ["evt-1"]);
}

#[tokio::test]
async fn branch_without_orders() {
    let service = Service::in_file();
    service.inbox.operator("budi").pause(&Pause::everything().tenant("default")).await.unwrap();
    let worker = service.work();
    service.accept(7..=8).await;
    let pauses = shell(&service).look("klikit inbox pauses");
    assert_eq!(rows(&pauses)[1][..3], ["default", "every", "budi"]);
    let listed = shell(&service).look("klikit inbox list --branch 7 --younger-than 2h");
    assert_eq!(rows(&listed)[1][..3], ["1", "ready", "0"]);
    assert_eq!(shell(&service).act("klikit inbox resume --all"), "Resumed tenant=default (paused by budi).\n");
    service.until("all are handled", |counts| counts.done == 2).await;
    worker.stop().await;
}

#[tokio::test]
async fn rolled_back() {
    let service = Service::in_file();
    let worker = service.release_bug().await;
    shell(&service).act("klikit inbox pause --all");
    service.accept([2]).await;
    worker.stop().await;

    service.answers(StatusCode::OK, "");
    let worker = service.work();
    service.stays_idle().await;
    shell(&service).act("klikit inbox resume --all");
    let command = "klikit inbox retry --accepted 2026-01-31T18:00:00+07:00.. --rate 20";
    assert_eq!(shell(&service).act(command), "Retried 1 delivery.\n");
    service.until("both are handled", |counts| counts.done == 2).await;
    let command = "klikit inbox replay --accepted 2026-01-31T18:00:00+07:00.. --rate 20";
    assert_eq!(shell(&service).act(command), "Replayed 2 deliveries.\n");
    service.until("both are handled again", |counts| counts.done == 2).await;
    worker.stop().await;
    let mut handled = service.handled();
    handled.sort_unstable();
    assert_eq!(handled, ["evt-1", "evt-1", "evt-2", "evt-2"]);
}
