//! Tests that demos succeed without any setting, and leave no file.

use crate::Example;

#[test]
fn demos_leave_no_files() {
    for (name, arguments) in [
        ("metrics", &["--once"][..]),
        ("receiver", &["--once"]),
        ("receiver", &["--once", "--store", "memory"]),
        ("receiver", &["--once", "--inbox"]),
    ] {
        let ended = Example::new(name, arguments).run();
        assert_eq!(ended.code, Some(0), "{ended}");
    }
}

/// After the crash in the demo, the log says which deliveries are leased, and until when.
#[test]
fn inbox_logs_its_starts_and_its_stop() {
    let ended = Example::new("receiver", &["--once", "--inbox"]).run();
    let lines: Vec<_> = ended.stdout.lines().filter_map(|line| line.trim().strip_prefix("INFO ")).collect();
    let [first, restart, draining, stopped] = lines[..] else { panic!("{ended}") };
    assert_eq!(first, "inbox: 0 pending, 0 leased, 0 dead letters");
    assert!(restart.contains(" pending, 1 leased until ") && restart.ends_with("Z at the latest, 0 dead letters"));
    assert_eq!([draining, stopped], ["draining 0 deliveries", "stopped"]);
}
