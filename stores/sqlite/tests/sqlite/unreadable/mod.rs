//! Tests of unreadable rows and damaged pages: each affects only its own delivery or ledger row.

mod accepting;
mod damaged_pages;
mod forgetting;
mod ledger;
mod queues;
mod values;

use std::{
    fs::OpenOptions,
    io::{Seek, SeekFrom, Write},
};

use tower_klikit::inbox::{DeliveryId, LeaseBatch};
use tower_klikit_sqlite::SqliteStore;

use crate::support::Folder;

fn id(number: i64) -> DeliveryId {
    DeliveryId::new(number)
}

/// Runs statements on another connection.
fn change(folder: &Folder, sql: &str) {
    folder.connect().execute_batch(sql).unwrap();
}

fn dead_lettered(batch: &LeaseBatch) -> Vec<i64> {
    batch.dead_lettered.iter().map(|dead| dead.id.get()).collect()
}

/// Overwrites these pages with zeros, while no store has the file open.
fn damage(folder: &Folder, pages: &[i64]) {
    let mut file = OpenOptions::new().write(true).open(folder.file()).unwrap();
    for page in pages {
        file.seek(SeekFrom::Start(4096 * (page.unsigned_abs() - 1))).unwrap();
        file.write_all(&[0; 4096]).unwrap();
    }
}

/// Returns the numbers of a table's leaf pages, in the order of its rows.
fn leaves(folder: &Folder, table: &str) -> Vec<i64> {
    let find = "
        SELECT pageno
        FROM dbstat
        WHERE name = ?1 AND pagetype = 'leaf'
        ORDER BY path
        ";
    let connection = folder.connect();
    let mut leaves = connection.prepare(find).unwrap();
    let pages = leaves.query_map([table], |row| row.get(0)).unwrap();
    pages.collect::<Result<_, _>>().unwrap()
}

/// Drops a store, and waits until it has closed its file.
fn close(folder: &Folder, store: SqliteStore) {
    drop(store);
    folder.closed();
}
