//! Packages of JavaScript: files in a folder, which a program may `require` and `import`.

use serde_json::{Value, json};
use tempfile::TempDir;
use troupe_sandbox::{
    Call, Exception, FilesGrant, FolderAccess, FolderGrant, Grants, Outcome, Report,
};

use crate::javascript::{execute, javascript};
use crate::sessions;
use crate::support::{call, program, returned};

/// As bundlers write it: for Node.js, for loaders, and for pages.
const UMD: &str = "!function(root, make){\
    'object'==typeof exports&&'undefined'!=typeof module?module.exports=make():\
    'function'==typeof define&&define.amd?define(make):(root=root||self).greet=make()\
    }(this,(function(){'use strict';return function(name){return 'hello '+name}}));";

/// As bundlers write it for modules.
const MODULE: &str = "import greet from 'greet';\nimport { plus as add } from \"@math/plus\";\n\
    const one = 1;\nlet count = 0;\nfunction next() {\n  count += one;\n  return count;\n}\n\
    export default class Counter { name() { return greet(`counter`) } }\n\
    export const sum = (a, b) => add(a, b), text = `export { nothing }`;\n\
    export {\n  next,\n  count as current\n};\n";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, source) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, source).expect("a file");
    }
    folder
}

fn packages() -> TempDir {
    folder(&[
        ("greet.js", UMD),
        (
            "@math/plus.js",
            "exports.plus = (a, b) => a + b; exports.by = require('greet')('plus')",
        ),
        ("counter.mjs", MODULE),
        ("broken.js", "var fine = 1;\n\nnull.x"),
        ("odd.js", "function ( {"),
        (
            "files.js",
            "exports.read = () => 1;\nconst fs = require('fs');",
        ),
        ("inner.js", "module.exports = require('./other')"),
        (
            "ours.js",
            "exports.fail = function fail() {\n  throw new RangeError('too far') }",
        ),
        ("one.js", "exports.a = 1; exports.other = require('two').b"),
        ("two.js", "exports.b = 2; exports.seen = require('one').a"),
        ("latin.js", "exports.text = 'Grüße €😀'"),
    ])
}

fn with(folder: &TempDir) -> Call {
    Call {
        grants: Grants {
            files: Some(FilesGrant {
                folders: vec![FolderGrant {
                    at: "/packages".to_owned(),
                    access: FolderAccess::Read {
                        path: folder.path().to_owned(),
                        to_write: "it is only read".to_owned(),
                    },
                }],
                scratch: None,
            }),
            ..Grants::none()
        },
        ..call()
    }
}

async fn run(folder: &TempDir, source: &str) -> Report {
    execute(program("agent.js", source), with(folder)).await
}

async fn result(folder: &TempDir, source: &str) -> Value {
    returned(run(folder, source).await)
}

async fn exception(folder: &TempDir, source: &str) -> Exception {
    match run(folder, source).await.outcome {
        Outcome::Raised(exception) => exception,
        other => panic!("{source}: {other:?}"),
    }
}

#[tokio::test]
async fn without_a_folder_there_are_no_packages_and_the_error_says_what_to_do() {
    let report = execute(program("agent.js", "require('dayjs')"), call()).await;
    let Outcome::Raised(exception) = report.outcome else {
        panic!("{report:?}")
    };
    assert_eq!(
        exception.message,
        "require is not defined: no packages were given; give each as one file with --package NAME=FILE, or in the folder /packages"
    );
    assert_eq!(exception.line, Some(1));
}

#[tokio::test]
async fn a_bundle_of_any_kind_can_be_required() {
    let folder = packages();
    assert_eq!(
        result(&folder, "return require('greet')('you')").await,
        json!("hello you")
    );
    let source = "const { plus, by } = require('@math/plus'); return [plus(1, 2), by]";
    assert_eq!(result(&folder, source).await, json!([3, "hello plus"]));
    let source = "const c = require('counter');\nc.next();\n\
        return [c.next(), c.current, c.sum(2, 3), c.text, new c.default().name(), Object.keys(c).sort()]";
    let expected = json!([
        2,
        2,
        5,
        "export { nothing }",
        "hello counter",
        ["current", "default", "next", "sum", "text"]
    ]);
    assert_eq!(result(&folder, source).await, expected);
    assert_eq!(
        result(&folder, "return require('greet') === require('greet')").await,
        json!(true)
    );
    let source = "const one = require('one'); return [one.a, one.other, require('two').seen]";
    assert_eq!(
        result(&folder, source).await,
        json!([1, 2, 1]),
        "two that want each other"
    );
    assert_eq!(
        result(&folder, "return require('latin').text").await,
        json!("Grüße €😀")
    );
}

