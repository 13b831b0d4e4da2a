//! Opens the journal that the configuration names, with this process registered as one that works on executions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use troupe_journal::{Journal, PostgresJournal, SqliteJournal};

use crate::config::{Places, ServerSection};

/// Opens the journal.
///
/// # Errors
/// A database that cannot be reached, is damaged, or belongs to a newer version.
pub(crate) async fn journal(
    server: &ServerSection,
    places: &Places,
) -> anyhow::Result<Arc<dyn Journal>> {
    let node = format!("{:032x}", u128::from_le_bytes(crate::clock::entropy()));
    let fail_point = server.fail_point.clone();
    let database = server.database.read().map_err(anyhow::Error::msg)?;
    match database.expose() {
        "sqlite" => Ok(Arc::new(SqliteJournal::open(
            &places.data,
            node,
            fail_point,
        )?)),
        address if is_postgres(address) => {
            let lease = Duration::from_millis(server.lease_ms);
            Ok(Arc::new(
                PostgresJournal::connect(address, node, lease, fail_point).await?,
            ))
        }
        _ => bail!(
            "the database is `sqlite`, for a file in the data folder, or the address of a PostgreSQL database, `postgres://…`"
        ),
    }
}

fn is_postgres(address: &str) -> bool {
    address.starts_with("postgres://") || address.starts_with("postgresql://")
}
