//! Guests that hold something of the host's when they end badly: files, streams, requests, packages, and tools that work
//! for them.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use troupe_sandbox::{
    CancelFlag, Component, Error, FilesGrant, FolderAccess, FolderGrant, HostCalls, HostFuture,
    HttpFault, HttpGrant, HttpRequest, HttpResponse, Limits, OperatorHost, Outcome, Report,
    Sandbox, ScratchGrant, ToolAnswer, ToolsGrant, tools,
};

use super::lifecycle::{Asked, Change, Hostile};
use crate::support::{call, invocation, program, target};

/// Bytes that a guest may write to its folders.
const DISK_BYTES_MAX: u64 = 1 << 20;
/// Files that a guest may hold open: so few that all who are at work at once are given them.
const OPEN_FILES_MAX: u32 = 16;
/// Fuel for what takes a while before it ends badly; and for what runs in an interpreter besides.
const LONG_FUEL: u64 = 10_000_000;
const INTERPRETED_FUEL: u64 = 30_000_000;

/// Folders of the host that these guests use.
pub(super) struct Folders {
    data: TempDir,
    packages: TempDir,
}

impl Folders {
    pub(super) fn new() -> Self {
        let folder = || tempfile::tempdir().expect("a folder");
        Folders {
            data: folder(),
            packages: folder(),
        }
    }
}

/// All of them. Those with a folder of the host have a worker each where there are workers.
pub(super) async fn all(sandbox: &Sandbox, folders: &Folders) -> Vec<Hostile> {
    let (data, packages) = (folders.data.path(), folders.packages.path());
    let mut all = with_files(sandbox, data).await;
    all.extend(with_programs(sandbox, data, packages).await);
    all.extend(with_requests(sandbox).await);
    all.extend(with_tools(sandbox).await);
    all
}

async fn load(sandbox: &Sandbox, path: &str) -> Component {
    let wasm = std::fs::read(target().join(path)).expect("the set-up built it");
    sandbox.load(wasm.into()).await.expect("a component")
}

async fn guest(sandbox: &Sandbox, name: &str) -> Component {
    let path = format!("guests/wasm32-wasip2/guest/examples/{name}.wasm");
    load(sandbox, &path).await
}

fn asked(action: &str, input: &Value) -> Asked {
    Asked::Agent(invocation(action, &input.to_string()))
}

