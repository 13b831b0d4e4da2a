//! Connections to the server: how they are made, how long anything on them may take, and transactions on them.

use std::str::FromStr;
use std::time::Duration;

use futures::future::BoxFuture;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, PgPool, Postgres};

use super::fault::{Fault, uncommitted};
use crate::error::{AppendError, OpenError, ReadError};

/// Connections for all but appends: bounds what one process asks of the server, which has some hundred for all.
const CONNECTIONS_MAX: u32 = 8;
/// Until a connection is made, or one of the pool is free.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Until the server gives a statement up by itself.
const STATEMENT_MAX_S: u64 = 20;
/// Until the server gives up waiting for somebody else's transaction.
const LOCK_MAX_S: u64 = 10;
/// Until nobody waits for an answer any more: the server must have said by then that it gave up, so the network is gone.
const ANSWER_MAX: Duration = Duration::from_secs(25);
/// How often something is done that others are in the way of, or a lost connection.
const TRIES: u32 = 6;
/// Before it is done again; so many times as it was tried.
const PAUSE: Duration = Duration::from_millis(5);
/// Where the tables are, unless the address says otherwise.
const SCHEMA: &str = "troupe";

/// Something to do on a connection, about what it is given. (A function beside its matter, for a closure that borrows
/// it makes no future that can go to another thread.)
pub(super) type Step<A, T, E> =
    for<'c> fn(&'c A, &'c mut PgConnection) -> BoxFuture<'c, Result<T, Fault<E>>>;

/// What is to be done with a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The way to one database.
#[derive(Clone)]
pub(super) struct Database {
    options: PgConnectOptions,
    settings: String,
    pool: PgPool,
    place: String,
}

impl Database {
    /// Connects nothing yet.
    pub(super) fn new(url: &str, access: Access) -> Result<Self, OpenError> {
        let options = PgConnectOptions::from_str(url).map_err(|error| OpenError::Database {
            place: "at the address that was given".to_owned(),
            source: error.into(),
        })?;
        let place = format!(
            "postgres://{}@{}:{}/{}",
            options.get_username(),
            options.get_host(),
            options.get_port(),
            options.get_database().unwrap_or(options.get_username()),
        );
        let given = options.get_options().unwrap_or_default();
        let schema = (!given.contains("search_path")).then_some(SCHEMA);
        let settings = settings(schema, access);
        let options = options
            .application_name("troupe")
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(CONNECT_MAX)
            // A stale one is noticed by its use.
            .test_before_acquire(false)
            .after_connect({
                let settings = settings.clone();
                move |connection, _| {
                    let settings = AssertSqlSafe(settings.clone());
                    Box::pin(async move { configure(connection, settings).await })
                }
            })
            .connect_lazy_with(options.clone());
        Ok(Self {
            options,
            settings,
            pool,
            place,
        })
    }

    /// Connects for the first time.
    pub(super) async fn open(&self) -> Result<PgConnection, OpenError> {
        self.connect().await.map_err(|fault| OpenError::Database {
            place: self.place.clone(),
            source: AppendError::from(fault).into(),
        })
    }

