//! `troupe exec` with what its caller gives it: folders, a place for what does not last, an environment, standard input,
//! and packages.

use e2e::troupe::{Ended, Workplace};
use serde_json::{Value, json};

async fn exec(place: &Workplace, source: &str, options: &[&str]) -> Ended {
    place.write("code.py", source);
    let arguments = ["exec", "code.py"].iter().chain(options);
    place.troupe(arguments.copied()).end().await
}

fn result_of(ended: &Ended) -> Value {
    let shown = ended.json();
    assert_eq!(shown["error"], Value::Null, "{ended}");
    shown["result"].clone()
}

#[tokio::test]
async fn folders_are_read_and_written_as_far_as_they_were_given() {
    let place = Workplace::new();
    place.write("in/table.csv", "a,b\n1,2\n");
    std::fs::create_dir(place.path("out")).expect("a folder");
    let source = "
import csv, os
rows = list(csv.DictReader(open('/in/table.csv')))
open('/out/rows.txt', 'w').write(str(rows))
open('/tmp/scratch', 'w').write('x')
result = [rows, os.listdir('/tmp'), os.environ.get('NAME'), os.environ.get('HOME')]
";
    let options = [
        "--folder",
        "/in=in",
        "--folder",
        "/out=out:rw",
        "--env",
        "NAME=value",
        "--json",
    ];
    let ended = exec(&place, source, &options).await.expect_code(0);
    let rows = json!([{ "a": "1", "b": "2" }]);
    assert_eq!(result_of(&ended), json!([rows, ["scratch"], "value", null]));
    let written = std::fs::read_to_string(place.path("out/rows.txt")).expect("a file");
    assert_eq!(written, "[{'a': '1', 'b': '2'}]");
    assert_eq!(ended.json()["usage"]["disk_bytes"], written.len() + 1);

    let denied = exec(
        &place,
        "open('/in/table.csv', 'w')",
        &["--folder", "/in=in"],
    )
    .await
    .expect_code(1);
    for text in ["Read-only file system", "add `:rw` to its --folder /in=in"] {
        assert!(denied.stderr.contains(text), "{text}: {denied}");
    }
    let full = exec(
        &place,
        "open('/tmp/large', 'wb').write(b'x' * 3_000_000)",
        &["--disk-mb", "2"],
    )
    .await
    .expect_code(1);
    assert!(full.stderr.contains("raise --disk-mb"), "{full}");
}

#[tokio::test]
async fn standard_input_is_the_callers_or_a_file() {
    let place = Workplace::new();
    place.write("lines.txt", "one\ntwo\n");
    let source = "import sys\nresult = [line.strip() for line in sys.stdin]";
    let ended = exec(&place, source, &["--stdin", "lines.txt", "--json"]).await;
    assert_eq!(result_of(&ended), json!(["one", "two"]));
    let ended = place
        .troupe(["exec", "code.py", "--stdin", "-", "--json"])
        .input("three")
        .end()
        .await;
    assert_eq!(result_of(&ended), json!(["three"]));
    // None: it has an end, and nobody waits.
    let ended = exec(&place, source, &["--json"]).await;
    assert_eq!(result_of(&ended), json!([]));
}

#[tokio::test]
async fn a_wheel_is_imported_from_and_nothing_is_installed() {
    let place = Workplace::new();
    std::fs::create_dir(place.path("out")).expect("a folder");
    // Made in the sandbox, as a wheel is: a ZIP file.
    let build = "
import zipfile
with zipfile.ZipFile('/out/greet-1.0-py3-none-any.whl', 'w', zipfile.ZIP_DEFLATED) as wheel:
    wheel.writestr('greet/__init__.py', 'from .words import hello')
    wheel.writestr('greet/words.py', 'def hello(name):\\n    return f\"hello {name}\"')
    wheel.writestr('greet-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: greet\\nVersion: 1.0')
";
    drop(
        exec(&place, build, &["--folder", "/out=out:rw"])
            .await
            .expect_code(0),
    );
    let source = "
import greet, importlib.metadata
result = [greet.hello('you'), importlib.metadata.version('greet')]
";
    let wheel = "out/greet-1.0-py3-none-any.whl";
    let ended = exec(&place, source, &["--package", wheel, "--json"]).await;
    assert_eq!(result_of(&ended), json!(["hello you", "1.0"]));
    let without = exec(&place, source, &[]).await.expect_code(1);
    assert!(
        without.stderr.contains("No module named 'greet'"),
        "{without}"
    );
    // A folder does as well, for one's own modules.
    place.write("modules/mine.py", "def twice(n): return 2 * n");
    let options = ["--folder", "/packages=modules", "--json"];
    let ended = exec(&place, "import mine\nresult = mine.twice(4)", &options).await;
    assert_eq!(result_of(&ended), json!(8));
    // Packages may lie there too, and then both are found.
    std::fs::copy(
        place.path(wheel),
        place.path("modules/greet-1.0-py3-none-any.whl"),
    )
    .expect("a file");
    let both = "import greet, mine\nresult = [mine.twice(4), greet.hello('you')]";
    let ended = exec(&place, both, &options).await;
    assert_eq!(result_of(&ended), json!([8, "hello you"]));
    let twice = [&options[..], &["--package", wheel]].concat();
    let refused = exec(&place, both, &twice).await.expect_code(2);
    assert!(
        refused.stderr.contains(
            "what --package gives is at `/packages` already; put those packages into the folder"
        ),
        "{refused}"
    );
}

