//! Any path that a guest can make up, past every library: what it names inside of the folder is found by each spelling,
//! and nothing outside is read, written, listed or looked at. The scratch folder and a folder of the host answer alike.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use troupe_sandbox::{Call, Component, FolderAccess, Isolation};

use super::{MOVES, folder, read_only, scratch, with};
use crate::support::{guest, invocation, returned, sandbox};

/// What lies beside the folder, and is seen in no answer. Nothing else has its length.
const SECRET: &str = "a secret that is nobody's to read, and 61 bytes long as it is";
/// Links that are followed, as Linux counts them.
const LINKS_MAX: usize = 40;

/// Where the names of a path come from, with what others have taken for a way out.
const NAMES: [&str; 27] = [
    "note",
    "sub",
    "deep",
    "inner",
    "new",
    "Note",
    "secret",
    "granted",
    "to-secret",
    "to-private",
    "up",
    "over",
    "round",
    "to-sub",
    "to-note",
    "nowhere",
    "etc",
    "...",
    " ",
    "..\\secret",
    "C:",
    "%2e%2e",
    "．．",
    "..\u{200b}",
    "e\u{301}",
    "\u{202e}note",
    "a\0b",
];

/// Any path: mostly of names that are there, with everything between them that a path can have.
fn path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        5 => proptest::sample::select(NAMES.as_slice()).prop_map(str::to_owned),
        3 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => "\\PC{0,4}",
        1 => (250..260_usize).prop_map(|length| "x".repeat(length)),
    ];
    let segments = proptest::collection::vec(segment, 1..7).prop_map(|names| names.join("/"));
    prop_oneof![
        30 => segments,
        1 => any::<String>(),
        1 => (0..3_000_usize).prop_map(|count| "sub/../".repeat(count) + "note"),
    ]
}

/// Something that a guest does with a path, or with two.
fn step() -> impl Strategy<Value = Value> {
    let acts = [
        "read", "list", "stat", "hash", "readlink", "write", "make", "mkdir", "rmdir", "unlink",
        "rename", "link", "symlink", "times",
    ];
    let act = proptest::sample::select(acts.to_vec());
    (act, path(), path(), any::<bool>()).prop_map(|(act, path, to, follow)| {
        json!({ "do": act, "path": path, "to": to, "follow": follow, "text": "changed" })
    })
}

/// The settings of these tests: a worker of its own for each call takes its time.
fn cases(in_process: u32) -> ProptestConfig {
    let cases = match crate::isolation() {
        Isolation::InProcess => in_process,
        Isolation::Processes(_) => in_process / 10,
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A runtime, and the guest that has its way with paths.
struct Guest {
    runtime: tokio::runtime::Runtime,
    component: Component,
}

impl Guest {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let component = runtime.block_on(guest("paths"));
        Guest { runtime, component }
    }

    /// What came of each step, in the folder that is granted.
    fn results(&self, steps: &[Value], call: Call) -> Vec<Value> {
        let asked = invocation("do", &json!(steps).to_string());
        let call = sandbox().call_agent(&self.component, asked, call);
        let report = self.runtime.block_on(call).expect("the host is well");
        let Value::Array(results) = returned(report) else {
            panic!("no results")
        };
        assert_eq!(results.len(), steps.len());
        results
    }
}

/// Where the guest sees whatever it was granted.
fn granted(access: FolderAccess) -> Call {
    with(vec![folder("/data", access)], None)
}

/// A folder that may be written without an end.
fn writable(path: &Path) -> FolderAccess {
    FolderAccess::Write {
        path: path.to_owned(),
        bytes_max: 1 << 20,
        entries_max: 1_000,
    }
}

/// A folder of the host with links of every kind in it, beside what is not granted.
struct Host {
    outer: TempDir,
    granted: PathBuf,
}

impl Host {
    fn new() -> Self {
        let outer = tempfile::tempdir().expect("a folder");
        let granted = outer.path().join("granted");
        std::fs::create_dir_all(outer.path().join("private/inner")).expect("a folder");
        for secret in ["secret", "private/note", "private/inner/note"] {
            std::fs::write(outer.path().join(secret), SECRET).expect("a file");
        }
        for path in FOLDERS {
            std::fs::create_dir_all(granted.join(path)).expect("a folder");
        }
        for (path, text) in FILES {
            std::fs::write(granted.join(path), text).expect("a file");
        }
        let secret = outer.path().join("secret");
        for (target, link) in [
            (secret.as_path(), "to-secret"),
            (Path::new("../private"), "to-private"),
            (Path::new(".."), "up"),
            (Path::new("sub/../../private"), "over"),
            (Path::new("round"), "round"),
            (Path::new("sub/./deep/.."), "to-sub"),
            (Path::new("../sub/../note"), "sub/to-note"),
            (Path::new("missing"), "nowhere"),
        ] {
            symlink(target, granted.join(link)).expect("a link");
        }
        Host { outer, granted }
    }

    /// What lies outside, with everything by which a change would show.
    fn outside(&self) -> BTreeMap<PathBuf, (Vec<u8>, u64, i64, i64)> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.outer.path().to_owned()];
        while let Some(path) = left.pop() {
            let about = path.symlink_metadata().expect("it is there");
            if about.is_dir() && path != self.granted {
                let entries = std::fs::read_dir(&path).expect("a folder");
                left.extend(entries.map(|entry| entry.expect("an entry").path()));
            }
            if path != self.granted {
                let bytes = std::fs::read(&path).unwrap_or_default();
                let times = (about.mtime_nsec(), about.ctime_nsec());
                found.insert(path, (bytes, about.nlink(), times.0, times.1));
            }
        }
        found
    }
}

