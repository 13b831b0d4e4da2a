//! Files by grant: nothing without one, a scratch folder with a quota, folders of the host that nothing leads out of.

mod aside;
mod host;
mod paths;
mod raw;

use std::path::Path;

use serde_json::{Value, json};
use troupe_sandbox::{
    Call, Denied, EnvGrant, FilesGrant, FilesLimit, FolderAccess, FolderGrant, Limit, Outcome,
    Report, ScratchGrant,
};

use crate::javascript;
use crate::python;
use crate::support::{call, invocation, program, returned, run_guest};

/// Who moves files without a pause is alone with it. While anything is moved on the machine the kernel begins walks of `..`
/// anew, and what opens a path for a guest gives up after some.
static MOVES: tokio::sync::RwLock<()> = tokio::sync::RwLock::const_new(());

/// "no space left on device", as WASI numbers it.
pub(crate) const ENOSPC: i64 = 51;
/// What the C library of a guest makes of a stream that failed, whatever the cause.
pub(crate) const EIO: i64 = 29;
const EACCES: i64 = 2;
const ENOENT: i64 = 44;
const ENOMEM: i64 = 48;
const EPERM: i64 = 63;
const EROFS: i64 = 69;
const EXDEV: i64 = 75;

fn scratch(bytes_max: u64, entries_max: u32) -> Option<ScratchGrant> {
    Some(ScratchGrant {
        at: "/tmp".to_owned(),
        bytes_max,
        entries_max,
    })
}

fn folder(at: &str, access: FolderAccess) -> FolderGrant {
    FolderGrant {
        at: at.to_owned(),
        access,
    }
}

fn read_only(path: &Path) -> FolderAccess {
    FolderAccess::Read {
        path: path.to_owned(),
        to_write: "write `rw`".to_owned(),
    }
}

fn writable(path: &Path) -> FolderAccess {
    FolderAccess::Write {
        path: path.to_owned(),
        bytes_max: 1_000,
        entries_max: 10,
    }
}

fn with(folders: Vec<FolderGrant>, scratch: Option<ScratchGrant>) -> Call {
    let mut call = call();
    call.grants.files = Some(FilesGrant { folders, scratch });
    call
}

/// Has the guest work with files; then a good guest is served as ever.
async fn report(steps: Value, call: Call) -> Report {
    let report = run_guest("files", invocation("do", &steps.to_string()), call).await;
    let good = run_guest(
        "files",
        invocation(
            "do",
            &json!([{"do": "write", "path": "/tmp/good", "text": "1"}]).to_string(),
        ),
        with(Vec::new(), scratch(1_000, 10)),
    );
    assert_eq!(
        returned(good.await),
        json!({"results": [{"ok": null}], "held": 0})
    );
    report
}

/// What came of each operation: a value, or an errno.
async fn results(steps: Value, call: Call) -> Vec<Result<Value, i64>> {
    let value = returned(report(steps, call).await);
    results_of(&value)
}

fn results_of(value: &Value) -> Vec<Result<Value, i64>> {
    let results = value["results"].as_array().expect("a list");
    results
        .iter()
        .map(|result| match result.get("ok") {
            Some(value) => Ok(value.clone()),
            None => Err(result["errno"]
                .as_i64()
                .unwrap_or_else(|| panic!("{result}"))),
        })
        .collect()
}

fn write(path: &str, text: &str) -> Value {
    json!({"do": "write", "path": path, "text": text})
}

fn read(path: &str) -> Value {
    json!({"do": "read", "path": path})
}

#[tokio::test]
async fn without_a_grant_there_are_no_files_and_no_environment() {
    let steps = json!([
        write("/tmp/x", "x"),
        read("/etc/passwd"),
        {"do": "list", "path": "/"},
        {"do": "stat", "path": "/proc/self/environ"},
    ]);
    let report = report(steps, call()).await;
    assert_eq!(report.usage.files_opened, 0);
    let results = results_of(&returned(report));
    assert!(results.iter().all(Result::is_err), "{results:?}");
}

