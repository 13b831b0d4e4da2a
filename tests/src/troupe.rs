//! Runs the built binary as a user does: in a folder of its own, with an environment that holds what the test put into
//! it and nothing else, and with a limit of time as the bound of every wait.
//!
//! ```no_run
//! # async fn example() {
//! use e2e::troupe::Workplace;
//!
//! let place = Workplace::new();
//! place.write("hello.py", "result = 'hello'");
//! let ended = place.troupe(["exec", "hello.py"]).end().await.expect_code(0);
//! assert_eq!(ended.stdout, "\"hello\"\n");
//! # }
//! ```

mod call;
mod dialogue;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

pub use self::call::{Call, Ended, Running};
pub use self::dialogue::Dialogue;
use crate::loopback::Loopback;

/// What the configuration of [`Workplace::connect`] calls the key of OpenAI's provider; it is never to be seen again.
pub const OPENAI_KEY: &str = "sk-openai-3f9c1d7e5b";
/// The same for Anthropic's.
pub const ANTHROPIC_KEY: &str = "sk-ant-8a2e4c6b0d";

/// A folder with its own configuration, data and environment.
#[derive(Debug)]
pub struct Workplace {
    folder: TempDir,
    variables: BTreeMap<String, OsString>,
}

impl Default for Workplace {
    fn default() -> Self {
        Self::new()
    }
}

impl Workplace {
    /// An empty folder, and an environment without keys. What is compiled is shared with the user's own runs.
    ///
    /// # Panics
    /// Where no folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder of the test's own");
        let mut variables = BTreeMap::new();
        variables.insert("HOME".to_owned(), folder.path().into());
        variables.insert("TROUPE_CACHE".to_owned(), shared_cache().into());
        if let Some(path) = std::env::var_os("PATH") {
            variables.insert("PATH".to_owned(), path);
        }
        Self { folder, variables }
    }

    /// A place in the folder; the empty name is the folder itself.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders it lies in.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        let folder = path.parent().expect("a name in the folder");
        std::fs::create_dir_all(folder).expect("a folder for the file");
        std::fs::write(&path, text).expect("a file of the test");
        path
    }

    /// Copies an example's folder, so that a test can change it, and returns the copy.
    ///
    /// # Panics
    /// Where it cannot be read or written.
    #[must_use]
    pub fn copy_example(&self, name: &str) -> PathBuf {
        let from = example(name);
        let files = std::fs::read_dir(&from)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", from.display()));
        for file in files {
            let file = file.expect("a file of the example").path();
            if file.is_file() {
                let bytes = std::fs::read(&file).expect("a file of the example");
                let name = file.strip_prefix(example("")).expect("below the examples");
                self.write(&name.to_string_lossy(), bytes);
            }
        }
        self.path(name)
    }

    /// Sets a variable for all calls.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// Writes a configuration in which a loopback answers for both model services and for three kinds of search, and
    /// sets the keys that it names. `more` is added at its end.
    pub fn connect(&mut self, loopback: &Loopback, more: &str) {
        let (openai, anthropic) = (loopback.openai_url(), loopback.anthropic_url());
        let mut config = format!(
            r#"
            [providers.openai]
            kind = "openai"
            base_url = "{openai}"
            api_key = "env:TEST_OPENAI_KEY"
            [providers.anthropic]
            kind = "anthropic"
            base_url = "{anthropic}"
            api_key = "env:TEST_ANTHROPIC_KEY"
            "#
        );
        for name in ["web", "news", "academic"] {
            let url = loopback.searxng_url();
            config.push_str(&format!(
                "[sources.{name}]\nkind = \"searxng\"\nbase_url = \"{url}\"\n"
            ));
        }
        config.push_str(more);
        self.write("troupe.toml", config);
        self.set("TEST_OPENAI_KEY", OPENAI_KEY);
        self.set("TEST_ANTHROPIC_KEY", ANTHROPIC_KEY);
    }

    /// A call of the binary in this folder, with its data there too.
    pub fn troupe<A: AsRef<str>>(&self, arguments: impl IntoIterator<Item = A>) -> Call {
        let mut command = Command::new(binary());
        command
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.folder.path())
            .arg("--data")
            .arg(self.path("data"))
            .args(
                arguments
                    .into_iter()
                    .map(|argument| argument.as_ref().to_owned()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Call::new(command)
    }

    /// An execution as the journal has it.
    pub async fn show(&self, id: &str) -> Value {
        self.troupe(["show", id, "--json"])
            .end()
            .await
            .expect_code(0)
            .json()
    }

    /// An execution's events, in order.
    pub async fn events(&self, id: &str) -> Vec<Value> {
        let shown = self
            .troupe(["show", id, "--events"])
            .end()
            .await
            .expect_code(0);
        json_lines(&shown.stdout)
    }

    /// All executions, the newest first: `id`, `workflow_name` and `status` of each.
    pub async fn list(&self) -> Vec<Value> {
        let shown = self.troupe(["show", "--json"]).end().await.expect_code(0);
        json_lines(&shown.stdout)
    }

    /// Every byte below the data folder, file by file.
    #[must_use]
    pub fn data_files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut folders = vec![self.path("data")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(bytes) = std::fs::read(&path) {
                    files.push((path, bytes));
                }
            }
        }
        files
    }
}

