//! Opens the journal that the configuration names, with this process registered as one that works on executions.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use troupe_journal::{Journal, PostgresJournal, SqliteJournal};

use crate::config::{Places, ServerSection};

/// What an address that is neither is told.
const ADDRESSES: &str = "the database is `sqlite`, for a file in the data folder, or the address of a PostgreSQL database, `postgres://…`";

/// Opens the journal.
///
/// # Errors
/// A database that cannot be reached, is damaged, or belongs to a newer version.
pub(crate) async fn journal(
    server: &ServerSection,
    places: &Places,
) -> anyhow::Result<Arc<dyn Journal>> {
    let database = server.database.read().map_err(anyhow::Error::msg)?;
    at(database.expose(), server, places).await
}

/// Whether the configuration names the file in the data folder.
pub(crate) fn is_in_file(server: &ServerSection) -> anyhow::Result<bool> {
    let database = server.database.read().map_err(anyhow::Error::msg)?;
    Ok(database.expose() == "sqlite")
}

/// A name that no other process has.
pub(crate) fn node_name() -> String {
    format!("{:032x}", u128::from_le_bytes(crate::clock::entropy()))
}

/// Opens the journal at an address.
///
/// # Errors
/// As [`journal`].
pub(crate) async fn at(
    address: &str,
    server: &ServerSection,
    places: &Places,
) -> anyhow::Result<Arc<dyn Journal>> {
    let node = node_name();
    let fail_point = server.fail_point.clone();
    match address {
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
        _ => bail!(ADDRESSES),
    }
}

/// Opens the database that the configuration names to read it: nothing of it is changed, and nothing can be written.
///
/// # Errors
/// A database that cannot be reached, has no tables of Troupe's, or those of another version.
pub(crate) async fn database_to_read(server: &ServerSection) -> anyhow::Result<Arc<dyn Journal>> {
    let database = server.database.read().map_err(anyhow::Error::msg)?;
    let address = database.expose();
    if !is_postgres(address) {
        bail!(ADDRESSES);
    }
    Ok(Arc::new(PostgresJournal::inspect(address).await?))
}

fn is_postgres(address: &str) -> bool {
    address.starts_with("postgres://") || address.starts_with("postgresql://")
}