#[tokio::test]
async fn the_scratch_folder_is_a_file_system_for_one_call() {
    let steps = json!([
        {"do": "mkdir", "path": "/tmp/a/b"},
        write("/tmp/a/b/one", "hello"),
        {"do": "append", "path": "/tmp/a/b/one", "text": " there", "times": 2},
        read("/tmp/a/./b/../b//one"),
        {"do": "write_at", "path": "/tmp/a/b/one", "offset": 20, "text": "!"},
        {"do": "stat", "path": "/tmp/a/b/one"},
        {"do": "rename", "path": "/tmp/a/b/one", "to": "/tmp/two"},
        {"do": "list", "path": "/tmp"},
        {"do": "rmdir", "path": "/tmp/a/b"},
        {"do": "read_part", "path": "/tmp/two", "offset": 1, "bytes": 4},
        {"do": "set_len", "path": "/tmp/two", "bytes": 1},
        read("/tmp/two"),
        {"do": "remove", "path": "/tmp/two"},
        read("/tmp/two"),
    ]);
    let report = report(steps, with(Vec::new(), scratch(10_000, 10))).await;
    let usage = report.usage;
    assert_eq!(
        (usage.file_bytes_written, usage.file_bytes_read),
        (5 + 12 + 1, 17 + 4 + 1)
    );
    assert!(usage.files_opened >= 7, "{usage:?}");
    assert!((21..2_000).contains(&usage.scratch_bytes_peak), "{usage:?}");
    assert_eq!(report.denials, []);
    let results = results_of(&returned(report));
    let null = Ok(Value::Null);
    let expected = [
        null.clone(),
        null.clone(),
        null.clone(),
        Ok(json!("hello there there")),
        null.clone(),
        Ok(json!({"bytes": 21, "is_folder": false})),
        null.clone(),
        Ok(json!(["a", "two"])),
        null.clone(),
        Ok(json!("ello")),
        null.clone(),
        Ok(json!("h")),
        null,
        Err(ENOENT),
    ];
    assert_eq!(results, expected);
    let next = results_next(json!([{"do": "list", "path": "/tmp"}])).await;
    assert_eq!(next, [Ok(json!([]))], "nothing is left for the next call");
}

async fn results_next(steps: Value) -> Vec<Result<Value, i64>> {
    results(steps, with(Vec::new(), scratch(10_000, 10))).await
}

#[tokio::test]
async fn the_scratch_folder_holds_what_its_quota_allows() {
    let steps = json!([
        {"do": "write_at", "path": "/tmp/sparse", "offset": 1_u64 << 40, "text": "x"},
        {"do": "set_len", "path": "/tmp/sparse", "bytes": 1_u64 << 40},
        {"do": "fill", "path": "/tmp/full", "bytes": 200_000},
        {"do": "remove", "path": "/tmp/full"},
        {"do": "fill", "path": "/tmp/fits", "bytes": 90_000},
        {"do": "fill", "path": "/tmp/more", "bytes": 90_000},
        {"do": "remove", "path": "/tmp/fits"},
        {"do": "remove", "path": "/tmp/more"},
        {"do": "make_many", "path": "/tmp", "count": 1_000_000},
        {"do": "make_many", "path": "/tmp", "count": 1},
    ]);
    let report = report(steps, with(Vec::new(), scratch(100_000, 50))).await;
    assert!(report.usage.scratch_bytes_peak <= 100_000);
    let denied = &report.denials[..];
    assert!(
        matches!(denied, [denied] if denied.limit == Some(FilesLimit::Disk) && denied.capability == "limit_disk"),
        "{denied:?}"
    );
    let results = results_of(&returned(report));
    let null = Ok(Value::Null);
    let full = Err(EIO);
    assert_eq!(results[..3], [full.clone(), Err(ENOSPC), full.clone()]);
    assert_eq!(results[3..6], [null.clone(), null.clone(), full]);
    // `sparse` is one of the fifty. What was made before is there to be opened again.
    assert_eq!(results[8..], [Ok(json!(49)), Ok(json!(1))]);
}

