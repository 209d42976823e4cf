//! How the program begins, instead of Rust's own start (main.rs).

use std::fs::File;
use std::os::fd::IntoRawFd;

use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::stdio::{stderr, stdin, stdout};

/// Before anything is opened or written: the descriptors of stdin, stdout and stderr are nobody else's, and to write
/// where nobody reads any more is an error, and not the end.
pub fn start() {
    // Blocked and not ignored: what this program starts begins with no signal blocked, as std::process sees to.
    let _ = SigSet::from(Signal::SIGPIPE).thread_block();
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