/// Grants the scratch folder as `/tmp`, and folders of the host besides.
fn granted(
    folders: Vec<(&'static str, FolderAccess)>,
    change: impl Fn(&mut Limits) + Send + Sync + 'static,
) -> Change {
    let folder = |(at, access): &(&str, FolderAccess)| FolderGrant {
        at: (*at).to_owned(),
        access: access.clone(),
    };
    let files = FilesGrant {
        folders: folders.iter().map(folder).collect(),
        scratch: Some(ScratchGrant {
            at: "/tmp".to_owned(),
            bytes_max: DISK_BYTES_MAX,
            entries_max: 50,
        }),
    };
    Box::new(move |call| {
        call.grants.files = Some(files.clone());
        call.limits.open_files_max = OPEN_FILES_MAX;
        call.limits.fuel = LONG_FUEL;
        change(&mut call.limits);
    })
}

fn read_only(path: &Path) -> FolderAccess {
    FolderAccess::Read {
        path: path.to_owned(),
        to_write: "it is only read".to_owned(),
    }
}

fn writable(path: &Path) -> FolderAccess {
    FolderAccess::Write {
        path: path.to_owned(),
        bytes_max: DISK_BYTES_MAX,
        entries_max: 50,
    }
}

/// Guests that hold what they opened; they work in the folder of the host, in the scratch folder, or in both.
async fn with_files(sandbox: &Sandbox, folder: &Path) -> Vec<Hostile> {
    let (paths, files) = (guest(sandbox, "paths").await, guest(sandbox, "files").await);
    let hold = |at: &str| json!([{ "do": "hold", "at": at, "path": "held" }]);
    let fill = json!([
        { "do": "write", "path": "/data/held", "text": "x" },
        { "do": "write", "path": "/tmp/held", "text": "x" },
        { "do": "open_many", "path": "/data/held", "count": 7 },
        { "do": "open_many", "path": "/tmp/held", "count": 7 },
        { "do": "fill", "path": "/data/full", "bytes": 2 * DISK_BYTES_MAX },
        { "do": "fill", "path": "/tmp/full", "bytes": 2 * DISK_BYTES_MAX },
        { "do": "make_many", "path": "/tmp", "count": 1_000_000 },
        { "do": "trap" },
    ]);
    let write = |at: &str| {
        json!([
            { "do": "write", "path": format!("{at}/held"), "text": "x" },
            { "do": "open_many", "path": format!("{at}/held"), "count": 10 },
            { "do": "remove", "path": format!("{at}/endless") },
            { "do": "append", "path": format!("{at}/endless"), "text": "x", "times": 1_000_000_000 },
            { "do": "loop" },
        ])
    };
    let in_folder = || vec![("/data", writable(folder))];
    let for_a_while = |limits: &mut Limits| {
        limits.fuel = u64::MAX;
        limits.time_max = Duration::from_millis(20);
    };
    let hostile = |name, component: &Component, asked, change, ends| Hostile {
        name,
        component: component.clone(),
        asked,
        change,
        ends,
        is_far: |report| {
            let all = report.usage.open_files_peak == OPEN_FILES_MAX;
            all || report.usage.open_files_peak >= 10 && report.usage.file_bytes_written >= 2
        },
    };
    let as_ever = |_: &mut Limits| {};
    let trap = asked("then trap", &hold("/data"));
    let endless = asked("then loop", &hold("/tmp"));
    let (fill, write, scratch) = (&fill, write("/data"), write("/tmp"));
    let (of_folder, of_time) = (
        granted(in_folder(), as_ever),
        granted(in_folder(), for_a_while),
    );
    let (fuel, time) = ("limit_fuel", "limit_time");
    let unreachable = "trap unreachable";
    let filling = granted(in_folder(), as_ever);
    let (of_memory, of_scratch) = (granted(Vec::new(), as_ever), granted(Vec::new(), as_ever));
    vec![
        hostile("holds files", &paths, trap, of_folder, unreachable),
        hostile("holds files in memory", &paths, endless, of_memory, fuel),
        hostile(
            "fills folders",
            &files,
            asked("do", fill),
            filling,
            unreachable,
        ),
        hostile("writes", &files, asked("do", &write), of_time, time),
        hostile(
            "writes in memory",
            &files,
            asked("do", &scratch),
            of_scratch,
            fuel,
        ),
    ]
}

/// Opens as many files as it may, and never ends.
const PYTHON: &str = "
held = []
try:
    while True: held.append(open(f'/data/{len(held) % 9}', 'w'))
except OSError:
    while True: pass
";

/// A program that holds files, and one whose package is loaded for ever.
async fn with_programs(sandbox: &Sandbox, folder: &Path, packages: &Path) -> Vec<Hostile> {
    let python = load(sandbox, "plugins/python.wasm").await;
    let javascript = load(sandbox, "plugins/javascript.wasm").await;
    let never = "exports.more = require('never');";
    std::fs::write(packages.join("endless.js"), never).expect("a file");
    std::fs::write(packages.join("never.js"), "for (;;);").expect("a file");
    let fuel = |limits: &mut Limits| limits.fuel = INTERPRETED_FUEL;
    let hostile = |name, component, program, change, is_far| Hostile {
        name,
        component,
        asked: Asked::Interpreter(program),
        change,
        ends: "limit_fuel",
        is_far,
    };
    let opens = program("agent.py", PYTHON);
    let requires = program("agent.js", "require('endless')");
    let data = granted(vec![("/data", writable(folder))], fuel);
    let packages = granted(vec![("/packages", read_only(packages))], fuel);
    let held: fn(&Report) -> bool = |report| report.usage.open_files_peak == OPEN_FILES_MAX;
    let read: fn(&Report) -> bool = |report| report.usage.file_bytes_read > 40;
    vec![
        hostile("python with files", python, opens, data, held),
        hostile("a package", javascript, requires, packages, read),
    ]
}

/// Where requests go. Each holds what a connection is, for as long as somebody waits for it.
struct Web {
    cancel: CancelFlag,
}

impl HostCalls for Web {
    fn fetch_many(
        &self,
        requests: Vec<HttpRequest>,
    ) -> HostFuture<'_, Vec<Result<HttpResponse, HttpFault>>> {
        Box::pin(async move {
            let _connection = UnixStream::pair().expect("two ends");
            if requests.iter().any(|request| request.url.contains("never")) {
                self.cancel.cancel();
                std::future::pending::<()>().await;
            }
            let response = |_| {
                Ok(HttpResponse {
                    status: 200,
                    headers: Vec::new(),
                    body: Bytes::from(vec![b'x'; 100_000]),
                })
            };
            requests.iter().map(response).collect()
        })
    }
}