#[tokio::test]
async fn so_many_files_are_open_at_once() {
    let steps = json!([
        write("/tmp/x", "x"),
        {"do": "open_many", "path": "/tmp/x", "count": 100_000},
        read("/tmp/x"),
        {"do": "close_all"},
        read("/tmp/x"),
    ]);
    let results = results(steps, with(Vec::new(), scratch(10_000, 10))).await;
    let count = results[1].as_ref().expect("a number").as_u64();
    assert!((100..=128).contains(&count.expect("a number")), "{count:?}");
    assert_eq!(results[2..], [Err(ENOMEM), Ok(Value::Null), Ok(json!("x"))]);
}

#[tokio::test]
async fn how_many_may_be_open_is_a_limit_of_the_call_and_is_reported() {
    let host = tempfile::tempdir().expect("a folder");
    std::fs::write(host.path().join("x"), "x").expect("a file");
    for path in ["/tmp/x", "/data/x"] {
        let steps = json!([
            write("/tmp/x", "x"),
            {"do": "open_many", "path": path, "count": 9},
            {"do": "open_many", "path": path, "count": 20},
            {"do": "close_all"},
            read(path),
        ]);
        let mut few = with(
            vec![folder("/data", read_only(host.path()))],
            scratch(10_000, 10),
        );
        few.limits.open_files_max = 10;
        let report = report(steps, few).await;
        assert_eq!(report.usage.open_files_peak, 10, "{report:?}");
        let denied = &report.denials[..];
        assert!(
            matches!(denied, [denied] if denied.limit == Some(FilesLimit::OpenFiles) && denied.capability == "limit_open_files"),
            "{denied:?}"
        );
        let results = results_of(&returned(report));
        assert_eq!(results[1..3], [Ok(json!(9)), Ok(json!(10))], "{path}");
        assert_eq!(results[4], Ok(json!("x")), "{path}");
    }
}

#[tokio::test]
async fn who_may_open_nothing_is_given_its_folders_and_goes_on() {
    let steps = json!([write("/tmp/x", "x"), {"do": "stat", "path": "/tmp"}]);
    let mut none = with(Vec::new(), scratch(10_000, 10));
    none.limits.open_files_max = 0;
    let report = report(steps, none).await;
    assert_eq!(report.usage.open_files_peak, 0);
    let results = results_of(&returned(report));
    assert_eq!(results[0], Err(ENOMEM));
    assert!(results[1].is_ok(), "{results:?}");
}

#[tokio::test]
async fn so_many_listings_are_held_at_once() {
    let steps = json!([
        {"do": "make_many", "path": "/tmp", "count": 2},
        {"do": "list_many", "path": "/tmp", "count": 1_000},
        {"do": "list", "path": "/tmp"},
    ]);
    let results = results(steps, with(Vec::new(), scratch(10_000, 10))).await;
    assert_eq!(results[1..], [Ok(json!(8)), Ok(json!(["0", "1"]))]);
}

#[tokio::test]
async fn work_with_files_is_paid_for() {
    let steps = json!([{"do": "append", "path": "/tmp/x", "text": "x", "times": 10_000_000}]);
    let mut call = with(Vec::new(), scratch(1 << 30, 10));
    call.limits.fuel = 50_000_000;
    let ended = report(steps, call).await;
    assert_eq!(ended.outcome, Outcome::LimitHit(Limit::Fuel));
    // Also what the guest hardly computes for.
    let grow = json!([{"do": "set_len", "path": "/tmp/x", "bytes": 40_000_000}]);
    let ended = report(grow, with(Vec::new(), scratch(50_000_000, 10))).await;
    assert!(ended.usage.fuel > 40_000_000, "{}", ended.usage.fuel);
    let hole = json!([{"do": "write_at", "path": "/tmp/x", "offset": 40_000_000, "text": "x"}]);
    let ended = report(hole, with(Vec::new(), scratch(50_000_000, 10))).await;
    assert!(ended.usage.fuel > 40_000_000, "{}", ended.usage.fuel);
}

