//! What PostgreSQL's journal does beyond the rules of all: leases, lost connections, servers that go away.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::journal::samples::{at, by_owner, ending, free, id, large, new, put, skipped};
use e2e::postgres::Postgres;
use futures::future::join_all;
use tokio::task::JoinSet;
use troupe_journal::{
    AppendError, Epoch, FailPoint, Journal as _, OpenError, PostgresJournal, ReadError, Retry,
};
use troupe_workflow::ExecutionId;

/// Nobody dies by it in a test.
const LONG: Duration = Duration::from_hours(1);
/// Bounds what would otherwise wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

async fn open(url: &str, node: &str, lease: Duration) -> PostgresJournal {
    let connected = PostgresJournal::connect(url, node.to_owned(), lease, None).await;
    connected.expect("a journal")
}

async fn refused(url: &str, node: &str) -> OpenError {
    let connected = PostgresJournal::connect(url, node.to_owned(), LONG, None).await;
    connected.err().expect("it is refused")
}

#[tokio::test]
async fn what_a_process_owns_is_freed_when_its_lease_is_over() {
    let url = Postgres::shared().database();
    let short = Duration::from_millis(300);
    let (slow, other) = (open(&url, "slow", short).await, open(&url, "b", LONG).await);
    let epoch = slow.create(new(1)).await.unwrap();
    // It gives no sign of life, and is not gone either.
    let freeing = async {
        while other.beat(at(9)).await.unwrap().freed == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freeing).await.unwrap();
    let events = [skipped(2)];
    let late = slow.append(by_owner(1, 1, epoch, &events)).await;
    assert!(matches!(late, Err(AppendError::Fenced)), "{late:?}");
    let row = other.find(id(1)).await.unwrap();
    assert_eq!((row.version, row.due_at), (1, Some(at(9))));
    // It is one of them again with its next sign of life.
    slow.beat(at(9)).await.unwrap();
    let taken = slow.take(id(1)).await.unwrap();
    assert!(taken.epoch > epoch);
}

