//! Instructions that the verify layer takes in addition to the hash. The counts are reproducible, so they have limits.
//!
//! `cargo bench --bench instructions` runs this program under valgrind's callgrind. It exits with 1 if a count exceeds
//! its limit, and with 2 if valgrind is missing. Valgrind's processor has no SHA instructions, so the hash takes more
//! instructions than on real processors. The difference between the layer and the hash does not depend on that.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::{
    env,
    process::{Command, exit},
};

use support::{BodyShape, Case, run};

/// For each body, the most instructions that the layer may take in addition to the hash, without a log subscriber.
///
/// The counts of one binary are reproducible. The same code in another folder or next to other code differed by up to 2%, so
/// the limits are 2% above the highest count.
const LIMITS: [(BodyShape, i64); 4] = [
    (BodyShape { bytes: 1024, frames: 1 }, 3550),
    (BodyShape { bytes: 8192, frames: 1 }, 3550),
    (BodyShape { bytes: 1024, frames: 4 }, 6350),
    (BodyShape { bytes: 8192, frames: 4 }, 7000),
];

/// The number of runs of a case. The printed counts are per run.
const RUNS: usize = 200;

const CASES: [Case; 3] = [Case::Hash, Case::Bare, Case::Layer];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, case, bytes, frames] = &arguments[..] {
        let number = |text: &String| text.parse().expect("the argument is a number");
        let case = CASES.into_iter().find(|known| format!("{known:?}") == *case).expect("the case exists");
        let body = BodyShape { bytes: number(bytes), frames: number(frames) };
        return run(case, body, RUNS, counted);
    }
    let mut is_over = false;
    println!("instructions for one request; the hash is HMAC-SHA256 of the body");
    println!("{:<28} {:>12} {:>12} {:>12} {:>12}", "body", "hash", "layer", "layer - hash", "limit");
    for (body, limit) in LIMITS {
        let [hash, bare, with_layer] = CASES.map(|case| count(case, body));
        let layer = with_layer - bare;
        is_over |= layer - hash > limit;
        println!("{body:<28} {hash:>12} {layer:>12} {:>12} {limit:>12}", layer - hash);
    }
    if is_over {
        eprintln!("the layer takes more instructions than the limit allows");
        exit(1);
    }
}

/// Runs a case. Callgrind counts only the instructions in this function.
#[inline(never)]
fn counted(case: &mut dyn FnMut()) {
    case();
}

/// Returns the instructions of one run of a case, measured in a child process.
fn count(case: Case, body: BodyShape) -> i64 {
    let own = env::current_exe().expect("this program has a path");
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(own)
        .args([format!("{case:?}"), body.bytes.to_string(), body.frames.to_string()])
        .output();
    let Ok(output) = valgrind else {
        eprintln!("this bench needs valgrind: install it, and run the bench again");
        exit(2);
    };
    let report = String::from_utf8_lossy(&output.stderr);
    let total = report.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<i64>().ok());
    match total {
        Some(total) if total > 0 => total / RUNS as i64,
        _ => panic!("callgrind counted nothing:\n{report}"),
    }
}
