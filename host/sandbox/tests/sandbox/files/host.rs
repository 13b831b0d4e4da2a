//! Folders of the host, with what guests, and others meanwhile, may try in them.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    EACCES, EIO, ENOENT, ENOSPC, EPERM, EROFS, EXDEV, MOVES, folder, read, read_only, report,
    results, results_of, scratch, with, writable, write,
};
use crate::support::returned;

/// A folder that is granted, beside something that is not.
struct Host {
    outer: TempDir,
    granted: PathBuf,
}

impl Host {
    fn new() -> Self {
        let outer = tempfile::tempdir().expect("a folder");
        std::fs::write(outer.path().join("secret"), "secret").expect("a file");
        let granted = outer.path().join("granted");
        std::fs::create_dir_all(granted.join("sub")).expect("a folder");
        std::fs::write(granted.join("note"), "a note").expect("a file");
        std::fs::write(granted.join("sub/inner"), "inner").expect("a file");
        Host { outer, granted }
    }

    /// What the folder holds, to see that nothing was changed.
    fn listing(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.outer.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                match path.symlink_metadata().expect("there").is_dir() {
                    true => folders.push(path),
                    false => files.push((path.clone(), std::fs::read(path).unwrap_or_default())),
                }
            }
        }
        files.sort();
        files
    }
}

#[tokio::test]
async fn a_folder_is_read_and_not_written() {
    let host = Host::new();
    let before = host.listing();
    let steps = json!([
        read("/data/note"),
        read("/data/sub/../sub/inner"),
        {"do": "list", "path": "/data/sub"},
        write("/data/note", "changed"),
        write("/data/new", "new"),
        {"do": "set_len", "path": "/data/note", "bytes": 1},
        {"do": "append", "path": "/data/note", "text": "x"},
        {"do": "mkdir", "path": "/data/folder"},
        {"do": "remove", "path": "/data/note"},
        {"do": "rmdir", "path": "/data/sub"},
        {"do": "rename", "path": "/data/note", "to": "/data/other"},
        {"do": "hard_link", "path": "/data/note", "to": "/data/other"},
        {"do": "symlink", "target": "note", "path": "/data/other"},
    ]);
    let call = with(vec![folder("/data", read_only(&host.granted))], None);
    let report = report(steps, call).await;
    let denied = &report.denials[..];
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!(
        denied[0].message,
        "the agent `tester` may not write in the folder `/data`: write `rw`"
    );
    assert_eq!(denied[0].count, 10);
    assert_eq!(report.usage.file_bytes_read, 11);
    assert_eq!(report.usage.file_bytes_written, 0);
    let results = results_of(&returned(report));
    let expected = [json!("a note"), json!("inner"), json!(["inner"])];
    assert_eq!(results[..3], expected.map(Ok));
    assert!(
        results[3..].iter().all(|it| *it == Err(EROFS)),
        "{results:?}"
    );
    assert_eq!(host.listing(), before);
}

#[tokio::test]
async fn what_the_host_goes_by_is_not_written_in_any_folder() {
    let host = Host::new();
    std::fs::write(host.granted.join("sub/troupe.toml"), "ours").expect("a file");
    let before = host.listing();
    let steps = json!([
        write("/data/troupe.toml", "theirs"),
        write("/data/sub/../sub/troupe.toml", "theirs"),
        {"do": "append", "path": "/data/sub/./troupe.toml", "text": "theirs"},
        {"do": "set_len", "path": "/data/sub/troupe.toml", "bytes": 0},
        {"do": "remove", "path": "/data/sub/troupe.toml"},
        {"do": "rename", "path": "/data/sub/troupe.toml", "to": "/data/other"},
        {"do": "rename", "path": "/data/note", "to": "/data/troupe.toml"},
        read("/data/sub/troupe.toml"),
    ]);
    let call = with(vec![folder("/data", writable(&host.granted))], None);
    let denying = report(steps, call).await;
    let message = "the agent `tester` may not write a file `troupe.toml`, which commands of the host go by: use another name";
    let denied = &denying.denials[..];
    assert!(
        matches!(denied, [denied] if denied.message == message && denied.count == 7),
        "{denied:?}"
    );
    let told = results_of(&returned(denying));
    assert_eq!(told[..7], [(); 7].map(|()| Err(EPERM)));
    assert_eq!(told[7], Ok(json!("ours")));
    assert_eq!(host.listing(), before);
    let steps = json!([
        write("/data/troupe.toml.old", "x"),
        write("/tmp/troupe.toml", "x")
    ]);
    let call = with(
        vec![folder("/data", writable(&host.granted))],
        scratch(1_000, 10),
    );
    let written = results(steps, call).await;
    assert!(written.iter().all(Result::is_ok), "{written:?}");
}

