//! The server: connections, each on a thread of its own, and when the process ends. All state is in files, so it may end, be killed
//! and be started again at any time.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{self, Head};
use crate::error::{Error, Result};
use crate::kernel::PluginSocket;

/// How long a call may take. Docker waits for ever, and holds locks meanwhile.
const DEADLINE: Duration = Duration::from_secs(25);
/// The longest wait for a connection, after which it is looked whether a call has ended.
const PAUSE: Duration = Duration::from_secs(1);
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

/// The calls that are being served, and when the last one ended.
struct Work {
    calls: usize,
    last: Instant,
}

/// Serves calls until none has come for `idle`.
///
/// # Errors
/// When the socket cannot be used any more.
pub(super) fn serve(socket: &PluginSocket, idle: Duration, service: impl Service) -> Result<()> {
    let shared = Arc::new((service, Mutex::new(Work { calls: 0, last: Instant::now() })));
    loop {
        let left = {
            let work = shared.1.lock().unwrap_or_else(PoisonError::into_inner);
            if work.calls > 0 { idle } else { (work.last + idle).saturating_duration_since(Instant::now()) }
        };
        // A connection may be open that nothing comes by: Docker makes a new one when it is needed.
        if left.is_zero() {
            return Ok(());
        }
        let Some(stream) = socket.accept(left.min(PAUSE))? else { continue };
        let shared = Arc::clone(&shared);
        let started = thread::Builder::new().spawn(move || {
            if let Err(error) = converse(stream, &shared) {
                log::info!("a connection has ended: {error}");
            }
        });
        // The connection is closed, and Docker tries again.
        drop(started.inspect_err(|error| log::warn!("no thread for a connection: {error}")));
    }
}

/// Answers the requests of one connection, in their order, until it ends.
fn converse<S: Service>(mut stream: UnixStream, shared: &Arc<(S, Mutex<Work>)>) -> io::Result<()> {
    let mut text = Vec::new();
    loop {
        let head = match http::head(&text) {
            Ok(Some(head)) if text.len() >= head.bytes + head.body => head,
            Ok(_) => {
                let mut chunk = [0; CHUNK];
                let count = stream.read(&mut chunk)?;
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
        let (service, work) = &*of_call;
        let _counted = Counted::new(work);
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

/// A call counts as long as this exists, also if it panics.
struct Counted<'a>(&'a Mutex<Work>);

impl<'a> Counted<'a> {
    fn new(work: &'a Mutex<Work>) -> Self {
        work.lock().unwrap_or_else(PoisonError::into_inner).calls += 1;
        Self(work)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work.calls -= 1;
        work.last = Instant::now();
    }
}
