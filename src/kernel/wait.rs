//! Waiting until there is something to read.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Waits until one of `fds` has something to read, for at most `time` if there is one. A signal may end it early.
pub(crate) fn wait<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>, time: Option<Duration>) -> io::Result<()> {
    let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let time = time.map(|time| Timespec::try_from(time).unwrap_or_default());
    match poll(&mut fds, time.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
