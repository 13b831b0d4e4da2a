//! Keeps compiled components in a folder, so that each is compiled once for each build of the engine.
//!
//! A compiled component is native code: who can write here can run anything as us. So the folder is closed to
//! all others, a file's name carries the digest of its bytes, and a file that does not match its name is
//! removed and made anew. Several processes may use one folder: files appear whole, by renaming, and never
//! change.

mod prune;

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

use crate::component::ComponentDigest;
use crate::error::StartError;

/// A component that was made from compiled bytes.
pub(crate) struct Compiled {
    pub(crate) component: wasmtime::component::Component,
    /// The file; none: there is none, and the bytes were in memory.
    pub(crate) file: Option<CompiledFile>,
}

/// A file of native code that is in use: nobody removes it meanwhile, for a worker may still open it.
pub(crate) struct CompiledFile {
    pub(crate) path: PathBuf,
    /// Locked for sharing, until it is dropped.
    _held: fs::File,
}

/// A compiled component, or why the engine did not take it.
type Deserialized = wasmtime::Result<Compiled>;

/// The folder, for one build of the engine.
pub(crate) struct CompiledCache {
    folder: PathBuf,
    /// Names the build and settings of the engine: what another one compiled does not fit.
    engine_key: String,
    /// Bytes that all files may have together.
    bytes_max: u64,
}

impl CompiledCache {
    /// Opens the folder, making it where there is none.
    pub(crate) fn open(folder: &Path, bytes_max: u64, engine: &Engine) -> Result<Self, StartError> {
        prepare(folder).map_err(|source| StartError::CacheFolder {
            path: folder.to_owned(),
            source,
        })?;
        Ok(CompiledCache {
            folder: folder.to_owned(),
            engine_key: engine_key(engine),
            bytes_max,
        })
    }

