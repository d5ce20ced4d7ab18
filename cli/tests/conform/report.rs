//! Reads the report of a run.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Ended, klikit};

/// The results of a run by their checks.
pub(crate) struct Report {
    rows: BTreeMap<String, (String, String)>,
    pub(crate) code: Option<i32>,
}

/// Runs all checks, with a time for answers that busy machines keep.
pub(crate) fn conform(url: &str, arguments: &[&str]) -> Report {
    let arguments = ["--answer-within", "8000"].iter().chain(arguments).copied();
    run(url, arguments)
}

/// Runs some checks, with the time for answers that is the default.
pub(crate) fn conform_only(url: &str, checks: &str) -> Report {
    run(url, ["--only", checks])
}

fn run<'a>(url: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Report {
    Report::read(&klikit(["conform", url, "--json"].into_iter().chain(arguments)).run())
}

impl Report {
    fn read(ended: &Ended) -> Self {
        assert_eq!(ended.stderr, "", "{ended}");
        let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended}"));
        let text = |row: &Value, field: &str| row[field].as_str().expect("the field is a text").to_owned();
        let rows = report["rows"].as_array().expect("rows").iter();
        let rows = rows.map(|row| (text(row, "check"), (text(row, "result"), text(row, "seen"))));
        Self { rows: rows.collect(), code: ended.code }
    }

    /// Returns the checks with this result, in alphabetical order.
    pub(crate) fn with_result(&self, result: &str) -> Vec<&str> {
        self.rows.iter().filter(|(_, (other, _))| other == result).map(|(check, _)| check.as_str()).collect()
    }

    /// Returns what a check has seen.
    pub(crate) fn seen(&self, check: &str) -> &str {
        &self.rows[check].1
    }

    /// Returns the number of checks that have run.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}