#[tokio::test]
async fn a_program_may_import_at_the_beginning_of_a_line() {
    let folder = packages();
    let source = "import greet from 'greet'\nimport Counter, { sum, next as step } from \"counter\"\n\
        import * as math from '@math/plus';\nimport 'latin'\n\
        return [greet('x'), sum(1, 1), step(), new Counter().name(), math.plus(2, 2), math.default.plus(1, 1)]";
    let expected = json!(["hello x", 2, 1, "hello counter", 4, 2]);
    assert_eq!(result(&folder, source).await, expected);
    let source = "import {\n  sum\n} from 'counter';\nthrow new Error('here')";
    assert_eq!(exception(&folder, source).await.line, Some(4));
}

#[tokio::test]
async fn an_error_names_the_package_and_says_what_to_do() {
    let folder = packages();
    let unknown = exception(&folder, "\nrequire('lodash')").await;
    assert!(
        unknown.message.starts_with(
            "there is no package \"lodash\" (there are: @math/plus, broken, counter, "
        ),
        "{unknown:?}"
    );
    assert_eq!(unknown.line, Some(2));
    let broken = exception(&folder, "require('broken')").await;
    assert!(
        broken
            .message
            .starts_with("the package \"broken\" cannot be loaded: TypeError: "),
        "{broken:?}"
    );
    assert!(broken.traceback.contains("at broken:3:"), "{broken:?}");
    assert_eq!(broken.line, Some(1));
    let odd = exception(&folder, "require('odd')").await;
    assert!(
        odd.message
            .starts_with("the package \"odd\" cannot be loaded: SyntaxError: "),
        "{odd:?}"
    );
    let files = exception(&folder, "require('files')").await;
    assert!(
        files.message.starts_with("the package \"files\" wants \"fs\": \"fs\" is a part of Node.js, and there is none here"),
        "{files:?}"
    );
    let node = exception(&folder, "import path from 'node:path'").await;
    assert!(
        node.message
            .starts_with("\"node:path\" is a part of Node.js"),
        "{node:?}"
    );
    let inner = exception(&folder, "require('inner')").await;
    assert!(
        inner
            .message
            .contains("the package \"inner\" wants \"./other\": "),
        "{inner:?}"
    );
    assert!(inner.message.contains("bundle it"), "{inner:?}");
    for name in [
        "../secret",
        "/etc/passwd",
        "a/../b",
        "@x/../y",
        ".",
        "",
        "a\\0b",
    ] {
        let wrong = exception(&folder, &format!("require({})", json!(name))).await;
        assert!(
            wrong.message.contains("is no name of a package"),
            "{name}: {wrong:?}"
        );
    }
    let ours = exception(&folder, "const { fail } = require('ours')\n\nfail()").await;
    assert_eq!(ours.line, Some(3));
    assert!(ours.traceback.contains("at fail (ours:2:"), "{ours:?}");
}

#[tokio::test]
async fn what_stands_in_the_place_of_a_part_of_node_is_taken() {
    let folder = folder(&[
        ("fs.js", "exports.readFileSync = () => 'nothing'"),
        (
            "wants.js",
            "module.exports = require('fs').readFileSync('/x')",
        ),
    ]);
    assert_eq!(
        result(&folder, "return require('wants')").await,
        json!("nothing")
    );
}

#[tokio::test]
async fn a_package_that_never_ends_or_is_too_large_is_stopped_like_any_code() {
    let large = format!("exports.a = 1; // {}", "x".repeat(17 << 20));
    let folder = folder(&[("endless.js", "for (;;) {}"), ("large.js", &large)]);
    let mut limited = with(&folder);
    limited.limits.fuel = 100_000_000;
    let report = execute(program("agent.js", "require('endless')"), limited).await;
    assert!(matches!(report.outcome, Outcome::LimitHit(_)), "{report:?}");
    let large = exception(&folder, "require('large')").await;
    assert!(
        large.message.contains("has more than 16777216 bytes"),
        "{large:?}"
    );
}

#[tokio::test]
async fn a_session_loads_a_package_once() {
    let folder = packages();
    let opened = sessions::open(javascript().await, with(&folder)).await;
    let source = "import { next } from 'counter'\nconst greet = require('greet')\nnext()";
    assert_eq!(opened.result(source).await, json!(1));
    assert_eq!(
        opened.result("[next(), greet('again')]").await,
        json!([2, "hello again"])
    );
    assert_eq!(opened.result("require('counter').next()").await, json!(3));
}
