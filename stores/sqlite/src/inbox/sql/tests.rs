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
    let InboxSql { rows, accept, lease, attempt, settle, admin, pause } = &sql;
    let statements = [
        &rows.read_state_and_keys,
        &rows.read_token_and_attempts,
        &rows.read_digest_and_head,
        &rows.read_head,
        &rows.read_body,
        &rows.enqueue,
        &rows.dequeue,
        &rows.delete,
        &rows.delete_body,
        &rows.drop_body,
        &accept.find_by_key,
        &accept.find_state_by_key,
        &accept.insert,
        &accept.insert_body,
        &accept.revive,
        &accept.replace_body,
        &lease.list_tenants_unordered,
        &lease.list_tenants_ordered,
        &lease.list_due_unordered,
        &lease.list_due_ordered,
        &lease.list_misdated,
        &lease.find_due,
        &lease.read_for_leasing,
        &lease.read_held,
        &lease.read_tenant,
        &lease.read_labels,
        &lease.find_head_of_queue,
        &lease.find_next_queue,
        &lease.extend_expired,
        &lease.lease,
        &lease.take_over,
        &lease.dead_letter_expired,
        &lease.dead_letter_unreadable,
        &lease.delete_stray_entries,
        &lease.start,
        &lease.extend,
        &attempt.record_end,
        &attempt.record_unknown,
        &attempt.record_superseded,
        &attempt.delete_record,
        &attempt.delete_records,
        &attempt.close,
        &attempt.list,
        &settle.read_for_settling,
        &settle.mark_done,
        &settle.reschedule,
        &settle.reschedule_unordered,
        &settle.dead_letter,
        &settle.expire,
        &settle.release,
        &admin.list_all,
        &admin.list_dead,
        &admin.find_next_bucket,
        &admin.list_of_event_id,
        &admin.list_of_order,
        &admin.list_of_branch,
        &admin.list_done_until,
        &admin.read_entry,
        &admin.requeue,
        &admin.keep_history,
        &admin.read_key_and_accepted_at,
        &admin.read_since,
        &admin.read_for_deleting,
        &admin.list_finished_of_event,
        &admin.list_finished_of_key,
        &admin.count_keys_of_event,
        &admin.count_claimed_in_ledger,
        &admin.count_key_in_ledger,
        &admin.forget_event_in_ledger,
        &admin.forget_claimed_in_ledger,
        &admin.forget_key_in_ledger,
        &pause.release,
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
        (&lease.list_tenants_unordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered"),
        (&lease.list_tenants_unordered, "SEARCH i USING COVERING INDEX k_inbox_unordered (tenant>?)"),
        (&lease.list_tenants_ordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered"),
        (&lease.list_tenants_ordered, "SEARCH i USING COVERING INDEX k_inbox_ordered (tenant>?)"),
        (
            &lease.list_due_unordered,
            "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (tenant=? AND due>? AND due<?)",
        ),
        (&lease.list_due_ordered, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (tenant=? AND due>? AND due<?)"),
        (&lease.list_misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_unordered (tenant=? AND due>?)"),
        (&lease.list_misdated, "SEARCH k_inbox USING COVERING INDEX k_inbox_ordered (tenant=? AND due>?)"),
        (&lease.find_due, "SEARCH k_inbox USING INTEGER PRIMARY KEY (rowid=?)"),
        (&lease.read_held, "SEARCH k_inbox USING INTEGER PRIMARY KEY (rowid=?)"),
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
        (&admin.find_next_bucket, "SEARCH k_inbox USING COVERING INDEX k_inbox_search (<expr>>?)"),
        (&admin.list_of_event_id, "SEARCH k_inbox USING COVERING INDEX k_inbox_search (<expr>=? AND event_id=?)"),
        (&admin.list_of_order, "SEARCH k_inbox USING COVERING INDEX k_inbox_search (<expr>=?)"),
        (&admin.list_of_branch, "SEARCH k_inbox USING COVERING INDEX k_inbox_search (<expr>=?)"),
        (&admin.list_done_until, "SEARCH k_inbox USING COVERING INDEX k_inbox_done (due>? AND due<?)"),
    ] {
        let plan = plan(&connection, statement);
        assert!(plan.iter().any(|found| found == step), "{plan:#?}: {statement}");
    }
    let finished = plan(&connection, &admin.count_finished);
    assert!(finished.iter().any(|step| step.contains("k_inbox_dead")), "{finished:#?}");
    assert!(finished.iter().any(|step| step.contains("k_inbox_done")), "{finished:#?}");
}
