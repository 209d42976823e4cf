//! Changes of links, as rtnetlink tells them to all who listen (`RTNLGRP_LINK`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use rustix::net::{RecvFlags, recv};

use super::channel::Channel;
use crate::error::{Error, Kind, Result};

sockopt_impl!(
    /// Joins a group (`NETLINK_ADD_MEMBERSHIP`, which neither nix nor rustix has).
    Membership,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_ADD_MEMBERSHIP,
    u32
);

/// `RTNLGRP_LINK` of linux/rtnetlink.h.
const LINKS: u32 = 1;

/// A socket that becomes readable when a link in the namespace of the thread that opened it changes. It does not tell which
/// link: whoever reads the links anew also knows what a full buffer has lost.
pub(crate) struct LinkMonitor(Channel);

impl LinkMonitor {
    pub(crate) fn open() -> Result<Self> {
        let open = || -> io::Result<Channel> {
            let channel = Channel::open()?;
            setsockopt(&channel, Membership, &LINKS)?;
            Ok(channel)
        };
        let failed = |error: io::Error| {
            let kind = Kind::Kernel(error.raw_os_error().unwrap_or_default());
            Error::new(kind, format!("cannot listen for changes of links: {error}"))
        };
        open().map(Self).map_err(failed)
    }

    /// Returns true if a link has changed since the last call.
    pub(crate) fn has_changed(&self) -> bool {
        let mut changed = false;
        // The beginning of each datagram is enough. A full buffer (ENOBUFS) is an error once, and means changes too.
        while let Err(rustix::io::Errno::NOBUFS) | Ok(_) =
            recv(&self.0, &mut [0_u8; 16][..], RecvFlags::DONTWAIT)
        {
            changed = true;
        }
        changed
    }
}

impl AsFd for LinkMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
