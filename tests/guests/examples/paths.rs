//! Works with a folder that it is given as WASI itself has it, past every library: the paths of its input go to the host
//! as they are. It tells what came of each, and may end badly with everything that it opened in its hands.
#![cfg(target_family = "wasm")]

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use serde_json::{Value, json};
use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DirectoryEntryStream, ErrorCode, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasip2::io::streams::{InputStream, OutputStream};

struct Paths;

/// What is kept until the end.
#[derive(Default)]
struct Held {
    files: Vec<Descriptor>,
    inputs: Vec<InputStream>,
    outputs: Vec<OutputStream>,
    listings: Vec<DirectoryEntryStream>,
}

impl Guest for Paths {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let steps: Vec<Value> = serde_json::from_str(&invocation.input).unwrap_or_default();
        let folders = preopens::get_directories();
        let mut held = Held::default();
        let results: Vec<Value> = steps
            .iter()
            .map(|step| {
                // The one that it names, or the first.
                let named = |at: &str| step["at"].as_str().is_none_or(|named| named == at);
                let folder = folders.iter().find(|(_, at)| named(at));
                let folder = folder.map(|(folder, _)| folder).ok_or(ErrorCode::NoEntry);
                match folder.and_then(|folder| operate(folder, step, &mut held)) {
                    Ok(value) => json!({ "ok": value }),
                    Err(error) => json!({ "error": error.name() }),
                }
            })
            .collect();
        match invocation.action.as_str() {
            "then trap" => panic!("with all in its hands"),
            "then loop" => loop {
                std::hint::black_box(&held);
            },
            _ => Ok(Value::from(results).to_string()),
        }
    }
}

fn operate(folder: &Descriptor, step: &Value, held: &mut Held) -> Result<Value, ErrorCode> {
    let text = |name: &str| step[name].as_str().unwrap_or_default();
    let (path, to) = (text("path"), text("to"));
    let follow = match step["follow"] == false {
        true => PathFlags::empty(),
        false => PathFlags::SYMLINK_FOLLOW,
    };
    let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
    let open = |how, flags| folder.open_at(follow, path, how, flags);
    match text("do") {
        "read" => {
            let file = open(OpenFlags::empty(), read)?;
            let (bytes, _) = file.read(65_536, 0)?;
            Ok(json!(String::from_utf8_lossy(&bytes)))
        }
        "write" => {
            let file = open(OpenFlags::CREATE | OpenFlags::TRUNCATE, read | write)?;
            file.write(text("text").as_bytes(), 0).map(Value::from)
        }
        "make" => open(OpenFlags::CREATE | OpenFlags::EXCLUSIVE, write).map(|_| Value::Null),
        "list" => {
            let listed = open(OpenFlags::DIRECTORY, read)?.read_directory()?;
            let mut names = Vec::new();
            while let Some(entry) = listed.read_directory_entry()? {
                names.push(entry.name);
            }
            names.sort();
            Ok(json!(names))
        }
        "stat" => {
            let found = folder.stat_at(follow, path)?;
            Ok(json!([format!("{:?}", found.type_), found.size]))
        }
        "hash" => {
            let hash = folder.metadata_hash_at(follow, path)?;
            Ok(json!([hash.lower, hash.upper]))
        }
        "times" => {
            let (no, now) = (NewTimestamp::NoChange, NewTimestamp::Now);
            folder.set_times_at(follow, path, no, now).map(Value::from)
        }
        "mkdir" => folder.create_directory_at(path).map(Value::from),
        "rmdir" => folder.remove_directory_at(path).map(Value::from),
        "unlink" => folder.unlink_file_at(path).map(Value::from),
        "readlink" => folder.readlink_at(path).map(Value::from),
        "rename" => folder.rename_at(path, folder, to).map(Value::from),
        "link" => folder.link_at(follow, path, folder, to).map(Value::from),
        "symlink" => folder.symlink_at(to, path).map(Value::from),
        "hold" => hold(folder, path, held),
        _ => Err(ErrorCode::Unsupported),
    }
}

/// Opens a file, streams from it and to it, and listings, until there is no more; says how many of each there are.
fn hold(folder: &Descriptor, path: &str, held: &mut Held) -> Result<Value, ErrorCode> {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let follow = PathFlags::SYMLINK_FOLLOW;
    while let Ok(file) = folder.open_at(follow, path, OpenFlags::CREATE, flags) {
        held.files.push(file);
    }
    for file in &held.files {
        held.inputs.extend(file.read_via_stream(0));
        held.outputs.extend(file.write_via_stream(0));
    }
    while let Ok(listing) = folder.read_directory() {
        held.listings.push(listing);
    }
    Ok(json!([
        held.files.len(),
        held.inputs.len(),
        held.outputs.len(),
        held.listings.len()
    ]))
}

guests::export!(Paths);