async fn with_requests(sandbox: &Sandbox) -> Vec<Hostile> {
    let http = guest(sandbox, "http").await;
    let hosts = ["http://api.example.com", "http://never.example.com"];
    let patterns = hosts.map(|host| host.parse().expect("a host"));
    let grant = HttpGrant {
        operator: patterns
            .iter()
            .cloned()
            .map(|pattern| OperatorHost {
                pattern,
                is_private: false,
            })
            .collect(),
        workflow: patterns.to_vec(),
        secrets: Vec::new(),
    };
    let api = json!({ "authority": "api.example.com" });
    let never = json!({ "authority": "api.example.com", "never": "never.example.com" });
    let guests = [
        (
            "leaves requests",
            "leave all half done",
            &api,
            "trap unreachable",
        ),
        (
            "leaves requests and waits",
            "leave all half done",
            &never,
            "cancelled",
        ),
        (
            "drops responses",
            "drop responses",
            &api,
            "limit_host_calls",
        ),
        ("writes a body", "write too much", &api, "limit_host_bytes"),
    ];
    let hostile = |(name, action, input, ends): (_, _, &Value, _)| {
        let grant = grant.clone();
        Hostile {
            name,
            component: http.clone(),
            asked: asked(action, input),
            change: Box::new(move |call| {
                call.grants.http = Some(grant.clone());
                call.host = Arc::new(Web {
                    cancel: call.cancel.clone(),
                });
                call.limits.fuel = INTERPRETED_FUEL;
                call.limits.host_calls_max = 20;
                call.limits.host_bytes_max = 4 << 20;
            }),
            ends,
            is_far: match action {
                "leave all half done" => |report| report.usage.host_calls >= 2,
                _ => |report| report.usage.host_bytes > 1 << 20,
            },
        }
    };
    guests.map(hostile).into()
}

/// Has tools work as a server does: each in an instance of its own, without grants, with fuel of its caller's.
struct Workshop {
    sandbox: Sandbox,
    tools: [(&'static str, Component); 2],
    /// Raised when a tool has begun.
    cancel: Option<CancelFlag>,
}

impl Workshop {
    async fn work(&self, request: &tools::CallRequest, fuel_max: u64) -> ToolAnswer {
        let (tool, function) = request
            .name
            .split_once('.')
            .expect("a tool and its function");
        let found = self.tools.iter().find(|(name, _)| *name == tool);
        let (_, component) = found.expect("a tool that is there");
        let arguments = serde_json::from_str(&request.arguments).expect("JSON");
        let function = component.function(function).expect("a function");
        let arguments = function.read_arguments(&arguments).expect("arguments");
        let mut call = call();
        call.limits.fuel = fuel_max;
        call.limits.memory_bytes_max = 64 << 20;
        let sandbox = self.sandbox.for_tools();
        let called = sandbox.call_function(component, function, arguments, call);
        // The tool is at work when its caller is cancelled.
        let cancel = async {
            if let Some(cancel) = &self.cancel {
                tokio::time::sleep(Duration::from_millis(5)).await;
                cancel.cancel();
            }
        };
        let (report, ()) = futures::future::join(called, cancel).await;
        let report = report.expect("the host is well");
        ToolAnswer {
            result: match report.outcome {
                Outcome::Returned(json) => Ok(json),
                other => Err(Error::Unavailable(format!("{other:?}"))),
            },
            fuel: report.usage.fuel,
        }
    }
}

impl HostCalls for Workshop {
    fn call_tools(
        &self,
        requests: Vec<tools::CallRequest>,
        fuel_max: u64,
    ) -> HostFuture<'_, Vec<ToolAnswer>> {
        Box::pin(async move {
            let work = requests.iter().map(|request| self.work(request, fuel_max));
            futures::future::join_all(work).await
        })
    }
}

async fn with_tools(sandbox: &Sandbox) -> Vec<Hostile> {
    let caller = guest(sandbox, "tooluser").await;
    let tools = [
        ("toolbox", guest(sandbox, "toolbox").await),
        ("looper", guest(sandbox, "looper").await),
    ];
    let endless = json!([{ "name": "toolbox.fail", "arguments": { "how": "loop" } }]);
    let itself = json!([{ "name": "looper.again", "arguments": { "names": ["looper.again"] } }]);
    let guests = [
        ("a tool that never ends", &endless, LONG_FUEL, "limit_fuel"),
        ("a tool that calls itself", &itself, LONG_FUEL, "returned"),
        (
            "a tool whose caller is cancelled",
            &endless,
            u64::MAX,
            "cancelled",
        ),
    ];
    let hostile = |(name, input, fuel, ends): (_, &Value, _, _)| {
        let (sandbox, tools) = (sandbox.clone(), tools.clone());
        Hostile {
            name,
            component: caller.clone(),
            asked: asked("each", input),
            change: Box::new(move |call| {
                let names = ["toolbox", "looper"].map(str::to_owned).into();
                call.grants.tools = Some(ToolsGrant { names });
                call.limits.fuel = fuel;
                call.host = Arc::new(Workshop {
                    sandbox: sandbox.clone(),
                    tools: tools.clone(),
                    cancel: (ends == "cancelled").then(|| call.cancel.clone()),
                });
            }),
            ends,
            is_far: |report| report.usage.host_calls == 2,
        }
    };
    guests.map(hostile).into()
}
