//! Files that a process was started with. Whoever starts the host may have left some open, and the host's own are not
//! all closed when it starts a process: none of them is any business of a worker or a compiler, and no rule about paths
//! holds for a file that is open already.

use std::io;

/// The first descriptor after standard input, output and error.
const FIRST: libc::c_uint = 3;

/// Closes every file but standard input, output and error. For the first thing that a process does: nothing in it has
/// opened any other.
///
/// # Errors
/// The kernel has neither a call for it nor a list of what is open.
pub(crate) fn close() -> io::Result<()> {
    #[expect(unsafe_code, reason = "closing files by their numbers")]
    // SAFETY: nobody in this process owns any of these, see above: what is closed came from who started it.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    if closed == 0 {
        return Ok(());
    }
    // Before Linux 5.9, and where a filter does not know the call.
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for file in open {
        if file.unsigned_abs() >= FIRST {
            #[expect(unsafe_code, reason = "closing files by their numbers")]
            // SAFETY: as above. The listing itself is closed by now, and closing that again fails.
            let _ = unsafe { libc::close(file) };
        }
    }
    Ok(())
}
