//! What the agent's main thread tells the thread that renews leases.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::dhcp::lease::Family;
use crate::error::{Error, Result};
use crate::kernel::{self, Alarm};
use crate::net::mac::MacAddr;
use crate::net::name::ContainerId;

/// Another host has an address of a container that a server has given.
#[derive(Debug)]
pub(crate) struct LateConflict {
    pub(crate) container: ContainerId,
    /// The number of the attachment.
    pub(crate) index: usize,
    pub(crate) family: Family,
    pub(crate) address: IpAddr,
    /// The MAC address of the other host.
    pub(crate) mac: MacAddr,
}

/// What has come since the last time.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// A container was attached, or has ended.
    pub(super) records: bool,
    /// Links that were connected again: they may lead to other networks.
    pub(super) parents: BTreeSet<u32>,
    pub(super) conflicts: Vec<LateConflict>,
    is_over: bool,
}

/// A place for notices, which wakes the thread that waits for them.
pub(crate) struct Notices {
    pending: Mutex<Received>,
    /// One end is written to wake the other.
    wake: (UnixStream, UnixStream),
    alarm: Alarm,
}

impl Notices {
    pub(crate) fn new() -> Result<Self> {
        let failed = |error: std::io::Error| Error::kernel("make a socket", &error);
        let wake = UnixStream::pair().map_err(failed)?;
        wake.0.set_nonblocking(true).and_then(|()| wake.1.set_nonblocking(true)).map_err(failed)?;
        Ok(Self { pending: Mutex::default(), wake, alarm: Alarm::new()? })
    }

    /// Records have changed.
    pub(crate) fn records(&self) {
        self.tell(|pending| pending.records = true);
    }

    /// The link number `parent` was connected again.
    pub(crate) fn moved(&self, parent: u32) {
        self.tell(|pending| pending.parents.extend([parent]));
    }

    /// The LAN was asked, and has answered.
    pub(crate) fn conflict(&self, conflict: LateConflict) {
        self.tell(|pending| pending.conflicts.push(conflict));
    }

    /// The agent ends.
    pub(crate) fn end(&self) {
        self.tell(|pending| pending.is_over = true);
    }

    fn tell(&self, change: impl FnOnce(&mut Received)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        // A full buffer wakes as well.
        let _ = (&self.wake.0).write(&[0]);
    }

    /// Waits for notices, for something to read on `sockets`, or until `until`, in the time since the boot. Returns `None` if the
    /// agent ends.
    pub(super) fn wait<'a>(
        &'a self,
        until: Option<Duration>,
        sockets: impl Iterator<Item = BorrowedFd<'a>>,
    ) -> Option<Received> {
        self.alarm.set(until);
        let all = [self.wake.1.as_fd(), self.alarm.as_fd()].into_iter().chain(sockets);
        // After an error everything is looked at.
        let _ = kernel::wait(all, None);
        while (&self.wake.1).read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
        let received = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        (!received.is_over).then_some(received)
    }
}
