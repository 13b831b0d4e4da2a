//! The journal in a PostgreSQL database, for processes of many machines.
//!
//! Every transaction is held over its own statements alone. What processes know of each other is in the database:
//! who owns an execution by its row, who is alive by the server's clock.

mod append;
mod connection;
mod fault;
mod format_1;
mod listen;
mod node;
mod read;
mod record;
mod schema;
mod whole;
mod write;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use troupe_workflow::{Event, ExecutionId, Snapshot, Timestamp, WorkflowDigest};

use crate::encode::encode;
use crate::error::{AppendError, OpenError, ReadError, Retry};
use crate::execution::{
    Append, Archive, Beat, Claim, Claimed, Decide, Epoch, ExecutionRow, Listing, NewExecution,
    Release, Stored,
};
use crate::fail_point::{FailPoint, Gate};
use crate::journal::{AllRecords, Journal, Reading, Writing};
use crate::prepared::Prepared;
use crate::record::{Document, Record, RecordListing, RecordWrite};
use connection::{Access, Database, Step};
use listen::Ear;
use node::Node;
use writer::Writers;

/// The durable record in a PostgreSQL database (15 or newer).
pub struct PostgresJournal {
    database: Database,
    writers: Writers,
    ear: Ear,
    node: Node,
    fail_point: Option<Arc<FailPoint>>,
}

impl PostgresJournal {
    /// Connects to a database, makes its tables where there are none, and registers this process under `node`, a name
    /// that no other has, for as long as `lease` from its last [`beat`](Journal::beat). The tables are in the schema
    /// `troupe`, or in the first of the address's `search_path` (`?options=-csearch_path%3Dmine`).
    ///
    /// # Errors
    /// A database that cannot be reached or may not be used, tables of a newer format, a name that another process has.
    pub async fn connect(
        url: &str,
        node: String,
        lease: Duration,
        fail_point: Option<Arc<FailPoint>>,
    ) -> Result<Self, OpenError> {
        let database = Database::new(url, Access::Write)?;
        let mut connection = database.open().await?;
        schema::prepare(&mut connection, database.place(), fail_point.as_deref()).await?;
        let failed = |source| OpenError::Database {
            place: database.place().to_owned(),
            source,
        };
        let node = Node::new(node, lease);
        let registered = node::register(&mut connection, &node).await;
        registered
            .map_err(|error| failed(error.into()))?
            .ok_or_else(|| failed(taken(&node.id).into()))?;
        Ok(Self {
            writers: Writers::start(&database, fail_point.as_ref()),
            ear: Ear::open(database.pool()),
            database,
            node,
            fail_point,
        })
    }

    /// Connects to a database to read it, and changes nothing of it: no tables are made, this process is not registered,
    /// and the server refuses every write.
    ///
    /// # Errors
    /// A database that cannot be reached, or has no tables, or those of another format.
    pub async fn inspect(url: &str) -> Result<Self, OpenError> {
        let database = Database::new(url, Access::Read)?;
        let mut connection = database.open().await?;
        schema::check(&mut connection, database.place()).await?;
        Ok(Self {
            writers: Writers::start(&database, None),
            ear: Ear::open(database.pool()),
            database,
            node: Node::new("nobody".to_owned(), Duration::ZERO),
            fail_point: None,
        })
    }

    fn read<'a, A: Send + Sync + 'a, T: Send + 'a>(
        &'a self,
        about: A,
        ask: Step<A, T, ReadError>,
    ) -> Reading<'a, T> {
        Box::pin(async move { self.database.read(&about, ask).await })
    }

    async fn transact<A: Sync, T>(
        &self,
        name: &'static str,
        about: &A,
        work: Step<A, T, AppendError>,
    ) -> Result<T, AppendError> {
        let gate = Gate::enter(self.fail_point.as_deref(), name);
        gate.leave(self.database.write(about, work).await)
    }

    /// Extends this process's lease, or registers it again where others took it for dead. Answers the server's time.
    async fn renew(&self) -> Result<Timestamp, AppendError> {
        let renewed = self.database.read(&self.node, |node, connection| {
            Box::pin(async { Ok(node::live(connection, node).await?) })
        });
        let gate = Gate::enter_alone(self.fail_point.as_deref(), "renew");
        let renewed = gate.leave(renewed.await.map_err(AppendError::unread))?;
        renewed.ok_or_else(|| AppendError::Database {
            retry: Retry::Never,
            source: taken(&self.node.id).into(),
        })
    }
}

