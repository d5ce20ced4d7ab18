//! What the layer costs beyond the hash, in instructions: they repeat, so they are what is gated.
//!
//! `cargo bench --bench instructions` runs itself under valgrind's callgrind and exits with 1 when a count is over its gate,
//! with 2 when there is no valgrind. Valgrind's processor has no SHA instructions, so the hash itself costs more here than
//! anywhere else; the difference between the layer and the hash does not depend on it.
#![allow(missing_docs, unreachable_pub)]

mod support;

use std::{
    env,
    process::{Command, exit},
};

use support::{Case, run};

/// Bytes, frames, and the most instructions beyond the hash, with nobody to listen. One binary's counts repeat; the same code in
/// another folder, or beside other code, has had two in a hundred more or less, so the gates are that much above the most.
const GATES: [(usize, usize, i64); 4] = [(1024, 1, 3550), (8192, 1, 3550), (1024, 4, 6350), (8192, 4, 7000)];

const TIMES: usize = 200;

const CASES: [Case; 3] = [Case::Hash, Case::Bare, Case::Layer];

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, case, bytes, frames] = &arguments[..] {
        let number = |text: &String| text.parse().expect("a number");
        let case = CASES.into_iter().find(|known| format!("{known:?}") == *case).expect("a case");
        return run(case, number(bytes), number(frames), TIMES, counted);
    }
    let mut over = false;
    println!("{:<28} {:>12} {:>12} {:>10} {:>8}", "instructions", "hash", "layer", "beyond", "gate");
    for (bytes, frames, gate) in GATES {
        let [hash, bare, layer] = CASES.map(|case| count(case, bytes, frames));
        let beyond = layer - bare - hash;
        over |= beyond > gate;
        let body = format!("{bytes} bytes in {frames} frame(s)");
        println!("{body:<28} {hash:>12} {:>12} {beyond:>10} {gate:>8}", layer - bare);
    }
    if over {
        eprintln!("over the gate");
        exit(1);
    }
}

/// Callgrind counts what happens in here.
#[inline(never)]
fn counted(case: &mut dyn FnMut()) {
    case();
}

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
