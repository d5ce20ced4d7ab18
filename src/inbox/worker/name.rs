//! The default name of a worker.

use std::{env, fs, process, sync::Arc};

/// The longest name of a worker, in characters.
const MAX_LEN: usize = 100;

/// Returns the name of the machine and the id of the process, such as `kitchen-1/4711`.
pub(super) fn default_name() -> Arc<str> {
    let id = process::id();
    match machine() {
        Some(machine) => format!("{}/{id}", shortened(&machine)).into(),
        None => id.to_string().into(),
    }
}

/// Returns the first characters of a name.
pub(super) fn shortened(name: &str) -> Arc<str> {
    name.chars().take(MAX_LEN).collect::<String>().into()
}

fn machine() -> Option<String> {
    let names = [
        env::var("HOSTNAME").ok(),
        env::var("COMPUTERNAME").ok(),
        fs::read_to_string("/proc/sys/kernel/hostname").ok(),
    ];
    names.into_iter().flatten().map(|name| name.trim().to_owned()).find(|name| !name.is_empty())
}
