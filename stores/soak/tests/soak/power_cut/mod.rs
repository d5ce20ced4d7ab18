//! Tests of power cuts in a loop, under load: each acknowledged delivery is durable.
//!
//! `kill -9` cannot show whether a store waits for the disk, because the system still writes the data of a dead
//! process. So a library is preloaded into the child. It keeps a copy of each file as of its last sync, and the next
//! child starts with these copies. The control test is a disk that ignores syncs of the log, which must lose some
//! deliveries.

use std::{fs, path::Path, process::Command, sync::OnceLock};

use tempfile::TempDir;

use crate::{
    a_while,
    child::{Place, Work},
    client::Client,
    deliveries::{Kind, event},
    report::Report,
    rounds,
    soak::{Soak, folder, store_file},
};

/// Compiles the library, once, and returns its path.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(std::path::PathBuf, TempDir)> = OnceLock::new();
    let (library, _) = LIBRARY.get_or_init(|| {
        let folder = folder();
        let library = folder.path().join("power_cut.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/power_cut/power_cut.c");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).args(["-ldl", "-lpthread"]);
        assert!(cc.status().expect("a C compiler is installed").success());
        (library, folder)
    });
    library
}

/// The behaviour of the simulated disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    KeepsSyncs,
    /// Keeps only syncs of the database file.
    IgnoresLog,
}

/// Cuts the power once in each round. Returns how many deliveries were lost, and how many were acknowledged.
fn lost_by_power_cuts(name: &str, disk: Disk) -> (usize, usize) {
    let folder = folder();
    let file = store_file(folder.path());
    let store = fs::canonicalize(file.parent().expect("the file is in a folder")).expect("the folder exists");
    let [shadow, copy] = ["shadow", "copy"].map(|name| folder.path().join(name));
    fs::create_dir(&shadow).expect("the folder can be created");

    let client = Client::new(|number| event(Kind::Plain, number));
    let mut soak = Soak::new(folder, Place::Sqlite(store.join("klikit.db")), client);
    // Handle no deliveries until the last round: the loss of a handled delivery would not be noticed.
    soak.orders.work = Work::Not;
    for _ in 0..rounds() {
        let mut command = soak.orders.command();
        command.env("LD_PRELOAD", library());
        command.env("KLIKIT_POWER_CUT_FOLDER", &store).env("KLIKIT_POWER_CUT_SHADOW", &shadow);
        if disk == Disk::IgnoresLog {
            command.env("KLIKIT_POWER_CUT_IGNORES_LOG", "1");
        }
        soak.start_as(command);
        soak.load(a_while());
        soak.kill(0);
        replace(&store, &shadow);
        replace(&copy, &shadow);
        check(&copy);
    }
    soak.orders.work = Work::All;
    soak.start();
    // Add some deliveries that are certainly handled, even if all earlier ones were lost.
    soak.load(a_while());
    soak.settle();
    soak.kill(0);

    let mut report = Report::of(&soak, &soak.records());
    println!("{name}: {} of {} lost in {} power cuts", report.lost.len(), report.acknowledged, rounds());
    report.wrong.extend((report.handled == 0).then(|| "no delivery was handled".to_owned()));
    report.assert_right(name);
    (report.lost.len(), report.acknowledged)
}

/// Replaces a folder with a copy of another folder.
fn replace(folder: &Path, with: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).expect("the folder can be created");
    for entry in fs::read_dir(with).expect("the folder can be read") {
        let entry = entry.expect("the folder can be read");
        fs::copy(entry.path(), folder.join(entry.file_name())).expect("the file can be copied");
    }
}

/// Checks that SQLite finds no damage. The check changes the files, so it needs a copy of them.
fn check(folder: &Path) {
    let connection = rusqlite::Connection::open(folder.join("klikit.db")).expect("the file opens");
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("the check runs");
    assert_eq!(found, "ok");
}

#[test]
fn sqlite_loses_nothing_when_the_power_is_cut() {
    let (lost, acknowledged) = lost_by_power_cuts("SQLite, power cut", Disk::KeepsSyncs);
    assert!(acknowledged > 0);
    assert_eq!(lost, 0, "deliveries of {acknowledged} were lost");
}

#[test]
fn power_cut_loses_unsynced_deliveries() {
    let (lost, acknowledged) =
        lost_by_power_cuts("SQLite on a disk that ignores syncs of its log, power cut", Disk::IgnoresLog);
    assert!(lost > 0, "the simulation is ineffective: 0 of {acknowledged} are lost");
}
