//! Opens what lies beneath a folder of the host, and never waits for it: who can write in the folder may put a pipe in the
//! place of a file that was just looked at, and opening a pipe as wasmtime-wasi does waits until somebody is at its other
//! end. So the kernel opens without waiting, and what was opened is looked at before the guest has it.

use std::fs;
use std::io;

use rustix::fs::{Mode, OFlags, ResolveFlags, fcntl_getfl, fcntl_setfl, openat2};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::OpenMode;
use wasmtime_wasi::p2::bindings::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};

/// How often a path is walked again when somebody moved a folder meanwhile.
const TRIES_MAX: usize = 64;
/// What a new file may be read and written by, as far as the process's mask lets it.
const NEW_FILE: u32 = 0o666;

/// What was opened.
#[derive(Debug)]
pub(super) enum Opened {
    File(fs::File),
    Folder(fs::File),
    /// It is neither, and closed again.
    Neither,
}

/// How a guest wants to open something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) follow: PathFlags,
    pub(super) how: OpenFlags,
    pub(super) flags: DescriptorFlags,
}

impl Manner {
    /// What the guest may do with it then. What is not written is read: a file cannot be opened for nothing.
    pub(super) fn mode(self) -> OpenMode {
        let mut mode = OpenMode::empty();
        let is_written = self.flags.contains(DescriptorFlags::WRITE);
        if is_written || self.how.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) {
            mode |= OpenMode::WRITE;
        }
        if self.flags.contains(DescriptorFlags::READ) || !is_written {
            mode |= OpenMode::READ;
        }
        mode
    }

    fn flags(self) -> OFlags {
        let mut flags = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        flags |= match self.mode() {
            mode if mode == OpenMode::READ | OpenMode::WRITE => OFlags::RDWR,
            mode if mode == OpenMode::WRITE => OFlags::WRONLY,
            _ => OFlags::RDONLY,
        };
        if self.how.contains(OpenFlags::CREATE) {
            flags |= OFlags::CREATE;
            if self.how.contains(OpenFlags::EXCLUSIVE) {
                flags |= OFlags::EXCL;
            }
        }
        if self.how.contains(OpenFlags::TRUNCATE) {
            flags |= OFlags::TRUNC;
        }
        if self.how.contains(OpenFlags::DIRECTORY) {
            flags |= OFlags::DIRECTORY;
        }
        if !self.follow.contains(PathFlags::SYMLINK_FOLLOW) {
            flags |= OFlags::NOFOLLOW;
        }
        flags
    }
}

/// Opens a path beneath a folder. None: this kernel cannot, or a filter keeps it from doing so.
///
/// # Errors
/// As the kernel says, in the words of WASI's errors; a path that leads out of the folder is not permitted.
pub(super) fn open_beneath(
    folder: &fs::File,
    path: &str,
    manner: Manner,
) -> io::Result<Option<Opened>> {
    let mode = match manner.how.contains(OpenFlags::CREATE) {
        true => Mode::from_raw_mode(NEW_FILE),
        false => Mode::empty(),
    };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..TRIES_MAX {
        return match openat2(folder, path, manner.flags(), mode, beneath) {
            Ok(opened) => looked_at(opened.into()).map(Some),
            Err(Errno::AGAIN) => continue,
            // Filters of system calls answer so for those that they do not know.
            Err(Errno::NOSYS | Errno::PERM) => Ok(None),
            Err(Errno::XDEV) => Err(Errno::PERM.into()),
            // A pipe nobody reads, a socket, a device without a driver.
            Err(Errno::NXIO | Errno::NODEV) => Ok(Some(Opened::Neither)),
            Err(error) => Err(error.into()),
        };
    }
    Err(Errno::AGAIN.into())
}