/// The folder of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests lie in the checkout")
        .to_owned()
}

/// A file or folder of the examples.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    root().join("examples").join(name)
}

/// A path as an argument.
#[must_use]
pub fn text(path: impl AsRef<Path>) -> String {
    path.as_ref().to_string_lossy().into_owned()
}

/// The step of an execution's JSON that has this id.
///
/// # Panics
/// Where there is none.
#[must_use]
#[track_caller]
pub fn step<'a>(execution: &'a Value, id: &str) -> &'a Value {
    let steps = execution["steps"].as_array().into_iter().flatten();
    let mut found = steps.filter(|step| step["id"] == id);
    found
        .next()
        .unwrap_or_else(|| panic!("there is no step `{id}` in {execution:#}"))
}

/// The bytes of a test's component, which set-up builds from `tests/guests`.
///
/// # Panics
/// Where it is not built.
#[must_use]
pub fn guest(name: &str) -> Vec<u8> {
    let path = build_folder().join(format!(
        "../guests/wasm32-wasip2/guest/examples/{name}.wasm"
    ));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{} cannot be read ({error}); make it with `cargo xtask setup`",
            path.display()
        )
    })
}

/// The folder of this build, from the place of this very program: `…/target/debug/deps/x`.
pub(crate) fn build_folder() -> PathBuf {
    let program = std::env::current_exe().expect("the test's own path");
    program
        .ancestors()
        .nth(2)
        .expect("a folder of a build")
        .to_owned()
}

/// The binary, if all that it needs was built.
fn binary() -> PathBuf {
    let folder = build_folder();
    let binary = folder.join(format!("troupe{}", std::env::consts::EXE_SUFFIX));
    let plugins = folder.join("../plugins");
    for file in [
        binary.clone(),
        plugins.join("python.wasm"),
        plugins.join("javascript.wasm"),
    ] {
        assert!(
            file.is_file(),
            "there is no {}; make it with `cargo xtask setup`",
            file.display()
        );
    }
    binary
}

/// Where set-up compiled the components, so that no test waits for that again.
fn shared_cache() -> PathBuf {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    variable("TROUPE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("troupe")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/troupe")))
        .unwrap_or_else(|| std::env::temp_dir().join("troupe-test-cache"))
}

fn json_lines(text: &str) -> Vec<Value> {
    let lines = text.lines().map(serde_json::from_str);
    lines
        .collect::<Result<_, _>>()
        .unwrap_or_else(|error| panic!("{error}:\n{text}"))
}
