//! Works with files: does the operations of its input, one after the other, and tells what came of each.
#![cfg(target_family = "wasm")]
#![allow(
    unsafe_code,
    reason = "the standard library makes no symbolic links on WASI"
)]

use std::ffi::{CString, c_char, c_int};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};

use guests::exports::troupe::agent::guest::{Failure, Guest, Invocation};
use serde_json::{Value, json};

struct Files;

unsafe extern "C" {
    #[link_name = "symlink"]
    fn make_symlink(target: *const c_char, path: *const c_char) -> c_int;
}

impl Guest for Files {
    fn run(invocation: Invocation) -> Result<String, Failure> {
        let steps: Vec<Value> = serde_json::from_str(&invocation.input).unwrap_or_default();
        let mut held = Vec::new();
        let results: Vec<Value> = steps
            .iter()
            .map(|step| match operate(step, &mut held) {
                Ok(value) => json!({ "ok": value }),
                Err(error) => json!({ "errno": error.raw_os_error(), "error": error.to_string() }),
            })
            .collect();
        Ok(json!({ "results": results, "held": held.len() }).to_string())
    }
}

fn operate(step: &Value, held: &mut Vec<File>) -> io::Result<Value> {
    let text = |name: &str| step[name].as_str().unwrap_or_default();
    let number = |name: &str| step[name].as_u64().unwrap_or(0);
    let path = text("path");
    match text("do") {
        "read" => Ok(json!(String::from_utf8_lossy(&fs::read(path)?))),
        "write" => fs::write(path, text("text")).map(done),
        "append" => {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            for _ in 0..number("times").max(1) {
                file.write_all(text("text").as_bytes())?;
            }
            Ok(Value::Null)
        }
        "write_at" => {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            file.seek(SeekFrom::Start(number("offset")))?;
            file.write_all(text("text").as_bytes()).map(done)
        }
        "fill" => fs::write(
            path,
            vec![b'x'; usize::try_from(number("bytes")).unwrap_or(0)],
        )
        .map(done),
        "set_len" => {
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?;
            file.set_len(number("bytes")).map(done)
        }
        "mkdir" => fs::create_dir_all(path).map(done),
        "rmdir" => fs::remove_dir(path).map(done),
        "remove" => fs::remove_file(path).map(done),
        "rename" => fs::rename(path, text("to")).map(done),
        "hard_link" => fs::hard_link(path, text("to")).map(done),
        "symlink" => symlink(text("target"), path),
        "list" => {
            let entries = fs::read_dir(path)?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            Ok(json!(names.collect::<io::Result<Vec<_>>>()?))
        }
        "stat" => {
            let found = fs::metadata(path)?;
            Ok(json!({ "bytes": found.len(), "is_folder": found.is_dir() }))
        }
        // Makes so many files, and says how many there are.
        "make_many" => {
            let made = (0..number("count"))
                .take_while(|index| File::create(format!("{path}/{index}")).is_ok())
                .count();
            Ok(json!(made))
        }
        // Holds so many open files, and says how many.
        "open_many" => {
            for _ in 0..number("count") {
                match File::open(path) {
                    Ok(file) => held.push(file),
                    Err(_) => break,
                }
            }
            Ok(json!(held.len()))
        }
        // Holds so many listings that were begun, and says how many.
        "list_many" => {
            let listings = (0..number("count")).map_while(|_| {
                let mut listing = fs::read_dir(path).ok()?;
                listing.next()?.ok()?;
                Some(listing)
            });
            Ok(json!(listings.collect::<Vec<_>>().len()))
        }
        // The bad ends of this very guest, with all that it holds.
        "trap" => panic!("with {} open files", held.len()),
        "loop" => loop {
            std::hint::black_box(&held);
        },
        "close_all" => {
            held.clear();
            Ok(Value::Null)
        }
        "read_part" => {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(number("offset")))?;
            let mut part = vec![0; usize::try_from(number("bytes")).unwrap_or(0)];
            let count = file.read(&mut part)?;
            Ok(json!(String::from_utf8_lossy(&part[..count])))
        }
        other => Err(io::Error::other(format!("no operation `{other}`"))),
    }
}

fn symlink(target: &str, path: &str) -> io::Result<Value> {
    let (target, path) = (CString::new(target)?, CString::new(path)?);
    // SAFETY: both are texts that end in zero and outlive the call.
    if unsafe { make_symlink(target.as_ptr(), path.as_ptr()) } == 0 {
        Ok(Value::Null)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn done((): ()) -> Value {
    Value::Null
}

guests::export!(Files);