/// Says what was opened, and takes back that it does not wait, which was for its opening.
fn looked_at(opened: fs::File) -> io::Result<Opened> {
    let found = opened.metadata()?.file_type();
    if !found.is_file() && !found.is_dir() {
        return Ok(Opened::Neither);
    }
    let flags = fcntl_getfl(&opened)?;
    fcntl_setfl(&opened, flags - OFlags::NONBLOCK)?;
    Ok(match found.is_dir() {
        true => Opened::Folder(opened),
        false => Opened::File(opened),
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    use proptest::prelude::*;
    use rustix::fs::{CWD, mkfifoat};

    use super::*;

    fn manner(how: OpenFlags, flags: DescriptorFlags) -> Manner {
        Manner {
            follow: PathFlags::SYMLINK_FOLLOW,
            how,
            flags,
        }
    }

    fn open(folder: &fs::File, path: &str, flags: DescriptorFlags) -> io::Result<Opened> {
        let opened = open_beneath(folder, path, manner(OpenFlags::empty(), flags));
        opened.map(|opened| opened.expect("a kernel that opens beneath a folder"))
    }

    #[test]
    fn nobody_waits_for_what_is_neither_a_file_nor_a_folder() {
        let place = tempfile::tempdir().expect("a folder");
        let folder = fs::File::open(place.path()).expect("a folder");
        mkfifoat(CWD, place.path().join("pipe"), Mode::RWXU).expect("a pipe");
        std::os::unix::fs::symlink("pipe", place.path().join("to-pipe")).expect("a link");
        let _socket = UnixListener::bind(place.path().join("socket")).expect("a socket");
        let (read, write) = (DescriptorFlags::READ, DescriptorFlags::WRITE);
        for path in ["pipe", "to-pipe", "socket"] {
            for flags in [read, write, read | write, DescriptorFlags::empty()] {
                let opened = open(&folder, path, flags);
                assert!(matches!(opened, Ok(Opened::Neither)), "{path}: {opened:?}");
            }
        }
    }

    #[test]
    fn files_and_folders_beneath_are_opened_and_nothing_else() {
        let place = tempfile::tempdir().expect("a folder");
        let inner = place.path().join("in");
        fs::create_dir(&inner).expect("a folder");
        fs::write(place.path().join("out"), "").expect("a file");
        fs::write(inner.join("file"), "text").expect("a file");
        std::os::unix::fs::symlink("../out", inner.join("to-out")).expect("a link");
        let folder = fs::File::open(&inner).expect("a folder");
        let read = DescriptorFlags::READ;
        let file = match open(&folder, "file", read) {
            Ok(Opened::File(file)) => file,
            other => panic!("{other:?}"),
        };
        let flags = fcntl_getfl(&file).expect("flags");
        assert!(!flags.contains(OFlags::NONBLOCK));
        assert!(matches!(open(&folder, ".", read), Ok(Opened::Folder(_))));
        for path in ["..", "../out", "to-out", "/etc/passwd"] {
            let error = open(&folder, path, read).expect_err("it leads out");
            assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()));
        }
        let asked = manner(OpenFlags::DIRECTORY, read);
        let error = open_beneath(&folder, "file", asked).expect_err("no folder");
        assert_eq!(error.raw_os_error(), Some(Errno::NOTDIR.raw_os_error()));
    }

    /// A folder with what leads astray, in one that it should not lead to.
    fn tree() -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().expect("a folder");
        let inner = place.path().join("in");
        fs::create_dir_all(inner.join("a/b")).expect("a folder");
        fs::write(place.path().join("out"), "out").expect("a file");
        fs::write(inner.join("a/file"), "text").expect("a file");
        let out = place.path().join("out");
        for (target, link) in [
            (Path::new(".."), "up"),
            (Path::new("a/../../out"), "over"),
            (out.as_path(), "absolute"),
            (Path::new("/proc/self/fd/0"), "magic"),
            (Path::new("a/b/.."), "within"),
            (Path::new("round"), "round"),
        ] {
            std::os::unix::fs::symlink(target, inner.join(link)).expect("a link");
        }
        (place, inner)
    }

    /// Any path, mostly of names that are there.
    fn any_path() -> impl Strategy<Value = String> {
        let names = [
            "a", "b", "file", "up", "over", "absolute", "magic", "within", "round", "out", "in",
            "..", "..", "..", ".", "", "new", "a\0", "．．",
        ];
        let names = proptest::collection::vec(proptest::sample::select(names.to_vec()), 1..8);
        prop_oneof![20 => names.prop_map(|names| names.join("/")), 1 => any::<String>()]
    }

    fn any_manner() -> impl Strategy<Value = Manner> {
        let how = [
            OpenFlags::CREATE,
            OpenFlags::DIRECTORY,
            OpenFlags::EXCLUSIVE,
            OpenFlags::TRUNCATE,
        ];
        let how = proptest::sample::subsequence(how.to_vec(), 0..=4);
        let flags = [DescriptorFlags::READ, DescriptorFlags::WRITE];
        let flags = proptest::sample::subsequence(flags.to_vec(), 0..=2);
        let follow = proptest::sample::subsequence(vec![PathFlags::SYMLINK_FOLLOW], 0..=1);
        (follow, how, flags).prop_map(|(follow, how, flags)| Manner {
            follow: follow
                .into_iter()
                .fold(PathFlags::empty(), |all, one| all | one),
            how: how
                .into_iter()
                .fold(OpenFlags::empty(), |all, one| all | one),
            flags: flags
                .into_iter()
                .fold(DescriptorFlags::empty(), |all, one| all | one),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_a_path_opens_lies_beneath(path in any_path(), manner in any_manner()) {
            let (place, inner) = tree();
            let folder = fs::File::open(&inner).expect("a folder");
            if let Ok(Some(Opened::File(opened) | Opened::Folder(opened))) =
                open_beneath(&folder, &path, manner)
            {
                let found = fs::read_link(format!("/proc/self/fd/{}", opened.as_raw_fd()));
                let (found, inner) = (found.expect("Linux tells"), inner.canonicalize().expect("it is there"));
                prop_assert!(found.starts_with(&inner), "{path:?} opened {}", found.display());
            }
            let outside = fs::read_to_string(place.path().join("out")).expect("it is there");
            prop_assert_eq!(outside, "out");
            prop_assert_eq!(fs::read_dir(place.path()).expect("a folder").count(), 2);
        }
    }
}