#[tokio::test]
async fn a_folder_is_written_up_to_its_quota() {
    let host = Host::new();
    let steps = json!([
        write("/data/new", "0123456789"),
        {"do": "write_at", "path": "/data/note", "offset": 2, "text": "NOTE"},
        {"do": "write_at", "path": "/data/sparse", "offset": 1_u64 << 40, "text": "x"},
        {"do": "set_len", "path": "/data/sparse", "bytes": 1_u64 << 40},
        {"do": "append", "path": "/data/new", "text": "x", "times": 986},
        {"do": "append", "path": "/data/new", "text": "toolong"},
        write("/data/note", "over"),
        {"do": "make_many", "path": "/data", "count": 1_000_000},
        {"do": "mkdir", "path": "/data/folder"},
        {"do": "rename", "path": "/data/new", "to": "/data/sub/moved"},
        {"do": "remove", "path": "/data/note"},
    ]);
    let call = with(vec![folder("/data", writable(&host.granted))], None);
    let results = results(steps, call).await;
    let null = Ok(Value::Null);
    let full = Err(ENOSPC);
    assert_eq!(
        results[..4],
        [null.clone(), null.clone(), Err(EIO), full.clone()]
    );
    // 10 and 986 bytes are there, 4 are left.
    assert_eq!(results[4..7], [null.clone(), Err(EIO), null.clone()]);
    // `new` and `sparse` were the first two of ten.
    assert_eq!(results[7..9], [Ok(json!(8)), full]);
    assert_eq!(results[9..], [null.clone(), null]);
    let moved = std::fs::read(host.granted.join("sub/moved")).expect("it was moved");
    assert_eq!(moved.len(), 996);
    assert!(!host.granted.join("note").exists());
    assert_eq!(
        std::fs::metadata(host.granted.join("sparse"))
            .expect("made")
            .len(),
        0
    );
}

#[tokio::test]
async fn no_path_leads_out() {
    let host = Host::new();
    let secret = host.outer.path().join("secret");
    let granted = &host.granted;
    symlink(&secret, granted.join("absolute")).expect("a link");
    symlink("../secret", granted.join("relative")).expect("a link");
    symlink("..", granted.join("up")).expect("a link");
    symlink("up", granted.join("nested")).expect("a link");
    symlink("sub", granted.join("inside")).expect("a link");
    let outside = [
        "/data/../secret",
        "/data/sub/../../secret",
        "/data/a/../../secret",
        "/data/sub/../../granted/../secret",
        "/data/absolute",
        "/data/absolute/",
        "/data/relative",
        "/data/relative/",
        "/data/up/secret",
        "/data/up/",
        "/data/nested/secret",
        "/data//../secret",
        "/data/./../secret",
        "//data/../../secret",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/null",
        secret.to_str().expect("a text"),
    ];
    let mut steps: Vec<Value> = outside.iter().map(|path| read(path)).collect();
    steps.extend(outside.iter().map(|path| write(path, "changed")));
    steps.push(json!({"do": "list", "path": "/data/.."}));
    steps.push(json!({"do": "list", "path": "/data/up"}));
    steps.push(json!({"do": "rename", "path": "/data/note", "to": "/data/up/stolen"}));
    steps.push(json!({"do": "rename", "path": "/data/up/secret", "to": "/data/stolen"}));
    steps.push(json!({"do": "rename", "path": "/data/up/secret/", "to": "/data/stolen/"}));
    steps.push(json!({"do": "hard_link", "path": "/data/up/secret", "to": "/data/stolen"}));
    steps.push(json!({"do": "symlink", "target": secret, "path": "/data/made"}));
    steps.push(json!({"do": "symlink", "target": "note", "path": "/data/made"}));
    steps.push(read(&format!("/data/{}", "x/".repeat(3_000))));
    let forbidden = steps.len();
    steps.push(read("/data/inside/inner"));
    steps.push(read("/data//sub/.//inner"));
    let before = host.listing();
    for access in [read_only(granted), writable(granted)] {
        let call = with(vec![folder("/data", access)], None);
        let results = results(json!(steps), call).await;
        for (step, result) in steps.iter().zip(&results[..forbidden]) {
            assert!(result.is_err(), "{step}: {result:?}");
        }
        assert_eq!(
            results[forbidden..],
            [Ok(json!("inner")), Ok(json!("inner"))]
        );
        assert_eq!(host.listing(), before);
    }
}

