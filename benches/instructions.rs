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

use support::{Case, run};

/// Bytes, frames, and the most instructions in addition to the hash, without a log subscriber. The counts of one binary
/// are reproducible. The same code in another folder or next to other code differed by up to 2%, so the limits are 2%
/// above the highest count.
const LIMITS: [(usize, usize, i64); 4] = [(1024, 1, 3550), (8192, 1, 3550), (1024, 4, 6350), (8192, 4, 7000)];

const TIMES: usize = 200;

const CASES: [Case; 3] = [Case::Hash, Case::Bare, Case::Layer];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, case, bytes, frames] = &arguments[..] {
        let number = |text: &String| text.parse().expect("the argument is a number");
        let case = CASES.into_iter().find(|known| format!("{known:?}") == *case).expect("the case exists");
        return run(case, number(bytes), number(frames), TIMES, counted);
    }
    let mut is_over = false;
    println!("{:<28} {:>12} {:>12} {:>10} {:>8}", "instructions", "hash", "layer", "beyond", "limit");
    for (bytes, frames, limit) in LIMITS {
        let [hash, bare, layer] = CASES.map(|case| count(case, bytes, frames));
        let beyond = layer - bare - hash;
        is_over |= beyond > limit;
        let body = format!("{bytes} bytes in {frames} frame(s)");
        println!("{body:<28} {hash:>12} {:>12} {beyond:>10} {limit:>8}", layer - bare);
    }
    if is_over {
        eprintln!("a count is over its limit");
        exit(1);
    }
}

/// Runs a case. Callgrind counts only the instructions in this function.
#[inline(never)]
fn counted(case: &mut dyn FnMut()) {
    case();
}

/// Returns the instructions of one run of a case, measured in a child process.
fn count(case: Case, bytes: usize, frames: usize) -> i64 {
    let own = env::current_exe().expect("this program has a path");
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(own)
        .args([format!("{case:?}"), bytes.to_string(), frames.to_string()])
        .output();
    let Ok(output) = valgrind else {
        eprintln!("this bench needs valgrind");
        exit(2);
    };
    let report = String::from_utf8_lossy(&output.stderr);
    let total = report.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<i64>().ok());
    match total {
        Some(total) if total > 0 => total / TIMES as i64,
        _ => panic!("callgrind counted nothing:\n{report}"),
    }
}
