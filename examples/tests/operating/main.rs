//! Tests that the code of the guide "Operating" solves its incidents, on an inbox in SQLite.

mod guide;
mod incidents;

use std::{fs, path::Path};

/// The guide shows the functions without their visibility.
#[test]
fn guide_shows_the_code_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("../docs/operating.md")).unwrap();
    let code = fs::read_to_string(root.join("tests/operating/guide.rs")).unwrap().replace("pub(crate) ", "");
    let blocks = text.split("```rust,ignore\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let functions: Vec<_> = blocks.filter(|block| block.contains("fn ")).collect();
    assert_eq!(functions.len(), code.matches("\nfn ").count() + code.matches("\nasync fn ").count());
    for function in functions {
        assert!(code.contains(function.trim_end()), "not tested:\n{function}");
    }
}