#[tokio::test]
async fn links_and_moves_between_folders_are_refused() {
    let (one, other) = (Host::new(), Host::new());
    let steps = json!([
        {"do": "rename", "path": "/one/note", "to": "/other/stolen"},
        {"do": "hard_link", "path": "/one/note", "to": "/other/stolen"},
        {"do": "hard_link", "path": "/one/note", "to": "/one/again"},
        {"do": "rename", "path": "/one/note", "to": "/tmp/stolen"},
        {"do": "symlink", "target": "/one/note", "path": "/tmp/link"},
        {"do": "rename", "path": "/one/note", "to": "/ro/stolen"},
    ]);
    let folders = vec![
        folder("/one", writable(&one.granted)),
        folder("/other", writable(&other.granted)),
        folder("/ro", read_only(&other.granted)),
    ];
    let results = results(steps, with(folders, scratch(1_000, 10))).await;
    let expected = [EXDEV, EPERM, EPERM, EXDEV, EPERM, EROFS];
    assert_eq!(results, expected.map(Err));
}

#[tokio::test]
async fn only_files_and_folders_are_opened() {
    let host = Host::new();
    let pipe = host.granted.join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let _listener = UnixListener::bind(host.granted.join("socket")).expect("a socket");
    symlink("pipe", host.granted.join("to-pipe")).expect("a link");
    let steps = json!([
        read("/data/pipe"),
        write("/data/pipe", "x"),
        read("/data/to-pipe"),
        read("/data/socket"),
        {"do": "stat", "path": "/data/pipe"},
    ]);
    let call = with(vec![folder("/data", writable(&host.granted))], None);
    let report = tokio::time::timeout(Duration::from_secs(20), report(steps, call))
        .await
        .expect("nobody waits for a pipe");
    let paths: Vec<&str> = report
        .denials
        .iter()
        .map(|it| it.message.as_str())
        .collect();
    assert!(
        paths
            .iter()
            .any(|it| it.contains("may not open `pipe`, which is neither a file nor a folder")),
        "{paths:?}"
    );
    let results = results_of(&returned(report));
    assert_eq!(results[..4], [EACCES; 4].map(Err));
    assert!(results[4].is_ok());
}

