//! A socket of rtnetlink that hears the kernel alone.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, connect, recvfrom, send,
    socket_with,
};

/// Where the kernel is (netlink(7), `nl_pid`).
const KERNEL: SocketAddrNetlink = SocketAddrNetlink::new(0, 0);

sockopt_impl!(
    /// Answers with a sentence of the kernel's (`NETLINK_EXT_ACK`), which neither nix nor rustix has.
    ExtAck,
    SetOnly,
    libc::SOL_NETLINK,
    libc::NETLINK_EXT_ACK,
    bool
);

/// A socket of `NETLINK_ROUTE` in the network namespace of the thread that opened it.
///
/// Whoever has CAP_NET_ADMIN over a network namespace, as every user has over one of his own, may send to any netlink
/// socket there (netlink_sendmsg, `NL_CFG_F_NONROOT_SEND`). Connected to the kernel's port, the socket takes nothing from
/// another (netlink_getsockbyportid), so that nobody can fill its buffer either.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // No protocol is `NETLINK_ROUTE`, which is 0.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        setsockopt(&socket, ExtAck, &true)?;
        // It has no port before, and nobody can reach it.
        connect(&socket, &KERNEL)?;
        Ok(Self(socket))
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            match send(&self.0, bytes, SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The length of the next datagram from the kernel, which is put into `buffer`.
    ///
    /// # Errors
    /// `TimedOut` when nothing has come until `until`; `EMSGSIZE` when the buffer is too small.
    pub(crate) fn receive(&self, buffer: &mut [u8], until: Instant) -> io::Result<usize> {
        loop {
            match recvfrom(&self.0, &mut *buffer, RecvFlags::TRUNC) {
                Ok((_, length, from)) if is_kernel(from.as_ref()) => match length > buffer.len() {
                    true => return Err(io::Error::from_raw_os_error(libc::EMSGSIZE)),
                    false => return Ok(length),
                },
                // connect(2) binds the port first: what comes in just then is nothing to us.
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => self.wait(until)?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn wait(&self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
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
    fn nobody_is_waited_for_for_ever() {
        let before = Instant::now();
        let patience = Duration::from_millis(20);
        let error = Channel::open().unwrap().receive(&mut [0; 64], before + patience).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() >= patience);
    }

    #[test]
    fn the_kernel_alone() {
        assert!(!is_kernel(None));
        assert!(!is_kernel(Some(&SocketAddrNetlink::new(7, 0).into())));
        assert!(is_kernel(Some(&KERNEL.into())));
    }
}