#[tokio::test]
async fn the_same_call_sees_the_same_files() {
    let steps = json!([
        {"do": "make_many", "path": "/tmp", "count": 9},
        {"do": "list", "path": "/tmp"},
        {"do": "stat", "path": "/tmp/3"},
    ]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let report = report(steps.clone(), with(Vec::new(), scratch(100_000, 50))).await;
        seen.push((report.usage.fuel, returned(report)));
    }
    assert_eq!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_folder_that_was_withheld_says_what_would_grant_it() {
    let denied = FolderAccess::Denied {
        remedy: "add it to `[[grants]]`".to_owned(),
    };
    let steps = json!([
        read("/data/x"),
        write("/data/x", "x"),
        {"do": "list", "path": "/data"},
        {"do": "mkdir", "path": "/data/y"},
        {"do": "rename", "path": "/tmp/x", "to": "/data/x"},
    ]);
    let call = with(vec![folder("/data", denied)], scratch(1_000, 10));
    let report = report(steps, call).await;
    let message = "the agent `tester` may not use the folder `/data`: add it to `[[grants]]`";
    let [
        Denied {
            capability,
            message: said,
            count,
            limit: None,
        },
    ] = &report.denials[..]
    else {
        panic!("{:?}", report.denials)
    };
    assert_eq!((capability.as_str(), said.as_str()), ("files", message));
    assert!(*count >= 5, "{count}");
    for result in results_of(&returned(report)) {
        assert_eq!(result, Err(EACCES));
    }
}

#[tokio::test]
async fn python_opens_the_files_it_was_granted() {
    let source = "
import os, tempfile, pathlib
with open('/tmp/note.txt', 'w') as note: note.write('héllo')
with tempfile.NamedTemporaryFile(mode='w+') as temporary:
    temporary.write('t'); temporary.seek(0)
    read = temporary.read()
try: open('/tmp/large', 'wb').write(b'x' * 200_000); full = None
except OSError as error: full = error.errno
result = [open('/tmp/note.txt').read(), read, full, sorted(os.listdir('/tmp')), dict(os.environ).get('NAME')]
";
    let denied = python::execute(program("a.py", "open('/tmp/x', 'w')"), call()).await;
    let Outcome::Raised(exception) = denied.outcome else {
        panic!("{:?}", denied.outcome)
    };
    assert_eq!(exception.kind, "FileNotFoundError");
    let call = with(Vec::new(), scratch(100_000, 10));
    let result = returned(python::execute(program("a.py", source), call).await);
    assert_eq!(
        result,
        json!(["héllo", "t", EIO, ["large", "note.txt"], null])
    );
}

#[tokio::test]
async fn the_environment_is_what_was_granted() {
    let mut call = call();
    let values = vec![("REGION".to_owned(), "eu".to_owned())];
    call.grants.env = Some(EnvGrant { values });
    assert!(!format!("{:?}", call.grants).contains("\"eu\""));
    let seen = run_guest("surroundings", invocation("look", ""), call.clone()).await;
    let seen = returned(seen);
    assert_eq!(seen["environment"], json!([["REGION", "eu"]]));
    assert_eq!(seen["arguments"], json!([]));
    let source = "import os\nresult = os.environ['REGION']";
    let report = python::execute(program("a.py", source), call.clone()).await;
    assert_eq!(returned(report), json!("eu"));
    let script = program("a.js", "return typeof process + typeof require");
    let report = javascript::execute(script, call).await;
    assert_eq!(returned(report), json!("undefinedundefined"));
}
