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

use support::Case;

/// Bytes, frames, and the most instructions beyond the hash.
const GATES: [(usize, usize, i64); 4] = [(1024, 1, 3000), (8192, 1, 3000), (1024, 4, 5000), (8192, 4, 5000)];

const TIMES: usize = 200;

const HASH: &str = "hash";
const LAYER: &str = "layer";

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, case, bytes, frames, times] = &arguments[..] {
        let number = |text: &String| text.parse().expect("a number");
        let case = match case.as_str() {
            HASH => Case::Hash { bytes: number(bytes) },
            LAYER => Case::Layer { bytes: number(bytes), frames: number(frames) },
            other => panic!("no such case: {other}"),
        };
        return case.prepare().run(number(times), counted);
    }
    let mut over = false;
    println!("{:<28} {:>12} {:>12} {:>10} {:>8}", "instructions", "hash", "layer", "beyond", "gate");
    for (bytes, frames, gate) in GATES {
        let (hash, layer) = (count(HASH, bytes, frames), count(LAYER, bytes, frames));
        let beyond = layer - hash;
        over |= beyond > gate;
        let body = format!("{bytes} bytes in {frames} frame(s)");
        println!("{body:<28} {hash:>12} {layer:>12} {beyond:>10} {gate:>8}");
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

fn count(case: &str, bytes: usize, frames: usize) -> i64 {
    let own = env::current_exe().expect("this program has a path");
    let valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*counted*"])
        .arg(own)
        .args([case, &bytes.to_string(), &frames.to_string(), &TIMES.to_string()])
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