fn taken(node: &str) -> String {
    format!("another process is called {node}")
}

impl Journal for PostgresJournal {
    fn node(&self) -> &str {
        &self.node.id
    }

    fn create(&self, new: NewExecution) -> Writing<'_, Epoch> {
        Box::pin(async move {
            let (rows, blobs) = encode(new.id, 0, std::slice::from_ref(&new.created))?;
            let about = (new, rows, blobs, &self.node.id);
            self.transact("create", &about, |(new, rows, blobs, node), connection| {
                Box::pin(write::create(connection, new, (rows, blobs), node))
            })
            .await
        })
    }

    fn append<'a>(&'a self, append: Append<'a>) -> Writing<'a, u64> {
        Box::pin(async move { self.writers.append(Prepared::new(append)?).await })
    }

    fn bring(&self, id: ExecutionId, known: u64, decide: Arc<Decide>) -> Writing<'_, Option<u64>> {
        Box::pin(async move {
            let about = (id, known, decide);
            self.transact("append", &about, |(id, known, decide), connection| {
                Box::pin(append::bring(connection, *id, *known, &**decide))
            })
            .await
        })
    }

    fn claim(&self, claim: Claim) -> Writing<'_, Vec<Claimed>> {
        Box::pin(async move {
            let about = (claim, &self.node.id);
            self.transact("claim", &about, |(claim, node), connection| {
                Box::pin(write::claim(connection, claim, node))
            })
            .await
        })
    }

    fn take(&self, id: ExecutionId) -> Writing<'_, Claimed> {
        Box::pin(async move {
            let about = (id, &self.node.id);
            self.transact("claim", &about, |(id, node), connection| {
                Box::pin(write::take(connection, *id, node))
            })
            .await
        })
    }

    fn release(&self, release: Release) -> Writing<'_, bool> {
        Box::pin(async move {
            self.transact("release", &release, |release, connection| {
                Box::pin(write::release(connection, release))
            })
            .await
        })
    }

    fn beat(&self, now: Timestamp) -> Writing<'_, Beat> {
        Box::pin(async move {
            let servers = self.renew().await?;
            // At once, though this machine's clock be ahead.
            let due = now.min(servers);
            let mut beat = Beat {
                freed: 0,
                clock_offset_ms: servers.as_millis().saturating_sub(now.as_millis()),
            };
            let has_dead = self
                .database
                .read(&(), |(), connection| Box::pin(node::has_dead(connection)));
            if has_dead.await.map_err(AppendError::unread)? {
                let freeing = self.transact("beat", &due, |due, connection| {
                    Box::pin(node::free(connection, *due))
                });
                beat.freed = freeing.await?;
            }
            Ok(beat)
        })
    }

    fn beat_every(&self) -> Duration {
        self.node.beat_every()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let remove = self.database.read(&self.node, |node, connection| {
                Box::pin(async { Ok(node::remove(connection, node).await?) })
            });
            if let Err(error) = remove.await {
                tracing::debug!(%error, "this process's registration stays until its lease is over");
            }
        })
    }

    fn delete(&self, id: ExecutionId) -> Writing<'_, bool> {
        Box::pin(async move {
            self.transact("delete", &id, |id, connection| {
                Box::pin(write::delete(connection, *id))
            })
            .await
        })
    }

    fn restore(&self, archive: Archive) -> Writing<'_, ()> {
        Box::pin(async move {
            let (rows, blobs) = encode(archive.row.id, 0, &archive.events)?;
            let about = (archive, rows, blobs);
            self.transact("restore", &about, |(archive, rows, blobs), connection| {
                Box::pin(write::restore(connection, archive, (rows, blobs)))
            })
            .await
        })
    }

    fn write(&self, documents: Vec<Document>, records: Vec<RecordWrite>) -> Writing<'_, ()> {
        Box::pin(async move {
            let about = (documents, records);
            self.transact("records", &about, |(documents, records), connection| {
                Box::pin(record::write_all(connection, documents, records))
            })
            .await
        })
    }

    fn put_back(&self, documents: Vec<Document>, records: Vec<Record>) -> Writing<'_, ()> {
        Box::pin(async move {
            let about = (documents, records);
            self.transact("records", &about, |(documents, records), connection| {
                Box::pin(whole::put_back(connection, documents, records))
            })
            .await
        })
    }

    fn find(&self, id: ExecutionId) -> Reading<'_, ExecutionRow> {
        self.read(id, |id, connection| Box::pin(read::find(connection, *id)))
    }

    fn list(&self, listing: Listing) -> Reading<'_, Vec<ExecutionRow>> {
        self.read(listing, |listing, connection| {
            Box::pin(read::list(connection, listing))
        })
    }

    fn load(&self, id: ExecutionId) -> Reading<'_, Stored> {
        self.read(id, |id, connection| Box::pin(read::load(connection, *id)))
    }

    fn events(&self, id: ExecutionId, after: u64, limit: u32) -> Reading<'_, Vec<Event>> {
        self.read((id, (after, limit)), |(id, page), connection| {
            Box::pin(read::events(connection, *id, *page))
        })
    }

    fn document(&self, digest: WorkflowDigest) -> Reading<'_, Document> {
        self.read(digest, |digest, connection| {
            Box::pin(record::document(connection, digest))
        })
    }

    fn owned(&self) -> Reading<'_, Vec<(ExecutionId, Epoch)>> {
        self.read(&self.node.id, |node, connection| {
            Box::pin(read::owned(connection, node))
        })
    }

    fn written_by_others(&self) -> Reading<'_, Vec<(ExecutionId, u64)>> {
        self.read(&self.node.id, |node, connection| {
            Box::pin(read::written_by_others(connection, node))
        })
    }

    fn next_due(&self) -> Reading<'_, Option<Timestamp>> {
        self.read((), |(), connection| Box::pin(read::next_due(connection)))
    }

    fn queued(&self, now: Timestamp, most: u32) -> Reading<'_, u32> {
        self.read((now, most), |(now, most), connection| {
            Box::pin(read::queued(connection, *now, *most))
        })
    }

    fn record(&self, kind: &'static str, id: String) -> Reading<'_, Option<Record>> {
        self.read((kind, id), |(kind, id), connection| {
            Box::pin(record::find(connection, kind, id))
        })
    }

    fn records(&self, listing: RecordListing) -> Reading<'_, Vec<Record>> {
        self.read(listing, |listing, connection| {
            Box::pin(record::list(connection, listing))
        })
    }

    fn ids(&self, after: Option<String>, limit: u32) -> Reading<'_, Vec<String>> {
        self.read((after, limit), |(after, limit), connection| {
            Box::pin(whole::ids(connection, after.as_deref(), *limit))
        })
    }

    fn snapshot(&self, id: ExecutionId) -> Reading<'_, Option<Snapshot>> {
        self.read(id, |id, connection| {
            Box::pin(whole::snapshot(connection, *id))
        })
    }

    fn documents(&self, after: Option<WorkflowDigest>, limit: u32) -> Reading<'_, Vec<Document>> {
        self.read((after, limit), |(after, limit), connection| {
            let after = after.as_ref().map(WorkflowDigest::as_str);
            Box::pin(whole::documents(connection, after, *limit))
        })
    }

    fn all_records(&self, after: Option<(String, String)>, limit: u32) -> Reading<'_, AllRecords> {
        self.read((after, limit), |(after, limit), connection| {
            Box::pin(whole::records(connection, after.as_ref(), *limit))
        })
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.ear.wait())
    }
}
