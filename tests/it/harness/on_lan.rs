//! A thread on a LAN that hears every frame, and may answer.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::harness::bed::Netns;

/// A packet socket that hears, and sends to, all links of `netns`. It does not block.
pub fn heard_on(netns: &Netns) -> OwnedFd {
    let file = File::open(netns.path()).unwrap();
    let inside = move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap()
    };
    thread::spawn(inside).join().unwrap()
}

/// The thread; it ends when this is dropped.
pub struct OnLan {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl OnLan {
    /// Calls `each` with a packet socket that hears all of `netns`, again and again.
    pub fn run(netns: &Netns, mut each: impl FnMut(&OwnedFd) + Send + 'static) -> Self {
        let socket = heard_on(netns);
        let over = Arc::<AtomicBool>::default();
        let end = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                each(&socket);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for OnLan {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}
