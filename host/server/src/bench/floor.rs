//! What the disk does without Troupe: one fsync after another, and SQLite's own commits of one row.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{now, payload, percentile};

const SYNCS: usize = 200;
const COMMITS: u32 = 500;

pub(super) fn measure(folder: &Path) -> anyhow::Result<Value> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let begun = now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort();
    let commits =
        troupe_journal::measure_commits(&folder.join("floor.db"), &payload(), COMMITS, now)
            .map_err(anyhow::Error::from_boxed)?;
    Ok(json!({
        "fsync_p50_ms": percentile(&times, 500),
        "fsync_p99_ms": percentile(&times, 990),
        "sqlite_one_row_commits_per_second": commits.round(),
    }))
}
