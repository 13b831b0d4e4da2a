//! A registry of the tests' own, Debian's `docker-registry`, on a free port of this machine and in a folder that goes with
//! it; and one that answers as a script says, for what no good registry does.
//!
//! ```no_run
//! # async fn example() {
//! use e2e::registry::{Artifact, DockerRegistry};
//!
//! let registry = DockerRegistry::open();
//! let digest = registry.push("tools/box", "1", &Artifact::wasm(b"\0asm")).await;
//! let reference = format!("oci://{}/tools/box:1@{digest}", registry.host());
//! # }
//! ```

mod artifact;
pub mod scene;
mod scripted;

use std::fs::File;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use tempfile::TempDir;

pub use self::artifact::{Artifact, digest_of};
pub use self::scripted::{Asked, Scripted};
use crate::supervised::{Account, Supervised, free_port, until};
use crate::troupe::build_folder;

/// Who may use a registry that is guarded.
pub const USER: &str = "ann";
/// The password, which is never to be seen again.
pub const PASSWORD: &str = "registry-password-5d1f";
/// The same, as the registry keeps it.
const PASSWORD_HASH: &str = "$2y$05$abcdefghijklmnopqrstuuNvr/vj/zhsZ1RNx8fgtNheP3lqmEI7S";
/// Two servers may choose the same port at the same moment; the one that comes late chooses again, so many times.
const START_TRIES: u32 = 5;

/// A registry that runs. It is ended when this is dropped.
#[derive(Debug)]
pub struct DockerRegistry {
    port: u16,
    access: Access,
    _process: Supervised,
    _folder: TempDir,
}

/// Who may use a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Everybody,
    User,
}

impl DockerRegistry {
    /// A registry for everybody.
    ///
    /// # Panics
    /// Where there is no `docker-registry`, or it does not start.
    #[must_use]
    pub fn open() -> Self {
        Self::start(Access::Everybody)
    }

    /// A registry that asks for [`USER`] and [`PASSWORD`].
    ///
    /// # Panics
    /// Where there is no `docker-registry`, or it does not start.
    #[must_use]
    pub fn guarded() -> Self {
        Self::start(Access::User)
    }

    fn start(access: Access) -> Self {
        let program = program();
        for _ in 0..START_TRIES {
            let folder = tempfile::tempdir().expect("a folder for the registry");
            let port = free_port();
            let place = folder.path().display().to_string();
            let mut config = format!(
                "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {place}/data\nhttp:\n  addr: 127.0.0.1:{port}\n"
            );
            if access == Access::User {
                config.push_str(&format!(
                    "auth:\n  htpasswd:\n    realm: tests\n    path: {place}/users\n"
                ));
            }
            let write = |name: &str, text: &str| {
                std::fs::write(folder.path().join(name), text).expect("a file of the registry's");
            };
            write("config.yml", &config);
            write("users", &format!("{USER}:{PASSWORD_HASH}\n"));
            let log = File::create(folder.path().join("log")).expect("a log of the registry's");
            let mut command = Command::new(&program);
            command
                .args(["serve"])
                .arg(folder.path().join("config.yml"))
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default())
                .stdin(Stdio::null());
            let mut process = Supervised::start(command, folder.path(), log, &Account::own());
            let is_up = until(|| {
                let answers = TcpStream::connect(("127.0.0.1", port)).is_ok();
                let has_ended = process.has_ended();
                (answers || has_ended).then_some(!has_ended)
            });
            if is_up == Some(true) {
                return Self {
                    port,
                    access,
                    _process: process,
                    _folder: folder,
                };
            }
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(
                log.contains("address already in use"),
                "docker-registry did not start:\n{log}"
            );
        }
        panic!("docker-registry found each of {START_TRIES} free ports in use");
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Pushes an artifact as the distribution's specification has it, and returns the digest of its manifest.
    ///
    /// # Panics
    /// Where the registry does not take it.
    pub async fn push(&self, repository: &str, tag: &str, artifact: &Artifact) -> String {
        for blob in artifact.blobs() {
            self.push_blob(repository, blob).await;
        }
        let manifest = artifact.manifest();
        let digest = digest_of(&manifest);
        let url = self.url(&format!("{repository}/manifests/{tag}"));
        let request = self
            .request(Method::PUT, url)
            .header(CONTENT_TYPE, artifact.media_type())
            .body(manifest);
        let answer = request.send().await.expect("the registry answers");
        assert_eq!(answer.status(), StatusCode::CREATED, "a manifest");
        digest
    }

    async fn push_blob(&self, repository: &str, blob: &[u8]) {
        let url = self.url(&format!("{repository}/blobs/uploads/"));
        let begun = self.request(Method::POST, url.clone()).send().await;
        let begun = begun.expect("the registry answers");
        assert_eq!(begun.status(), StatusCode::ACCEPTED, "an upload");
        let place = begun.headers()[LOCATION].to_str().expect("an address");
        let mut place = url.join(place).expect("an address");
        place
            .query_pairs_mut()
            .append_pair("digest", &digest_of(blob));
        let request = self
            .request(Method::PUT, place)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(blob.to_vec());
        let answer = request.send().await.expect("the registry answers");
        assert_eq!(answer.status(), StatusCode::CREATED, "a blob");
    }

    fn url(&self, path: &str) -> Url {
        let url = format!("http://{}/v2/{path}", self.host());
        url.parse().expect("an address")
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let client = reqwest::Client::builder().no_proxy().build();
        let request = client.expect("a client").request(method, url);
        match self.access {
            Access::Everybody => request,
            Access::User => request.basic_auth(USER, Some(PASSWORD)),
        }
    }
}

/// The machine's own program, or what set-up unpacked.
fn program() -> PathBuf {
    const PROGRAM: &str = "docker-registry";
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    let unpacked = build_folder().join("../docker-registry/usr/bin");
    let mut places = folders.chain(["/usr/bin".into(), unpacked]);
    let found = places.find_map(|folder| folder.join(PROGRAM).canonicalize().ok());
    found.unwrap_or_else(|| {
        panic!(
            "there is no {PROGRAM}; get it with `cargo xtask setup`, which unpacks the distribution's package, or \
             install that package"
        )
    })
}