    /// The compiled component, where it is here and undamaged. The error is the engine's: the component asks
    /// for more than its pool has room for.
    pub(crate) fn load(&self, engine: &Engine, digest: &ComponentDigest) -> Option<Deserialized> {
        for path in self.files(digest) {
            match self.load_file(engine, digest, &path) {
                Ok(deserialized) => return Some(deserialized),
                // No memory, no file handle: the file itself may be good.
                Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                    tracing::warn!(path = %path.display(), %error, "a compiled component cannot be read");
                }
                Err(error) => {
                    tracing::warn!(
                        path = %path.display(),
                        %error,
                        "a compiled component is damaged; it is removed and compiled again"
                    );
                    // If it cannot be removed it is found damaged again next time: slow, but safe.
                    if let Err(error) = fs::remove_file(&path) {
                        tracing::warn!(path = %path.display(), %error, "the damaged file cannot be removed");
                    }
                }
            }
        }
        None
    }

    /// Stores compiled bytes, and returns the component mapped from the file, so that all instances share
    /// its pages. Where the disk fails, the component is made from the bytes in memory.
    pub(crate) fn store(
        &self,
        engine: &Engine,
        digest: &ComponentDigest,
        compiled: &[u8],
    ) -> Deserialized {
        let stored = self
            .write(digest, compiled)
            .and_then(|path| self.load_new(engine, digest, &path));
        stored.unwrap_or_else(|error| {
            tracing::warn!(
                folder = %self.folder.display(),
                %error,
                "a compiled component cannot be stored and will be compiled again at the next start"
            );
            // SAFETY: `compiled` was returned by `Engine::precompile_component` of this very engine a moment
            // ago and has not left this process.
            #[expect(unsafe_code, reason = "loading compiled code")]
            let component =
                unsafe { wasmtime::component::Component::deserialize(engine, compiled) };
            Ok(Compiled {
                component: component?,
                file: None,
            })
        })
    }

    /// A file for a compiled component, beside those that are whole.
    pub(crate) fn unfinished(&self) -> io::Result<tempfile::NamedTempFile> {
        tempfile::NamedTempFile::new_in(&self.folder)
    }

    /// Takes a file in that a process of ours has written, and maps it.
    pub(crate) fn adopt(
        &self,
        engine: &Engine,
        digest: &ComponentDigest,
        compiled: tempfile::NamedTempFile,
    ) -> io::Result<Deserialized> {
        compiled.as_file().sync_all()?;
        let mut hasher = Sha256::new();
        io::copy(&mut compiled.reopen()?, &mut hasher)?;
        let path = self.path(digest, &hex(&hasher.finalize()));
        compiled.persist(&path).map_err(|error| error.error)?;
        self.load_new(engine, digest, &path)
    }

    /// Maps a file that was just made, and makes room for it.
    fn load_new(
        &self,
        engine: &Engine,
        digest: &ComponentDigest,
        path: &Path,
    ) -> io::Result<Deserialized> {
        let loaded = self.load_file(engine, digest, path);
        if let Err(error) = prune::keep_within(&self.folder, self.bytes_max) {
            tracing::warn!(folder = %self.folder.display(), %error, "compiled components that are not used cannot be removed");
        }
        loaded
    }

    /// Files that were made from this component by this engine; one, unless two processes compiled it at once.
    fn files(&self, digest: &ComponentDigest) -> Vec<PathBuf> {
        let prefix = self.prefix(digest);
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let mut files: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| name.starts_with(&prefix))
            })
            .map(|entry| entry.path())
            .collect();
        files.sort();
        files
    }

    fn prefix(&self, digest: &ComponentDigest) -> String {
        format!("{}-{}-", digest.hex(), self.engine_key)
    }

    fn path(&self, digest: &ComponentDigest, content: &str) -> PathBuf {
        self.folder
            .join(format!("{}{content}.cwasm", self.prefix(digest)))
    }

    /// The outer error is a file that cannot be trusted.
    fn load_file(
        &self,
        engine: &Engine,
        digest: &ComponentDigest,
        path: &Path,
    ) -> io::Result<Deserialized> {
        let mut file = fs::File::open(path)?;
        // Whoever removes files has this lock for a moment, or keeps away from it for as long as we have it.
        file.lock_shared()?;
        let about = file.metadata()?;
        if about.nlink() == 0 {
            let reason = "it was removed a moment ago";
            return Err(io::Error::new(io::ErrorKind::NotFound, reason));
        }
        let is_ours = about.is_file()
            && about.uid() == fs::symlink_metadata(&self.folder)?.uid()
            && about.permissions().mode() & 0o022 == 0;
        if !is_ours {
            let reason = "it is not a file that only we can write";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut hasher = Sha256::new();
        io::copy(&mut file, &mut hasher)?;
        if path != self.path(digest, &hex(&hasher.finalize())) {
            let reason = "the bytes do not match the digest in the file's name";
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        // SAFETY: the file holds what `Engine::precompile_component` returned, in this process or in one that ran our own
        // program for it (`compiler.rs`). `prepare` refused a folder that
        // others could write to, and the file is ours and written by nobody else; only `write` and `adopt` put files of this name there; and the digest
        // in the name, just compared with the bytes, rules out a torn or rotten file. Who could change both
        // runs as this user already. That it fits this engine is checked by wasmtime itself.
        #[expect(unsafe_code, reason = "loading compiled code")]
        let component = unsafe { wasmtime::component::Component::deserialize_file(engine, path) };
        prune::is_used(&file);
        Ok(component.map(|component| Compiled {
            component,
            file: Some(CompiledFile {
                path: path.to_owned(),
                _held: file,
            }),
        }))
    }

    fn write(&self, digest: &ComponentDigest, compiled: &[u8]) -> io::Result<PathBuf> {
        let path = self.path(digest, &hex(&Sha256::digest(compiled)));
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(compiled)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        Ok(path)
    }
}

/// Makes the folder ours alone.
fn prepare(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let metadata = fs::symlink_metadata(folder)?;
    if !metadata.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            "it is no folder",
        ));
    }
    // What lies in it could be anybody's, and would be run as ours: closing it now would be too late.
    if metadata.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "others can write to the folder; remove it, and it will be made anew",
        ));
    }
    // A file made here belongs to us: a folder of another owner is then told apart without a system call
    // that only `unsafe` code reaches.
    let probe = tempfile::NamedTempFile::new_in(folder)?;
    if probe.as_file().metadata()?.uid() != metadata.uid() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the folder belongs to another user",
        ));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A name for the build and settings of an engine.
fn engine_key(engine: &Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    let mut key = hex(&hasher.0.finalize());
    key.truncate(16);
    key
}

/// Feeds `Hash` into SHA-256; the standard hasher may change with the compiler.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        self.0
            .clone()
            .finalize()
            .iter()
            .take(8)
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
