//! Tests that the commands of the guide "Operating" solve its incidents, on an inbox in SQLite.

mod incidents;
mod process;
mod shell;
#[allow(dead_code, reason = "the tests of other commands use the rest")]
#[path = "../support/mod.rs"]
mod support;

/// The guide.
const GUIDE: &str = include_str!("../../../docs/operating.md");

#[test]
fn guide_shows_the_commands_that_are_tested() {
    let tests = include_str!("incidents.rs");
    let blocks = GUIDE.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: Vec<_> = blocks.flat_map(str::lines).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        assert!(tests.contains(&format!("\"{command}\"")), "not tested: {command}");
    }
}
