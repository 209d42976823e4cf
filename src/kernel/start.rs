//! How the program begins, instead of Rust's own start (main.rs).

use std::fs::File;
use std::os::fd::IntoRawFd;

use std::sync::OnceLock;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::stdio::{stderr, stdin, stdout};

/// The signals that were blocked when the program was started.
static BEFORE: OnceLock<SigSet> = OnceLock::new();

/// Those that are errors of a system call instead: `EPIPE`, and `EFBIG` of who may write no larger file (`RLIMIT_FSIZE`).
fn ours() -> SigSet {
    [Signal::SIGPIPE, Signal::SIGXFSZ].into_iter().collect()
}

/// Blocks the signals again that were blocked when the program was started, and no others, in this thread: for what it
/// becomes or starts.
pub(crate) fn restore_signals() {
    let before = BEFORE.get().copied().unwrap_or_else(SigSet::empty);
    let _ = before.thread_set_mask();
}

/// Blocks no signals but [`ours`]: runtimes block all of them (crun), and what they start inherits that (sigprocmask(2)).
pub(super) fn unblock_signals() {
    let _ = ours().thread_set_mask();
}

/// Before anything is opened or written: the descriptors of stdin, stdout and stderr are nobody else's, and to write
/// where nobody reads any more, or more than a limit allows, is an error, and not the end.
pub(crate) fn start() {
    // Blocked and not ignored: what this program becomes or starts has the signals of whoever started it.
    if let Ok(before) = ours().thread_swap_mask(SigmaskHow::SIG_BLOCK) {
        let _ = BEFORE.set(before);
    }
    let standard = [stdin(), stdout(), stderr()];
    let mut standard = standard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let polled = rustix::event::poll(&mut standard, Some(&Timespec::default()));
    let is_closed = |fd: &&PollFd<'_>| polled.is_ok() && fd.revents().contains(PollFlags::NVAL);
    for _ in standard.iter().filter(is_closed) {
        // It gets the lowest number that is free, and stays open as long as the program runs.
        let null = File::options().read(true).write(true).open("/dev/null");
        let _ = null.map(IntoRawFd::into_raw_fd);
    }
}
