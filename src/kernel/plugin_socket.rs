//! The unix socket of a plugin: from systemd or our own, and which user is at its other end.

use std::env;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::net::sockopt::socket_acceptconn;
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_getfd, pidfd_open, setrlimit,
};

use super::wait::wait;
use crate::error::{Error, Result};

/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Lets this process have as many descriptors as it may: a server has more than the usual limit, which is for select(2).
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Without it, fewer connections are served at once.
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    raised.unwrap_or_else(|errno| log::info!("the limit of descriptors stays: {errno}"));
}

/// How many descriptors this process may have.
pub(crate) fn most_descriptors() -> usize {
    getrlimit(Resource::Nofile).current.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
}

/// A socket that listens, and the signal that asks this process to end.
pub(crate) struct PluginSocket {
    listener: UnixListener,
    terminated: SignalFd,
}

/// What has come.
pub(crate) enum Accepted {
    Connection(UnixStream),
    Nothing,
    /// SIGTERM, once.
    Terminated,
}

impl PluginSocket {
    /// Returns the socket that systemd has passed to this process; `None` if it has passed none.
    ///
    /// # Errors
    /// When it has passed something else.
    pub(crate) fn passed() -> Result<Option<Self>> {
        let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<i32>().ok());
        let is_meant = number("LISTEN_PID") == Some(getpid().as_raw_nonzero().get());
        if !is_meant || number("LISTEN_FDS") != Some(1) {
            return Ok(None);
        }
        let failed = |errno: rustix::io::Errno| Error::kernel("take the socket from systemd", &errno.into());
        // A second descriptor of the same socket: to take the first by its number would be unsafe code.
        let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(failed)?;
        let socket = pidfd_getfd(own, FIRST, PidfdGetfdFlags::empty()).map_err(failed)?;
        if !socket_acceptconn(&socket).map_err(failed)? {
            return Err(Error::input("the socket from systemd does not listen")
                .hint("write ListenStream= and not Accept=yes into the socket unit"));
        }
        Self::new(UnixListener::from(socket), "systemd's socket".as_ref()).map(Some)
    }

    /// Listens at `path`, in place of a socket that no process listens at any more.
    ///
    /// # Errors
    /// When another process does, or no socket can be made there.
    pub(crate) fn at(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| Error::io("listen at", path, &error);
        let listening = UnixListener::bind(path).or_else(|error| match UnixStream::connect(path) {
            Err(refused) if refused.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path)?;
                UnixListener::bind(path)
            }
            _ => Err(error),
        });
        let listener = listening.map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Self::new(listener, path)
    }

    fn new(listener: UnixListener, path: &Path) -> Result<Self> {
        raise_limit();
        // Another process may have taken the connection that this one was woken for.
        listener.set_nonblocking(true).map_err(|error| Error::io("listen at", path, &error))?;
        // Blocked before there are other threads, which inherit that: none of them gets it.
        let signals: SigSet = [Signal::SIGTERM].into_iter().collect();
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let terminated = signals.thread_block().and_then(|()| SignalFd::with_flags(&signals, flags));
        let terminated = terminated.map_err(|errno| Error::kernel("wait for SIGTERM", &errno.into()))?;
        Ok(Self { listener, terminated })
    }

    /// Returns the next connection, if one comes within `time`. Connections of other users than root are closed.
    ///
    /// # Errors
    /// When the socket cannot be used any more.
    pub(crate) fn accept(&self, time: Duration) -> Result<Accepted> {
        let failed = |error: io::Error| Error::kernel("accept a connection", &error);
        wait([self.listener.as_fd(), self.terminated.as_fd()].into_iter(), Some(time)).map_err(failed)?;
        if self.terminated.read_signal().is_ok_and(|signal| signal.is_some()) {
            return Ok(Accepted::Terminated);
        }
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Accepted::Nothing),
            // It was closed before it was accepted.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {
                return Ok(Accepted::Nothing);
            }
            Err(error) => return Err(failed(error)),
        };
        // Not by rustix, which takes no peer of another pid namespace.
        match getsockopt(&stream, PeerCredentials).map(|peer| peer.uid()) {
            Ok(0) => {}
            Ok(user) => {
                log::warn!("a connection of user {user} is refused: only root may use this socket");
                return Ok(Accepted::Nothing);
            }
            Err(errno) => return Err(failed(errno.into())),
        }
        stream.set_nonblocking(false).map_err(failed)?;
        Ok(Accepted::Connection(stream))
    }
}
