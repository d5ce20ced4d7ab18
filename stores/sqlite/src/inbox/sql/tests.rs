use rusqlite::Connection;

use super::*;
use crate::schema::Schema;

fn plan(connection: &Connection, statement: &str) -> Vec<String> {
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
    steps.collect::<Result<_, _>>().unwrap()
}

/// Returns a database with the tables, and the statements on them.
fn tables() -> (Connection, InboxSql) {
    let mut connection = Connection::open_in_memory().unwrap();
    Schema::new("k_").unwrap().migrate(&mut connection).unwrap();
    (connection, InboxSql::new("k_"))
}

#[test]
fn only_counting_scans_a_table() {
    let (connection, sql) = tables();
    let statements = [
        &sql.find,
        &sql.insert,
        &sql.insert_body,
        &sql.insert_key,
        &sql.revive,
        &sql.revive_body,
        &sql.find_state,
        &sql.find_body,
        &sql.unordered,
        &sql.ordered,
        &sql.misdated,
        &sql.due,
        &sql.attempts,
        &sql.read,
        &sql.read_head,
        &sql.read_digest,
        &sql.head_of_queue,
        &sql.next_queue,
        &sql.is_expired,
        &sql.extend_expired,
        &sql.lease,
        &sql.dead_letter_expired,
        &sql.dead_letter_unreadable,
        &sql.delete_stray,
        &sql.start,
        &sql.extend,
        &sql.state,
        &sql.delete,
        &sql.keep,
        &sql.reschedule,
        &sql.reschedule_unordered,
        &sql.dead_letter,
        &sql.release,
        &sql.retry,
        &sql.delete_body,
        &sql.delete_key,
        &sql.dead,
        &sql.next,
        &sql.show_state,
        &sql.done,
        &sql.accepted,
        &sql.since,
        &sql.finished_of_event,
        &sql.forget_event_in_ledger,
        &sql.forget_claimed,
        &sql.finished_of_key,
        &sql.forget_key_in_ledger,
        &sql.to_forget,
    ];
    for statement in statements {
        for step in plan(&connection, statement) {
            // Subqueries may be scanned, since they have few rows.
            assert!(!step.starts_with("SCAN k_") && !step.starts_with("SCAN i"), "{step}: {statement}");
            assert!(!step.contains("TEMP B-TREE"), "{step}: {statement}");
        }
    }
}

#[test]
fn statements_use_the_indexes() {
    let (connection, sql) = tables();
    for (statement, step) in [
        (&sql.unordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (due<?)"),
        (&sql.ordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (due<?)"),
        (&sql.due, "SEARCH k_inbox USING INTEGER PRIMARY KEY (rowid=?)"),
        (&sql.leased_keys, "SEARCH k_inbox USING INDEX k_inbox_leased (due>? AND due<?)"),
        (&sql.head_of_queue, "SEARCH k_inbox_key USING PRIMARY KEY (ordering_key=?)"),
        (&sql.next_queue, "SEARCH k_inbox_key USING PRIMARY KEY (ordering_key>? AND ordering_key<?)"),
        (&sql.backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
        (&sql.backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
        (&sql.stored, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
        (&sql.stored, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
        (&sql.stored, "SCAN k_inbox USING COVERING INDEX k_inbox_dead"),
        (&sql.stored, "SCAN k_inbox USING COVERING INDEX k_inbox_done"),
        (&sql.misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (due>?)"),
        (&sql.misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (due>?)"),
        (&sql.unfinished, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
        (&sql.unfinished, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
        (&sql.dead, "SEARCH k_inbox USING COVERING INDEX k_inbox_dead (id>?)"),
        (&sql.done, "SEARCH k_inbox USING COVERING INDEX k_inbox_done (due>? AND due<?)"),
    ] {
        let plan = plan(&connection, statement);
        assert!(plan.iter().any(|found| found == step), "{plan:#?}: {statement}");
    }
    let finished = plan(&connection, &sql.finished);
    assert!(finished.iter().any(|step| step.contains("k_inbox_dead")), "{finished:#?}");
    assert!(finished.iter().any(|step| step.contains("k_inbox_done")), "{finished:#?}");
}
