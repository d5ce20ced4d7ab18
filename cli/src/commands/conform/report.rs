//! The report of a run: a table, JSON, or JUnit's XML.

use quick_junit::{NonSuccessKind, Report as JunitReport, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::finding::{ConformRow, Verdict};
use crate::{
    error::CliError,
    output::{Output, table},
};

/// The rows of a run, which are all checks that were chosen unless the run was interrupted.
pub(super) struct ConformReport {
    pub(super) url: String,
    pub(super) rows: Vec<ConformRow>,
    /// Whether ctrl-c ended the run early.
    pub(super) interrupted: bool,
}

/// The output with `--json`.
#[derive(Serialize)]
struct Json<'a> {
    url: &'a str,
    interrupted: bool,
    passed: usize,
    failed: usize,
    not_observable: usize,
    rows: Vec<JsonRow<'a>>,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    check: &'static str,
    result: Verdict,
    seen: &'a str,
    why: &'static str,
}

impl ConformReport {
    /// Returns whether a check failed.
    pub(super) fn has_failed(&self) -> bool {
        self.count(Verdict::Fail) > 0
    }

    /// Prints the report.
    pub(super) fn print(&self, output: &mut Output) -> Result<(), CliError> {
        if output.is_json() {
            return output.json(&self.json());
        }
        let mut table = table(&["check", "result", "seen", "why it matters"]);
        for ConformRow { check, finding } in &self.rows {
            table.add_row([check.name(), finding.verdict.name(), &finding.seen, check.why()]);
        }
        output.table(&table)?;
        let [passed, failed, unseen] = [Verdict::Pass, Verdict::Fail, Verdict::NotObservable].map(|it| self.count(it));
        output.line(format_args!("\n{}: {passed} passed, {failed} failed, {unseen} not observable", self.url))?;
        if self.interrupted {
            output.line("Interrupted.")?;
        }
        Ok(())
    }

    fn json(&self) -> Json<'_> {
        let rows = self.rows.iter().map(|ConformRow { check, finding }| JsonRow {
            check: check.name(),
            result: finding.verdict,
            seen: &finding.seen,
            why: check.why(),
        });
        Json {
            url: &self.url,
            interrupted: self.interrupted,
            passed: self.count(Verdict::Pass),
            failed: self.count(Verdict::Fail),
            not_observable: self.count(Verdict::NotObservable),
            rows: rows.collect(),
        }
    }

    /// Returns the report as JUnit's XML. A check that is not observable is skipped.
    pub(super) fn to_junit(&self) -> String {
        let mut suite = TestSuite::new(self.url.as_str());
        for ConformRow { check, finding } in &self.rows {
            let mut status = match finding.verdict {
                Verdict::Pass => TestCaseStatus::success(),
                Verdict::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
                Verdict::NotObservable => TestCaseStatus::skipped(),
            };
            status.set_message(finding.seen.as_str());
            if finding.verdict == Verdict::Fail {
                status.set_description(check.why());
            }
            let mut case = TestCase::new(check.name(), status);
            case.set_classname("klikit.conform");
            suite.add_test_case(case);
        }
        let mut report = JunitReport::new("klikit conform");
        report.add_test_suite(suite);
        report.to_string().expect("writing to memory does not fail")
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.finding.verdict == verdict).count()
    }
}