/// What is in the folder beside links.
const FOLDERS: [&str; 2] = ["sub", "sub/deep"];
const FILES: [(&str, &str); 2] = [("note", "a note"), ("sub/inner", "an inner text")];

/// What a path leads to, by the rules of POSIX, found without the kernel and without the sandbox.
#[derive(Debug, PartialEq)]
enum Leads {
    /// To this file or folder of the host, which lies in the folder.
    To(PathBuf),
    /// Out of the folder, or nowhere.
    Nowhere,
}

/// Walks a path below a folder, name by name.
fn walk(granted: &Path, path: &str) -> Leads {
    let mut at = Vec::<String>::new();
    let mut links = 0;
    if path.is_empty() || path.starts_with('/') || path.contains('\0') || path.len() > 4_095 {
        return Leads::Nowhere;
    }
    let mut left: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let place = |at: &[String]| {
        at.iter()
            .fold(granted.to_owned(), |path, name| path.join(name))
    };
    while let Some(name) = left.pop() {
        if !place(&at).is_dir() {
            return Leads::Nowhere;
        }
        match name.as_str() {
            "" | "." => continue,
            ".." if at.pop().is_none() => return Leads::Nowhere,
            ".." => continue,
            _ => at.push(name),
        }
        let Ok(target) = std::fs::read_link(place(&at)) else {
            continue;
        };
        links += 1;
        let target = target.to_str().expect("a text").to_owned();
        if links > LINKS_MAX || target.starts_with('/') {
            return Leads::Nowhere;
        }
        at.pop();
        left.extend(target.split('/').rev().map(str::to_owned));
    }
    let place = place(&at);
    match place.symlink_metadata() {
        Ok(_) => Leads::To(place),
        Err(_) => Leads::Nowhere,
    }
}

/// What is wrong with what a guest was told of a path that it only looked at, if anything is.
fn misled(granted: &Path, step: &Value, result: &Value) -> Option<String> {
    let path = step["path"].as_str().expect("a path");
    let found = result.get("ok");
    let expected = match (walk(granted, path), step["do"].as_str()) {
        (Leads::Nowhere, _) => None,
        (Leads::To(place), Some("read")) => std::fs::read_to_string(place).ok().map(Value::from),
        (Leads::To(place), Some("list")) => names(&place).ok().map(Value::from),
        (Leads::To(place), Some("stat")) if place.is_dir() => {
            return found.is_none().then(|| format!("{step}: {result}"));
        }
        (Leads::To(place), _) => {
            let bytes = place.metadata().expect("it is there").len();
            Some(json!(["DescriptorType::RegularFile", bytes]))
        }
    };
    let is_so = found == expected.as_ref();
    (!is_so).then(|| format!("{step}: {result}, and not {expected:?}"))
}

fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let entries = std::fs::read_dir(folder)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// All that one guest does with paths reaches nothing outside, whatever it may do inside.
#[test]
fn no_path_of_any_kind_reaches_what_is_outside() {
    let _quiet = MOVES.blocking_read();
    let guest = Guest::new();
    let steps = proptest::collection::vec(step(), 1..40);
    proptest!(cases(300), |(steps in steps, may_write in any::<bool>())| {
        let host = Host::new();
        let before = host.outside();
        let access = match may_write {
            true => writable(&host.granted),
            false => read_only(&host.granted),
        };
        let results = guest.results(&steps, granted(access));
        let told = json!(results).to_string();
        prop_assert!(!told.contains("secret that"), "{told}");
        let size = format!("RegularFile\",{}", SECRET.len());
        prop_assert!(!told.contains(&size), "{told}");
        prop_assert_eq!(host.outside(), before, "{}", told);
        for (step, result) in steps.iter().zip(&results) {
            let makes_links = ["link", "symlink"].contains(&step["do"].as_str().expect("an act"));
            prop_assert!(!makes_links || result["ok"].is_null(), "{step}: {result}");
        }
    });
}

