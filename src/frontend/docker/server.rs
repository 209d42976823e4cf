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
use crate::kernel::{self, Accepted, PluginSocket};

/// How long a call may take. Docker waits for ever, and holds locks meanwhile.
const DEADLINE: Duration = Duration::from_secs(25);
/// The longest wait for a connection, after which it is looked whether a call has ended.
const PAUSE: Duration = Duration::from_secs(1);
/// The most connections at once. Others wait until one ends: each needs two threads, and some descriptors.
const MOST: usize = 128;
/// How many descriptors there must be for each.
const DESCRIPTORS: usize = 8;
/// How long a connection may be open without a request when others wait for its place.
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
    /// Whether connections without a request are closed: others wait, or the process is to end.
    is_closing: bool,
    calls: usize,
    last: Instant,
}

/// Serves calls until none has come for `idle`, or SIGTERM comes.
///
/// # Errors
/// When the socket cannot be used any more.
pub(super) fn serve(socket: &PluginSocket, idle: Duration, service: impl Service) -> Result<()> {
    let shared = Arc::new((
        service,
        Mutex::new(Work { connections: 0, is_closing: false, calls: 0, last: Instant::now() }),
    ));
    let mut is_ending = false;
    loop {
        let (connections, calls, last) = {
            let work = lock(&shared.1);
            (work.connections, work.calls, work.last)
        };
        let left = if calls > 0 { idle } else { (last + idle).saturating_duration_since(Instant::now()) };
        is_ending |= left.is_zero();
        // Not before all that has begun is answered: Docker repeats a request that was cut, but without its body.
        if is_ending && connections == 0 && calls == 0 {
            return Ok(());
        }
        let accepted = match connections {
            _ if is_ending => Ok(Accepted::Nothing),
            count if count >= MOST.min(kernel::most_descriptors() / DESCRIPTORS) => {
                Err(Error::kernel("accept a connection", &Errno::EMFILE.into()))
            }
            _ => socket.accept(left.min(PAUSE)),
        };
        let stream = match accepted {
            Ok(Accepted::Connection(stream)) => stream,
            Ok(Accepted::Nothing) if is_ending => {
                lock(&shared.1).is_closing = true;
                thread::sleep(BRIEFLY);
                continue;
            }
            Ok(Accepted::Nothing) => continue,
            Ok(Accepted::Terminated) => {
                is_ending = true;
                continue;
            }
            // Too many connections, or the descriptors or the memory of this host are used up: those without a request give way.
            Err(error) if is_shortage(&error) => {
                if !std::mem::replace(&mut lock(&shared.1).is_closing, true) {
                    log::warn!("{error}");
                }
                thread::sleep(BRIEFLY);
                continue;
            }
            Err(error) => return Err(error),
        };
        lock(&shared.1).is_closing = false;
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

/// Answers the request of one connection.
fn converse<S: Service>(mut stream: UnixStream, shared: &Arc<(S, Mutex<Work>)>) -> io::Result<()> {
    let mut text = Vec::new();
    stream.set_read_timeout(Some(QUIET))?;
    loop {
        match http::head(&text) {
            Ok(Some(head)) if text.len() >= head.bytes + head.body => {
                text.truncate(head.bytes + head.body);
                let (status, body) = answer(&head, text, shared);
                return stream.write_all(&http::answer(status, &body));
            }
            Ok(_) => {}
            Err(refusal) => {
                log::warn!("a request is refused: {}", refusal.1);
                return stream.write_all(&http::refusal(refusal));
            }
        }
        let mut chunk = [0; CHUNK];
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => text.extend(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if lock(&shared.1).is_closing {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
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
