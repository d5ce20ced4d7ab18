//! Reports of the command.

use serde_json::Value;

use crate::{
    stores::TestStore,
    support::{Ended, Klikit, klikit},
};

/// A report with `--json`.
pub(crate) struct Report {
    pub(crate) json: Value,
    ended: Ended,
}

impl Report {
    /// Runs the command on a store.
    #[track_caller]
    pub(crate) fn on(store: &TestStore, options: &[&str]) -> Self {
        let report = Self::of(doctor(options).env("KLIKIT_STORE", &store.location));
        assert_eq!(report.json["store"], store.name, "{}", report.ended);
        report
    }

    /// Runs the command, whose exit code must fit the report.
    #[track_caller]
    pub(crate) fn of(run: Klikit) -> Self {
        let ended = run.run();
        let json: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
        let is_fine = json["blockers"] == 0 && json["warnings"] == 0;
        assert_eq!(ended.code, Some(if is_fine { 0 } else { 1 }), "{ended}");
        Self { json, ended }
    }

    /// Returns the row of a check.
    #[track_caller]
    pub(crate) fn row(&self, check: &str) -> &Value {
        let rows = self.json["rows"].as_array().unwrap();
        rows.iter().find(|row| row["check"] == check).unwrap_or_else(|| panic!("no {check} in {}", self.ended))
    }

    /// Asserts that a row has this result, and that it contains this text.
    #[track_caller]
    pub(crate) fn assert_row(&self, check: &str, result: &str, seen: &str) {
        let row = self.row(check);
        assert_eq!(row["result"], result, "{row}");
        assert!(row["seen"].as_str().unwrap().contains(seen), "{seen:?} is not in {row}");
        let has_action = row["action"].as_str().is_some_and(|action| !action.is_empty());
        assert_eq!(has_action, ["warning", "blocker"].contains(&result), "{row}");
    }

    /// Asserts that exactly these checks have this result.
    #[track_caller]
    pub(crate) fn assert_checks(&self, result: &str, checks: &[&str]) {
        let rows = self.json["rows"].as_array().unwrap();
        let found: Vec<_> = rows.iter().filter(|row| row["result"] == result).map(|row| &row["check"]).collect();
        assert_eq!(found, checks, "{}", self.ended);
    }

    /// Asserts that no output contains this text.
    #[track_caller]
    pub(crate) fn assert_hides(&self, text: &str) {
        assert!(!self.ended.to_string().contains(text), "{}", self.ended);
    }
}

/// Prepares a run with `--json`.
pub(crate) fn doctor(options: &[&str]) -> Klikit {
    klikit(["doctor", "--json"].iter().chain(options).copied())
}
