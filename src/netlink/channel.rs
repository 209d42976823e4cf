//! A socket of rtnetlink that takes nothing except from the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, connect, recvfrom, send,
    socket_with,
};

/// The address of the kernel (netlink(7), `nl_pid`).
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

sockopt_impl!(
    /// The kernel explains its refusals (`NETLINK_EXT_ACK`, which neither nix nor rustix has).
    ExtAck,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_EXT_ACK,
    bool
);

/// A socket of `NETLINK_ROUTE` in the network namespace of the thread that opened it.
///
/// A process with CAP_NET_ADMIN over a network namespace, which every user can have over one of their own, may send to any
/// netlink socket there (netlink_sendmsg, `NL_CFG_F_NONROOT_SEND`). A socket that is connected to the kernel's port takes
/// nothing from another (netlink_getsockbyportid), so that no process can fill its buffer either.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Channel {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol is `NETLINK_ROUTE`, which is 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        setsockopt(&socket, ExtAck, &true)?;
        // Until then the socket has no port, and no process can reach it.
        connect(&socket, &KERNEL)?;
        Ok(Self(socket))
    }

    pub(super) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        retry_on_intr(|| send(&self.0, bytes, SendFlags::empty()))?;
        Ok(())
    }

    /// Puts the next datagram from the kernel into `buffer`, and returns its length.
    ///
    /// # Errors
    /// `TimedOut` if nothing has come until `until`; `EMSGSIZE` if the buffer is too small.
    pub(super) fn receive(&self, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
        loop {
            match recvfrom(&self.0, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, length, from)) if is_kernel(from.as_ref()) => match length > buffer.len() {
                    true => return Err(Errno::MSGSIZE.into()),
                    false => return Ok(length),
                },
                // connect(2) binds the port first: between the two steps a message of another process may come in.
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(until)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn is_kernel(from: Option<&SocketAddrAny>) -> bool {
    from.and_then(|from| SocketAddrNetlink::try_from(from.clone()).ok()).is_some_and(|from| from.pid() == 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wait_ends() {
        let before = Instant::now();
        let patience = Duration::from_millis(20);
        let error = Channel::open().unwrap().receive(&mut [0; 64], before + patience).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() >= patience);
    }

    #[test]
    fn other_senders_are_not_the_kernel() {
        assert!(!is_kernel(None));
        assert!(!is_kernel(Some(&SocketAddrNetlink::new(7, 0).into())));
        assert!(is_kernel(Some(&KERNEL.into())));
    }
}
