//! Compares the README with the command.

use crate::support::klikit;

#[test]
fn readme_shows_the_examples_of_help() {
    let readme = include_str!("../../README.md");
    for command in ["completions", "conform", "explain", "send", "sign"] {
        let help = klikit([command, "--help"]).run().success();
        let (_, examples) = help.split_once("\nExamples:\n").expect("examples at the end");
        for example in examples.lines().map(str::trim) {
            assert!(readme.contains(&format!("\n{example}\n")), "{example}");
        }
    }
}