    /// The address, without its password.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// A connection outside of the pool.
    pub(super) async fn connect(&self) -> Result<PgConnection, Fault<AppendError>> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            configure(&mut connection, AssertSqlSafe(self.settings.clone())).await?;
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(connected) => connected.map_err(Fault::Database),
            Err(_) => Err(Fault::Silence(CONNECT_MAX)),
        }
    }

    /// A connection of the pool. After a failure those that nobody has used since are asked first whether they still
    /// are any.
    async fn acquire(&self, tries: u32) -> sqlx::Result<PoolConnection<Postgres>> {
        loop {
            let mut connection = self.pool.acquire().await?;
            if tries == 1 || connection.ping().await.is_ok() {
                return Ok(connection);
            }
            connection.close_on_drop();
        }
    }

    /// Asks the server something.
    pub(super) async fn read<A: Sync, T>(
        &self,
        about: &A,
        ask: Step<A, T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut tries = 1;
        loop {
            match self.read_once(about, ask, tries).await {
                Err(fault) if tries < TRIES && fault.may_repeat() => pause(tries).await,
                done => return Ok(done?),
            }
            tries += 1;
        }
    }

    async fn read_once<A: Sync, T>(
        &self,
        about: &A,
        ask: Step<A, T, ReadError>,
        tries: u32,
    ) -> Result<T, Fault<ReadError>> {
        let mut connection = self.acquire(tries).await?;
        let answer = in_time(ask(about, &mut connection)).await;
        if answer.as_ref().is_err_and(Fault::spoils_connection) {
            connection.close_on_drop();
        }
        answer
    }

    /// Does something in a transaction of its own.
    pub(super) async fn write<A: Sync, T>(
        &self,
        about: &A,
        work: Step<A, T, AppendError>,
    ) -> Result<T, AppendError> {
        let mut tries = 1;
        loop {
            match self.write_once(about, work, tries).await {
                Err(fault) if tries < TRIES && fault.may_repeat() => pause(tries).await,
                done => return Ok(done?),
            }
            tries += 1;
        }
    }

    async fn write_once<A: Sync, T>(
        &self,
        about: &A,
        work: Step<A, T, AppendError>,
        tries: u32,
    ) -> Result<T, Fault<AppendError>> {
        let mut connection = self.acquire(tries).await?;
        let done = in_transaction(&mut connection, about, work).await;
        if done.as_ref().is_err_and(Fault::spoils_connection) {
            connection.close_on_drop();
        }
        done
    }
}

/// Does something in a transaction. Dropping it undoes it, unless its commit is on the way.
pub(super) async fn in_transaction<A: Sync, T>(
    connection: &mut PgConnection,
    about: &A,
    work: Step<A, T, AppendError>,
) -> Result<T, Fault<AppendError>> {
    let mut transaction = in_time(async { Ok(connection.begin().await?) }).await?;
    let done = in_time(work(about, &mut transaction)).await;
    match done {
        Ok(answer) => match tokio::time::timeout(ANSWER_MAX, transaction.commit()).await {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(error)) => Err(uncommitted(error)),
            Err(elapsed) => Err(Fault::Unknown(elapsed.into())),
        },
        Err(fault) => {
            if !fault.spoils_connection() {
                // Where this fails the connection is lost, and the transaction with it.
                let _ =
                    in_time::<(), AppendError>(async { Ok(transaction.rollback().await?) }).await;
            }
            Err(fault)
        }
    }
}

async fn in_time<T, E>(answer: impl Future<Output = Result<T, Fault<E>>>) -> Result<T, Fault<E>> {
    match tokio::time::timeout(ANSWER_MAX, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Fault::Silence(ANSWER_MAX)),
    }
}

/// Before the next try.
pub(super) async fn pause(tries: u32) {
    tokio::time::sleep(PAUSE * tries).await;
}

/// Whether something that failed so often is tried again.
pub(super) fn may_try_again<E>(tries: u32, fault: &Fault<E>) -> bool {
    tries < TRIES && fault.may_repeat()
}

async fn configure(
    connection: &mut PgConnection,
    settings: AssertSqlSafe<String>,
) -> sqlx::Result<()> {
    connection.execute(sqlx::raw_sql(settings)).await?;
    Ok(())
}

/// The settings of every connection. `synchronous_commit`: an answered append survives a power cut; who asked for more
/// than that, of standbys, keeps it. `enable_seqscan`: every question has its index, but while the tables are new the
/// server has no statistics, would choose to read them whole, and would keep to that choice.
fn settings(schema: Option<&str>, access: Access) -> String {
    let search_path = schema.map(|schema| format!("SET search_path = {schema};"));
    let is_read_only = match access {
        Access::Read => "on",
        Access::Write => "off",
    };
    format!(
        "{}
        SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
        SET default_transaction_isolation = 'read committed';
        SET default_transaction_read_only = {is_read_only};
        SET statement_timeout = '{STATEMENT_MAX_S}s';
        SET lock_timeout = '{LOCK_MAX_S}s';
        SET idle_in_transaction_session_timeout = '{STATEMENT_MAX_S}s';
        SET enable_seqscan = off;",
        search_path.unwrap_or_default()
    )
}