/// A file and a pipe take turns under one name while the guest opens it: whatever was there when it was looked at, nobody
/// waits for the pipe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_pipe_that_takes_the_place_of_a_file() {
    const ROUNDS: usize = 3_000;
    let _alone = MOVES.write().await;
    let host = Host::new();
    let (pipe, name) = (host.granted.join("pipe"), host.granted.join("turns"));
    let made = Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let file = host.granted.join("file");
    std::fs::write(&file, "text").expect("a file");
    let stop = Arc::new(AtomicBool::new(false));
    let turning = std::thread::spawn({
        let (stop, pipe, name) = (Arc::clone(&stop), pipe.clone(), name.clone());
        let next = host.granted.join("next");
        move || {
            while !stop.load(Ordering::Relaxed) {
                for other in [&pipe, &file] {
                    std::fs::hard_link(other, &next).expect("a link");
                    std::fs::rename(&next, &name).expect("its turn");
                    // Both names of one file: such a move does nothing.
                    let _ = std::fs::remove_file(&next);
                }
            }
        }
    });
    let steps: Vec<Value> = (0..ROUNDS).map(|_| read("/data/turns")).collect();
    let call = with(vec![folder("/data", read_only(&host.granted))], None);
    let run = report(json!(steps), call);
    let report = tokio::time::timeout(Duration::from_secs(30), run).await;
    stop.store(true, Ordering::Relaxed);
    turning.join().expect("turns");
    // Who waits after all is let go, so that the test can end.
    let _let_go = std::fs::File::options().read(true).write(true).open(&pipe);
    let results = results_of(&returned(report.expect("nobody waits for a pipe")));
    assert_eq!(results.len(), ROUNDS);
    let read = results.iter().filter(|it| **it == Ok(json!("text")));
    let denied = results.iter().filter(|it| **it == Err(EACCES));
    let missing = results.iter().filter(|it| **it == Err(ENOENT));
    let (read, denied) = (read.count(), denied.count());
    assert!(read > 0 && denied > 0, "{read} read, {denied} denied");
    assert_eq!(read + denied + missing.count(), ROUNDS, "{results:?}");
}

/// A folder and a link out take turns under one name while the guest reads below it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_quick_gets_no_further() {
    let _alone = MOVES.write().await;
    let host = Host::new();
    std::fs::create_dir(host.outer.path().join("private")).expect("a folder");
    std::fs::write(host.outer.path().join("private/inner"), "secret").expect("a file");
    let granted = host.granted.clone();
    symlink("../private", granted.join("link")).expect("a link");
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = std::thread::spawn({
        let (stop, granted) = (Arc::clone(&stop), granted.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                for (from, to) in [
                    ("sub", "away"),
                    ("link", "sub"),
                    ("sub", "link"),
                    ("away", "sub"),
                ] {
                    std::fs::rename(granted.join(from), granted.join(to)).expect("a move");
                }
            }
        }
    });
    let steps: Vec<Value> = (0..2_000).map(|_| read("/data/sub/inner")).collect();
    let results = results(
        json!(steps),
        with(vec![folder("/data", read_only(&granted))], None),
    )
    .await;
    stop.store(true, Ordering::Relaxed);
    swapping.join().expect("it ends");
    assert!(results.iter().all(|it| *it != Ok(json!("secret"))));
    assert!(results.iter().any(|it| *it == Ok(json!("inner"))));
}

#[tokio::test]
async fn a_folder_that_is_gone_is_denied_and_strange_times_are_shown() {
    let host = Host::new();
    let file = std::fs::File::options()
        .write(true)
        .open(host.granted.join("note"));
    let before_epoch = UNIX_EPOCH - Duration::from_secs(1_000_000);
    file.expect("a file")
        .set_modified(before_epoch)
        .expect("a time");
    let gone = host.outer.path().join("gone");
    let a_file = host.outer.path().join("secret");
    let folders = vec![
        folder("/data", read_only(&host.granted)),
        folder("/gone", read_only(&gone)),
        folder("/file", read_only(&a_file)),
    ];
    let steps = json!([
        {"do": "stat", "path": "/data/note"},
        read("/gone/x"),
        {"do": "list", "path": "/file"},
        read("/data/missing"),
    ]);
    let report = report(steps, with(folders, None)).await;
    assert_eq!(report.denials.len(), 2, "{:?}", report.denials);
    let results = results_of(&returned(report));
    assert!(results[0].is_ok());
    assert_eq!(results[1..], [Err(EACCES), Err(EACCES), Err(ENOENT)]);
}
