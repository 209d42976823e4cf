//! The server: connections, each on a thread of its own, and when the process ends. All state is in files, so it may end, be killed
//! and be started again at any time.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;

use super::http::{self, Head};
use crate::error::{Error, Kind, Result};
use crate::kernel::PluginSocket;

/// How long a call may take. Docker waits for ever, and holds locks meanwhile.
const DEADLINE: Duration = Duration::from_secs(25);
/// The longest wait for a connection, after which it is looked whether a call has ended.
const PAUSE: Duration = Duration::from_secs(1);
/// The most connections at once. Others wait until one ends: each needs two threads, and some descriptors.
const MOST: usize = 128;
/// How long a connection may be open without a request when others wait for its place. Docker makes a new one when it is needed.
const QUIET: Duration = Duration::from_secs(1);
/// How long to wait for another connection to end, or for descriptors.
const BRIEFLY: Duration = Duration::from_millis(20);
/// The most bytes that are read at once.
const CHUNK: usize = 16 * 1024;

/// The status and the JSON text of an answer.
pub(super) type Answer = (u16, String);

/// Answers the call of `path` with this body.
pub(super) trait Service: Send + Sync + 'static {
    fn call(&self, path: &str, body: &[u8]) -> Answer;

    /// The answer to a call of `path` that fails before it is served.
    fn failed(&self, path: &str, error: &Error) -> Answer;
}

/// The connections, the calls that are being served, and when the last one ended.
struct Work {
    connections: usize,
    /// Whether other connections wait.
    is_full: bool,
    calls: usize,
    last: Instant,
}

/// Serves calls until none has come for `idle`.
///
/// # Errors
/// When the socket cannot be used any more.
pub(super) fn serve(socket: &PluginSocket, idle: Duration, service: impl Service) -> Result<()> {
    let shared = Arc::new((
        service,
        Mutex::new(Work { connections: 0, is_full: false, calls: 0, last: Instant::now() }),
    ));
    loop {
        let left = {
            let work = lock(&shared.1);
            if work.calls > 0 { idle } else { (work.last + idle).saturating_duration_since(Instant::now()) }
        };
        // A connection may be open that nothing comes by.
        if left.is_zero() {
            return Ok(());
        }
        let connections = lock(&shared.1).connections;
        let accepted = match connections {
            MOST.. => Err(Error::kernel("accept a connection", &Errno::EMFILE.into())),
            _ => socket.accept(left.min(PAUSE)),
        };
        let stream = match accepted {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            // Too many connections, or the descriptors or the memory of this host are used up: those that are quiet give way.
            Err(error) if is_shortage(&error) => {
                if !std::mem::replace(&mut lock(&shared.1).is_full, true) {
                    log::warn!("{error}");
                }
                thread::sleep(BRIEFLY);
                continue;
            }
            Err(error) => return Err(error),
        };
        lock(&shared.1).is_full = false;
        let shared = Arc::clone(&shared);
        let counted = Counted::connection(Arc::clone(&shared));
        let started = thread::Builder::new().spawn(move || {
            let _counted = counted;
            if let Err(error) = converse(stream, &shared) {
                log::info!("a connection has ended: {error}");
            }
        });
        // The connection is closed, and Docker tries again.
        drop(started.inspect_err(|error| log::warn!("no thread for a connection: {error}")));
    }
}

fn lock(work: &Mutex<Work>) -> MutexGuard<'_, Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers the requests of one connection, in their order, until it ends.
fn converse<S: Service>(mut stream: UnixStream, shared: &Arc<(S, Mutex<Work>)>) -> io::Result<()> {
    let mut text = Vec::new();
    loop {
        let head = match http::head(&text) {
            Ok(Some(head)) if text.len() >= head.bytes + head.body => head,
            Ok(_) => {
                let mut chunk = [0; CHUNK];
                stream.set_read_timeout(Some(QUIET))?;
                let count = match stream.read(&mut chunk) {
                    Err(error) if text.is_empty() && error.kind() == ErrorKind::WouldBlock => {
                        let gives_way = lock(&shared.1).is_full;
                        if gives_way {
                            return Ok(());
                        }
                        continue;
                    }
                    read => read?,
                };
                text.extend(chunk.get(..count).unwrap_or_default());
                if count == 0 {
                    return Ok(());
                }
                continue;
            }
            Err(refusal) => {
                log::warn!("a request is refused: {}", refusal.1);
                return stream.write_all(&http::refusal(refusal));
            }
        };
        let rest = text.split_off(head.bytes + head.body);
        let request = std::mem::replace(&mut text, rest);
        let (status, body) = answer(&head, request, shared);
        stream.write_all(&http::answer(status, &body, head.closes))?;
        if head.closes {
            return Ok(());
        }
    }
}

/// Has the call of `head` served by a thread of its own, and answers without it when that takes too long.
fn answer<S: Service>(head: &Head, request: Vec<u8>, shared: &Arc<(S, Mutex<Work>)>) -> Answer {
    let (sender, receiver) = mpsc::channel();
    let (of_call, path, begin) = (Arc::clone(shared), head.path.clone(), head.bytes);
    let called = thread::Builder::new().spawn(move || {
        let _counted = Counted::call(Arc::clone(&of_call));
        let (service, _) = &*of_call;
        // The other end is gone after the deadline.
        let _ = sender.send(service.call(&path, request.get(begin..).unwrap_or_default()));
    });
    let answered = match called {
        Ok(_) => receiver.recv_timeout(DEADLINE).map_err(|error| match error {
            RecvTimeoutError::Timeout => {
                let seconds = DEADLINE.as_secs();
                Error::input(format!("{} took more than {seconds} seconds", head.path))
                    .hint("the log of underlay-docker.service says what it waited for; try again")
            }
            RecvTimeoutError::Disconnected => Error::bug(format!("{} has panicked", head.path)),
        }),
        Err(error) => Err(Error::kernel("start a thread", &error)),
    };
    answered.unwrap_or_else(|error| {
        log::warn!("{}", error.in_full());
        shared.0.failed(&head.path, &error)
    })
}

/// Whether `error` is that something is used up, and not that the socket is bad.
fn is_shortage(error: &Error) -> bool {
    matches!(error.kind(), Kind::Kernel(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

/// A connection or a call counts as long as this exists, also if it panics.
struct Counted<S: Service> {
    shared: Arc<(S, Mutex<Work>)>,
    is_call: bool,
}

impl<S: Service> Counted<S> {
    fn connection(shared: Arc<(S, Mutex<Work>)>) -> Self {
        lock(&shared.1).connections += 1;
        Self { shared, is_call: false }
    }

    fn call(shared: Arc<(S, Mutex<Work>)>) -> Self {
        lock(&shared.1).calls += 1;
        Self { shared, is_call: true }
    }
}

impl<S: Service> Drop for Counted<S> {
    fn drop(&mut self) {
        let mut work = lock(&self.shared.1);
        if self.is_call {
            work.calls -= 1;
            work.last = Instant::now();
        } else {
            work.connections -= 1;
        }
    }
}
