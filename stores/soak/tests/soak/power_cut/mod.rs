//! Power cuts in a loop, under load: each acknowledged delivery is on the disk.
//!
//! `kill -9` cannot show whether a store waits for the disk, because the system still writes what a dead process has left. So a library
//! of our own is preloaded into the child. It keeps what each file was like when it was last synced, and the next child finds nothing
//! else. The control is a disk that reports syncs of the log and does not keep them: it must lose some deliveries.

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

/// The library.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<(std::path::PathBuf, TempDir)> = OnceLock::new();
    let (library, _) = LIBRARY.get_or_init(|| {
        let folder = folder();
        let library = folder.path().join("power_cut.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/soak/power_cut/power_cut.c");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).args(["-ldl", "-lpthread"]);
        assert!(cc.status().expect("a C compiler").success());
        (library, folder)
    });
    library
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Disk {
    KeepsSyncs,
    /// It keeps the database's syncs only.
    IgnoresLog,
}

/// Cuts the power in each round. Returns how many deliveries were lost, and how many were acknowledged.
fn lost_by_power_cuts(name: &str, disk: Disk) -> (usize, usize) {
    let folder = folder();
    let file = store_file(folder.path());
    let store = fs::canonicalize(file.parent().expect("it lies in a folder")).expect("the folder");
    let [shadow, copy] = ["shadow", "copy"].map(|name| folder.path().join(name));
    fs::create_dir(&shadow).expect("a folder");

    let client = Client::new(|number| event(Kind::Plain, number));
    let mut soak = Soak::new(folder, Place::Sqlite(store.join("klikit.db")), client);
    // A delivery that was handled cannot be found to be lost.
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
    // These are handled, even if all before were lost.
    soak.load(a_while());
    soak.settle();
    soak.kill(0);

    let mut report = Report::of(&soak, &soak.records());
    println!("{name}: {} of {} lost in {} power cuts", report.lost.len(), report.acknowledged, rounds());
    report.wrong.extend((report.handled == 0).then(|| "nothing was handled".to_owned()));
    report.assert_right(name);
    (report.lost.len(), report.acknowledged)
}

/// Makes a folder a copy of another.
fn replace(folder: &Path, with: &Path) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir(folder).expect("a folder");
    for entry in fs::read_dir(with).expect("a folder") {
        let entry = entry.expect("a file");
        fs::copy(entry.path(), folder.join(entry.file_name())).expect("a copy");
    }
}

/// Checks that SQLite finds no damage. SQLite writes to the files while it looks.
fn check(folder: &Path) {
    let connection = rusqlite::Connection::open(folder.join("klikit.db")).expect("a file");
    let found: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(found, "ok");
}

#[test]
fn sqlite_loses_nothing_when_the_power_is_cut() {
    let (lost, acknowledged) = lost_by_power_cuts("SQLite, power cut", Disk::KeepsSyncs);
    assert!(acknowledged > 0);
    assert_eq!(lost, 0, "of {acknowledged}");
}

#[test]
fn power_cut_loses_what_is_not_synced() {
    let (lost, acknowledged) =
        lost_by_power_cuts("SQLite on a disk that ignores syncs of its log, power cut", Disk::IgnoresLog);
    assert!(lost > 0, "the power cut finds nothing: 0 of {acknowledged} are lost");
}
