//! The start of the program, in place of that of Rust's standard library (main.rs).

use std::fs::File;
use std::os::fd::IntoRawFd;
use std::sync::OnceLock;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::stdio::{stderr, stdin, stdout};

/// The signals that were blocked when the program was started.
static BEFORE: OnceLock<SigSet> = OnceLock::new();

/// The signals that are errors of write(2) as well: `EPIPE`, and `EFBIG` beyond `RLIMIT_FSIZE`.
fn write_errors() -> SigSet {
    [Signal::SIGPIPE, Signal::SIGXFSZ].into_iter().collect()
}

/// Blocks the signals in this thread that were blocked when the program was started, and no others. To be called before
/// another program is executed.
pub(crate) fn restore_signals() {
    let before = BEFORE.get().copied().unwrap_or_else(SigSet::empty);
    let _ = before.thread_set_mask();
}

/// Makes sure that the descriptors of stdin, stdout and stderr are used for nothing else, and that a write to a closed pipe,
/// or beyond a limit, fails instead of ending the program. To be called before anything is opened or written.
pub(crate) fn init_process() {
    // Blocked and not ignored: a program that this one executes would inherit that they are ignored.
    if let Ok(before) = write_errors().thread_swap_mask(SigmaskHow::SIG_BLOCK) {
        let _ = BEFORE.set(before);
    }
    let standard = [stdin(), stdout(), stderr()];
    let mut standard = standard.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let polled = rustix::event::poll(&mut standard, Some(&Timespec::default()));
    let is_closed = |fd: &&PollFd<'_>| polled.is_ok() && fd.revents().contains(PollFlags::NVAL);
    for _ in standard.iter().filter(is_closed) {
        // The descriptor gets the lowest free number, and stays open.
        let null = File::options().read(true).write(true).open("/dev/null");
        let _ = null.map(IntoRawFd::into_raw_fd);
    }
}
