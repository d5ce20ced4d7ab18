//! The resident memory of a process, from `/proc`.

use std::fs;

pub(crate) const MIB: u64 = 1024 * 1024;

/// Resets the peak of the resident memory.
pub(crate) fn reset_peak(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a process may reset the peak of its children");
}

/// Returns the largest resident size, in bytes, since [`reset_peak`].
pub(crate) fn peak(pid: u32) -> u64 {
    status(pid, "VmHWM:")
}

/// Returns the current resident size, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    status(pid, "VmRSS:")
}

fn status(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of every process");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib * 1024
}