/// What only looks is told what is there, by every path that leads to it, and nothing by every other.
#[test]
fn a_path_leads_where_it_says_or_nowhere() {
    let _quiet = MOVES.blocking_read();
    let guest = Guest::new();
    let host = Host::new();
    let looks = proptest::sample::select(vec!["read", "list", "stat"]);
    let look = (looks, path()).prop_map(|(act, path)| json!({ "do": act, "path": path }));
    proptest!(cases(300), |(steps in proptest::collection::vec(look, 1..100))| {
        let results = guest.results(&steps, granted(read_only(&host.granted)));
        let steps = steps.iter().zip(&results);
        let faults: Vec<_> = steps.filter_map(|(step, told)| misled(&host.granted, step, told)).collect();
        prop_assert!(faults.is_empty(), "{}", faults.join("\n"));
    });
}

/// What stands between two names and changes nothing.
fn detour() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["/", "//", "/./", "/././/", "///./"])
}

/// Another spelling of a path.
fn spelled(path: &'static str) -> impl Strategy<Value = String> {
    let names: Vec<&str> = path.split('/').collect();
    let before = proptest::sample::select(vec!["", "./", "sub/../", "sub/deep/../../", ".//./"]);
    (before, proptest::collection::vec(detour(), names.len())).prop_map(move |(before, detours)| {
        let parts = names
            .iter()
            .zip(detours)
            .map(|(name, detour)| format!("{name}{detour}"));
        let path: String = parts.collect();
        format!("{before}{}", path.trim_end_matches(['/', '.']))
    })
}

/// Has the guest make the folders and files by itself.
fn making() -> Vec<Value> {
    let folders = FOLDERS.map(|path| json!({ "do": "mkdir", "path": path }));
    let files = FILES.map(|(path, text)| json!({ "do": "write", "path": path, "text": text }));
    folders.into_iter().chain(files).collect()
}

fn in_scratch() -> Call {
    with(
        Vec::new(),
        scratch(1 << 20, 1_000).map(|mut scratch| {
            scratch.at = "/data".to_owned();
            scratch
        }),
    )
}

#[test]
fn every_spelling_finds_what_is_inside() {
    let _quiet = MOVES.blocking_read();
    let guest = Guest::new();
    let host = Host::new();
    let spellings = (
        proptest::collection::vec(spelled("note"), 20),
        proptest::collection::vec(spelled("sub/inner"), 20),
    );
    proptest!(cases(100), |((notes, inner) in spellings)| {
        let read = |path: &String| json!({ "do": "read", "path": path });
        let steps: Vec<Value> = notes.iter().chain(&inner).map(read).collect();
        let mut with_tree = making();
        let made = with_tree.len();
        with_tree.extend(steps.clone());
        let in_host = guest.results(&steps, granted(read_only(&host.granted)));
        let in_scratch = guest.results(&with_tree, in_scratch()).split_off(made);
        for results in [in_host, in_scratch] {
            for (number, result) in results.iter().enumerate() {
                let (_, text) = FILES[usize::from(number >= notes.len())];
                prop_assert_eq!(result, &json!({ "ok": text }), "{}", steps[number]);
            }
        }
    });
}

/// The same guest does the same in a folder in memory and in one of the host, without links: it is told the same, and the
/// same is left.
#[test]
fn the_scratch_folder_and_a_folder_of_the_host_answer_alike() {
    let _quiet = MOVES.blocking_read();
    let guest = Guest::new();
    let everything = |path: &str| {
        [
            json!({ "do": "list", "path": path }),
            json!({ "do": "read", "path": path }),
        ]
    };
    proptest!(cases(300), |(acts in proptest::collection::vec(step(), 1..40))| {
        let outer = tempfile::tempdir().expect("a folder");
        let mut steps = making();
        for mut act in acts.into_iter().filter(|act| act["do"] != "hash") {
            // There are no links to follow or not.
            act["follow"] = json!(true);
            steps.push(act);
        }
        for path in [".", "sub", "sub/deep", "note", "sub/inner", "new", "sub/new"] {
            steps.extend(everything(path));
        }
        let in_host = guest.results(&steps, granted(writable(outer.path())));
        let in_scratch = guest.results(&steps, in_scratch());
        for (step, (host, scratch)) in steps.iter().zip(in_host.iter().zip(&in_scratch)) {
            prop_assert!(alike(host, scratch), "{step}: {host} on the host, {scratch} in memory");
        }
    });
}

/// Whether two answers are the same. Why something is refused may differ where there are two reasons for it, and what a
/// folder takes is each file system's own.
fn alike(one: &Value, other: &Value) -> bool {
    let folder = |value: &Value| value["ok"][0] == "DescriptorType::Directory";
    match (one.get("ok"), other.get("ok")) {
        (Some(value), Some(same)) => value == same || (folder(one) && folder(other)),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
