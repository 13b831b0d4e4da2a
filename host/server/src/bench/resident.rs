//! Memory that is in use, as Linux counts it.

use std::fs;

/// Bytes of a page.
const PAGE_BYTES: usize = 4096;

/// Resident memory of this process and of those that it has started and that are still there, in bytes.
pub(super) fn resident_bytes() -> usize {
    let children = children();
    let processes = children.iter().map(String::as_str).chain(["self"]);
    processes.map(resident_bytes_of).sum()
}

fn resident_bytes_of(process: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/statm")).unwrap_or_default();
    let pages = status
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0).saturating_mul(PAGE_BYTES)
}

fn children() -> Vec<String> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten();
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    threads
        .flatten()
        .filter_map(of_thread)
        .flat_map(|children| {
            children
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_children_are_counted() {
        let own = resident_bytes_of("self");
        assert!(own > PAGE_BYTES, "{own}");
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let found = children().contains(&child.id().to_string());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