#[tokio::test]
async fn two_folders_at_one_place_are_refused() {
    let place = Workplace::new();
    place.write("a/x", "a");
    place.write("b/x", "b");
    let source = "result = [open(f'/in{path}/x').read() for path in ['', '/below']]";
    for (at, says) in [
        ("/in", "--folder: another folder is at `/in` already"),
        (
            "/tmp",
            "--folder: the code's own folder is at `/tmp` already",
        ),
    ] {
        let second = format!("{at}=b");
        let options = ["--folder", "/in=a", "--folder", &second];
        let refused = exec(&place, source, &options).await.expect_code(2);
        assert!(refused.stderr.contains(says), "{says}: {refused}");
    }
    let options = ["--folder", "/in=a", "--folder", "/in/below=b", "--json"];
    let ended = exec(&place, source, &options).await;
    assert_eq!(result_of(&ended), json!(["a", "b"]));
}

#[tokio::test]
async fn mistakes_are_said_before_anything_runs() {
    let place = Workplace::new();
    place.write("numpy-2.0-cp314-cp314-linux_x86_64.whl", "");
    place.write("greet-1.0-py3-none-any.whl", "<html>not found</html>");
    place.write("a.js", "return 1");
    for (options, says) in [
        (
            ["--package", "greet-1.0-py3-none-any.whl"],
            "the package greet-1.0-py3-none-any.whl cannot be read: it is no wheel: it does not begin as a ZIP file does",
        ),
        (["--folder", "data"], "write AT=PATH"),
        (["--folder", "/data=nowhere"], "there is no folder nowhere"),
        (
            ["--folder", "/a/../b=."],
            "`/a/../b` is no place of a folder",
        ),
        (["--folder", "/in=/proc/self"], "/proc is the kernel's"),
        (["--env", "NAME"], "write NAME=VALUE"),
        (["--stdin", "nowhere.txt"], "nowhere.txt cannot be read"),
        (
            ["--package", "numpy-2.0-cp314-cp314-linux_x86_64.whl"],
            "packages with native code cannot run here",
        ),
    ] {
        let ended = exec(&place, "result = 1", &options).await.expect_code(2);
        assert!(ended.stderr.contains(says), "{says}: {ended}");
    }
    let ended = place
        .troupe(["exec", "a.js", "--package", "x-1-py3-none-any.whl"])
        .end()
        .await
        .expect_code(2);
    assert!(
        ended
            .stderr
            .contains("a package for JavaScript is one file that ends in .js"),
        "{ended}"
    );
    for wheel in [
        "Zope.Interface-6.0-py3-none-any.whl",
        "zope_interface-7.1-py3-none-any.whl",
    ] {
        place.write(wheel, "PK\u{3}\u{4}");
    }
    let options = [
        "--package",
        "Zope.Interface-6.0-py3-none-any.whl",
        "--package",
        "zope_interface-7.1-py3-none-any.whl",
    ];
    let ended = exec(&place, "result = 1", &options).await.expect_code(2);
    assert!(
        ended
            .stderr
            .contains("there are two wheels of the package `zope-interface`; give one of them"),
        "{ended}"
    );
}

#[tokio::test]
async fn nothing_is_written_where_a_configuration_would_be_looked_for() {
    let place = Workplace::new();
    place.write("here/code.py", "result = 1");
    std::fs::create_dir(place.path("here/out")).expect("a folder");
    let exec = |folder: &'static str| {
        let call = place.troupe(["exec", "code.py", "--folder", folder]);
        // There is no configuration in the folder that it is called in.
        call.through(["sh", "-c", "cd here && exec \"$@\"", "sh"])
            .end()
    };
    let refused = exec("/out=.:rw").await.expect_code(2);
    assert!(
        refused
            .stderr
            .contains("here/troupe.toml would be Troupe's configuration"),
        "{refused}"
    );
    for folder in ["/in=.", "/out=out:rw"] {
        assert_eq!(exec(folder).await.expect_code(0).stdout, "1\n");
    }
}