/// Whoever claims goes by the database's clock: what was freed must not wait until that says what a wrong one said.
#[tokio::test]
async fn what_is_freed_by_a_machine_whose_clock_is_ahead_is_due_at_once() {
    let url = Postgres::shared().database();
    let short = Duration::from_millis(100);
    let (dead, other) = (open(&url, "dead", short).await, open(&url, "b", LONG).await);
    dead.create(new(1)).await.unwrap();
    let ahead = at(i64::MAX / 2);
    let mut offset = 0;
    let freeing = async {
        loop {
            let beat = other.beat(ahead).await.unwrap();
            if beat.freed > 0 {
                offset = beat.clock_offset_ms;
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freeing).await.unwrap();
    let servers = at(ahead.as_millis() + offset);
    let due = other.find(id(1)).await.unwrap().due_at;
    assert!(due.is_some_and(|due| due <= servers), "{due:?}, {servers}");
}

#[tokio::test]
async fn signs_of_life_extend_a_lease() {
    let url = Postgres::shared().database();
    let lease = Duration::from_secs(2);
    let (a, b) = (open(&url, "a", lease).await, open(&url, "b", LONG).await);
    a.create(new(1)).await.unwrap();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        a.beat(at(1)).await.unwrap();
        assert_eq!(b.beat(at(1)).await.unwrap().freed, 0);
    }
    assert_eq!(a.owned().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_belongs_to_one_process() {
    let url = Postgres::shared().database();
    let first = open(&url, "same", LONG).await;
    first.create(new(1)).await.unwrap();
    let text = refused(&url, "same").await.to_string();
    assert!(text.contains("another process is called same"), "{text}");
    first.leave().await;
    // What the first owned is not the second's: it knows nothing of it.
    let second = open(&url, "same", LONG).await;
    assert_eq!(second.owned().await.unwrap(), []);
    assert_eq!(second.take(id(1)).await.unwrap().id, id(1));
}

#[tokio::test]
async fn the_difference_of_the_clocks_is_told() {
    let url = Postgres::shared().database();
    let journal = open(&url, "a", LONG).await;
    let here = || time_of(Postgres::shared(), &url);
    let before = here();
    let offset = journal
        .beat(at(before - 5_000))
        .await
        .unwrap()
        .clock_offset_ms;
    let after = here();
    assert!(
        (5_000..=5_000 + after - before).contains(&offset),
        "{offset}"
    );
}

/// The server's time.
fn time_of(server: &Postgres, url: &str) -> i64 {
    let answer = server.sql(
        url,
        "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    );
    answer.parse().expect("a number")
}

#[tokio::test]
async fn many_processes_make_the_tables_at_once() {
    let url = Postgres::shared().database();
    let names: Vec<_> = (0..8).map(|number| format!("n{number}")).collect();
    let journals = join_all(names.iter().map(|name| open(&url, name, LONG))).await;
    journals[0].create(free(1)).await.unwrap();
    assert_eq!(journals[7].find(id(1)).await.unwrap().version, 1);
}

#[tokio::test]
async fn other_formats_and_addresses_are_refused_without_the_password() {
    let server = Postgres::shared();
    let url = server.database();
    open(&url, "a", LONG).await.leave().await;
    server.sql(&url, "UPDATE troupe.format SET format = 99");
    let error = refused(&url, "b").await;
    assert!(
        matches!(error, OpenError::Format { found: 99, .. }),
        "{error:?}"
    );
    let password = server.password();
    let wrong = url.replace(password, "hunter2");
    let nowhere = url
        .replace("127.0.0.1", "127.0.0.2")
        .replace("/test_", "/none_");
    for url in [url, wrong, nowhere] {
        let error = refused(&url, "b").await;
        let text = format!("{error} {error:?}");
        assert!(
            !text.contains(password) && !text.contains("hunter2"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn the_tables_are_in_the_schema_that_the_address_names() {
    let server = Postgres::shared();
    let url = server.database();
    let own = format!("{url}?options=-csearch_path%3D%22My_own%22");
    open(&own, "a", LONG).await.create(free(1)).await.unwrap();
    let count = server.sql(&url, "SELECT count(*) FROM \"My_own\".executions");
    assert_eq!(count, "1");
    let other = open(&url, "a", LONG).await;
    assert!(matches!(
        other.find(id(1)).await,
        Err(ReadError::NotFound(_))
    ));
}

#[tokio::test]
async fn an_impossible_append_does_not_spoil_those_beside_it() {
    let url = Postgres::shared().database();
    let journal = open(&url, "a", LONG).await;
    let events = [skipped(2)];
    let mut appends = Vec::new();
    for number in 1..=40 {
        let epoch = journal.create(new(number)).await.unwrap();
        let mut append = by_owner(number, 1, epoch, &events);
        if number % 10 == 0 {
            // The server stores no zero in a text.
            append.snapshot = Some(troupe_workflow::Snapshot {
                version: 2,
                build: "\0".to_owned(),
                state: String::new(),
            });
        }
        appends.push(append);
    }
    let results = join_all(appends.into_iter().map(|append| journal.append(append))).await;
    for (number, result) in (1..).zip(results) {
        if number % 10 == 0 {
            let is_final = matches!(
                result,
                Err(AppendError::Database {
                    retry: Retry::Never,
                    ..
                })
            );
            assert!(is_final, "{result:?}");
        } else {
            assert_eq!(result.unwrap(), 2);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restarted_is_found_again() {
    let mut server = Postgres::start();
    let url = server.database();
    let journal = open(&url, "a", LONG).await;
    let epoch = journal.create(new(1)).await.unwrap();
    let events = [skipped(2)];
    let mut version = journal
        .append(by_owner(1, 1, epoch, &events))
        .await
        .unwrap();
    // Several connections, all of which go stale.
    join_all((0..6).map(|_| journal.find(id(1)))).await;
    server = tokio::task::spawn_blocking(move || {
        server.restart();
        server
    })
    .await
    .unwrap();
    assert_eq!(journal.find(id(1)).await.unwrap().version, version);
    version = journal
        .append(by_owner(1, version, epoch, &events))
        .await
        .unwrap();
    journal.create(new(2)).await.unwrap();
    server = tokio::task::spawn_blocking(move || {
        server.stop_immediate();
        server
    })
    .await
    .unwrap();
    let away = journal.append(by_owner(1, version, epoch, &events)).await;
    assert!(
        matches!(
            away,
            Err(AppendError::Database {
                retry: Retry::Later,
                ..
            })
        ),
        "{away:?}"
    );
    let away = journal.find(id(1)).await;
    assert!(
        away.as_ref().is_err_and(ReadError::is_retryable),
        "{away:?}"
    );
    let server = tokio::task::spawn_blocking(move || {
        server.start_again();
        server
    })
    .await
    .unwrap();
    assert_eq!(journal.find(id(1)).await.unwrap().version, version);
    journal
        .append(by_owner(1, version, epoch, &events))
        .await
        .unwrap();
    drop(server);
}

/// Appends to an execution until it has so many events; answers how often nobody knew. Every event is told apart by
/// its time, which is the version that it was to make.
async fn append_until(journal: &PostgresJournal, number: u64, last: u64) -> u32 {
    let epoch = create_somehow(journal, number).await;
    let (mut version, mut unknown) = (1, 0);
    while version < last {
        let at = i64::try_from(version + 1).expect("a small number");
        let events = [skipped(at)];
        let mut append = by_owner(number, version, epoch, &events);
        if number.is_multiple_of(4) {
            // It counts the appends: one without the other would be refused for ever.
            append.records = vec![put(&number.to_string(), version - 1, "1")];
        }
        match journal.append(append).await {
            Ok(next) => version = next,
            Err(AppendError::Unknown { .. }) => {
                unknown += 1;
                // Written or not: reading tells.
                version = read_version(journal, id(number)).await;
            }
            Err(error) if error.is_retryable() => {}
            Err(error) => panic!("{error:?} at {version} of {number}"),
        }
    }
    unknown
}

async fn create_somehow(journal: &PostgresJournal, number: u64) -> Epoch {
    loop {
        match journal.create(new(number)).await {
            Ok(epoch) => return epoch,
            Err(AppendError::Unknown { .. } | AppendError::Exists(_)) => {
                let Ok(owned) = journal.owned().await else {
                    continue;
                };
                let own = owned.iter().find(|(which, _)| *which == id(number));
                if let Some((_, epoch)) = own {
                    return *epoch;
                }
            }
            Err(error) if error.is_retryable() => {}
            Err(error) => panic!("{error:?} of {number}"),
        }
    }
}

async fn read_version(journal: &PostgresJournal, id: ExecutionId) -> u64 {
    loop {
        match journal.find(id).await {
            Ok(row) => return row.version,
            Err(error) if error.is_retryable() => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_while_connections_are_lost() {
    const EXECUTIONS: u64 = 32;
    const EVENTS: u64 = 150;
    let server = Postgres::shared();
    let url = server.database();
    let mut nodes = BTreeMap::new();
    for name in ["a", "b"] {
        nodes.insert(name, std::sync::Arc::new(open(&url, name, LONG).await));
    }
    let mut tasks = JoinSet::new();
    for number in 1..=EXECUTIONS {
        let name = if number % 2 == 0 { "a" } else { "b" };
        let journal = std::sync::Arc::clone(&nodes[name]);
        tasks.spawn(async move { append_until(&journal, number, EVENTS).await });
    }
    let mut killed = 0;
    let working = async {
        let mut unknown = 0;
        while let Some(done) = tasks.join_next().await {
            unknown += done.unwrap();
        }
        unknown
    };
    let killing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let url = url.clone();
            killed += tokio::task::spawn_blocking(move || server.kill_connections(&url))
                .await
                .unwrap();
        }
    };
    let unknown = tokio::select! {
        unknown = working => unknown,
        () = killing => unreachable!("it never ends"),
    };
    println!("{killed} connections were ended, {unknown} appends were unknown");
    for number in 1..=EXECUTIONS {
        let events = nodes["a"].all_events(id(number)).await.unwrap();
        let times: Vec<_> = events[1..]
            .iter()
            .map(|event| event.at.as_millis())
            .collect();
        let expected: Vec<_> = (2..=i64::try_from(EVENTS).unwrap()).collect();
        assert_eq!(times, expected, "{number}");
        let record = nodes["b"]
            .record("thing", number.to_string())
            .await
            .unwrap();
        let counted = (number % 4 == 0).then_some(EVENTS - 1);
        assert_eq!(record.map(|record| record.version), counted);
    }
}

#[tokio::test]
async fn damage_is_named() {
    let server = Postgres::shared();
    let url = server.database();
    let journal = open(&url, "a", LONG).await;
    let epoch = journal.create(new(1)).await.unwrap();
    let events = [skipped(2), large(3, 20_000)];
    journal
        .append(by_owner(1, 1, epoch, &events))
        .await
        .unwrap();
    let damaged = async |sql: &str| {
        server.sql(&url, &format!("SET search_path = troupe; {sql}"));
        let error = journal.load(id(1)).await.unwrap_err();
        assert!(matches!(error, ReadError::Corrupt { .. }), "{error:?}");
        error.to_string()
    };
    let blob = damaged("UPDATE blobs SET text = '{}'").await;
    assert!(blob.contains("is not what was stored"), "{blob}");
    let row = damaged("UPDATE events SET body = '{}' WHERE position = 3").await;
    assert!(row.contains("its checksum does not fit"), "{row}");
    let last = damaged("DELETE FROM events WHERE position = 3").await;
    assert!(last.contains("it is missing; there were 3"), "{last}");
}

#[tokio::test]
async fn what_is_deleted_by_several_leaves_no_rows() {
    let server = Postgres::shared();
    let url = server.database();
    let (a, b) = (open(&url, "a", LONG).await, open(&url, "b", LONG).await);
    for number in 1..=20 {
        let epoch = a.create(new(number)).await.unwrap();
        let events = [large(2, 20_000), large(3, 30_000)];
        a.append(ending(by_owner(number, 1, epoch, &events)))
            .await
            .unwrap();
    }
    let deletions = (1..=20).map(|number| match number % 2 {
        0 => a.delete(id(number)),
        _ => b.delete(id(number)),
    });
    for deleted in join_all(deletions).await {
        assert!(deleted.unwrap());
    }
    for table in ["executions", "events", "blobs", "blob_uses", "workflows"] {
        let count = server.sql(&url, &format!("SELECT count(*) FROM troupe.{table}"));
        assert_eq!(count, "0", "{table}");
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_what_was_written() {
    let url = Postgres::shared().database();
    let fail_point: FailPoint = "append:2:lost".parse().unwrap();
    let journal =
        PostgresJournal::connect(&url, "a".to_owned(), LONG, Some(fail_point.into())).await;
    let journal = journal.unwrap();
    let epoch = journal.create(new(1)).await.unwrap();
    let events = [skipped(2)];
    for expected in [1, 2, 3] {
        let done = journal.append(by_owner(1, expected, epoch, &events)).await;
        let is_lost = matches!(done, Err(AppendError::Unknown { .. }));
        assert_eq!(is_lost, expected == 2, "{done:?}");
    }
    assert_eq!(journal.find(id(1)).await.unwrap().version, 4);
}
