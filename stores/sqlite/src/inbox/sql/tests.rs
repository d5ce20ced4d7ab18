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
    let InboxSql { rows, accept, lease, settle, admin } = &sql;
    let statements = [
        &rows.read_state_and_keys,
        &rows.read_token_and_attempts,
        &rows.read_digest,
        &rows.read_head,
        &rows.read_body,
        &rows.enqueue,
        &rows.dequeue,
        &rows.delete,
        &rows.delete_body,
        &accept.find_by_key,
        &accept.find_state_by_key,
        &accept.insert,
        &accept.insert_body,
        &accept.revive,
        &accept.replace_body,
        &lease.list_due_unordered,
        &lease.list_due_ordered,
        &lease.list_misdated,
        &lease.find_due,
        &lease.read_for_leasing,
        &lease.read_keys_of_expired,
        &lease.find_head_of_queue,
        &lease.find_next_queue,
        &lease.extend_expired,
        &lease.lease,
        &lease.dead_letter_expired,
        &lease.dead_letter_unreadable,
        &lease.delete_stray_entries,
        &lease.record_attempt,
        &lease.extend,
        &settle.read_for_settling,
        &settle.mark_done,
        &settle.reschedule,
        &settle.reschedule_unordered,
        &settle.dead_letter,
        &settle.release,
        &admin.list_all,
        &admin.list_dead,
        &admin.list_done_until,
        &admin.read_entry,
        &admin.retry,
        &admin.read_key_and_accepted_at,
        &admin.read_since,
        &admin.read_for_forgetting,
        &admin.list_finished_of_event,
        &admin.list_finished_of_key,
        &admin.forget_event_in_ledger,
        &admin.forget_claimed_in_ledger,
        &admin.forget_key_in_ledger,
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
    let InboxSql { lease, admin, .. } = &sql;
    for (statement, step) in [
        (&lease.list_due_unordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (due<?)"),
        (&lease.list_due_ordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (due<?)"),
        (&lease.list_misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (due>?)"),
        (&lease.list_misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (due>?)"),
        (&lease.find_due, "SEARCH k_inbox USING INTEGER PRIMARY KEY (rowid=?)"),
        (&lease.read_keys_of_expired, "SEARCH k_inbox USING INTEGER PRIMARY KEY (rowid=?)"),
        (&lease.list_leased_keys, "SEARCH k_inbox USING INDEX k_inbox_leased (due>? AND due<?)"),
        (&lease.find_head_of_queue, "SEARCH k_inbox_key USING PRIMARY KEY (ordering_key=?)"),
        (&lease.find_next_queue, "SEARCH k_inbox_key USING PRIMARY KEY (ordering_key>? AND ordering_key<?)"),
        (&admin.count_unfinished, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
        (&admin.count_unfinished, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
        (&admin.count_backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
        (&admin.count_backlog, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
        (&admin.count_stored, "SCAN k_inbox USING COVERING INDEX k_inbox_unordered"),
        (&admin.count_stored, "SCAN k_inbox USING COVERING INDEX k_inbox_ordered"),
        (&admin.count_stored, "SCAN k_inbox USING COVERING INDEX k_inbox_dead"),
        (&admin.count_stored, "SCAN k_inbox USING COVERING INDEX k_inbox_done"),
        (&admin.list_dead, "SEARCH k_inbox USING COVERING INDEX k_inbox_dead (id>?)"),
        (&admin.list_done_until, "SEARCH k_inbox USING COVERING INDEX k_inbox_done (due>? AND due<?)"),
    ] {
        let plan = plan(&connection, statement);
        assert!(plan.iter().any(|found| found == step), "{plan:#?}: {statement}");
    }
    let finished = plan(&connection, &admin.count_finished);
    assert!(finished.iter().any(|step| step.contains("k_inbox_dead")), "{finished:#?}");
    assert!(finished.iter().any(|step| step.contains("k_inbox_done")), "{finished:#?}");
}
