//! What is heard on a LAN: every frame of a namespace, with the time it came at.

mod dhcp;
mod dhcp6;

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, recv};

use crate::harness::bed::Netns;
use crate::harness::on_lan::OnLan;
pub use dhcp::{Dhcp, MessageType, read as read_dhcp};
pub use dhcp6::{Dhcp6, MessageType as MessageType6, Status};

/// A frame that tells or asks whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub at: Instant,
    /// The MAC address it comes from.
    pub from: String,
    /// `probe`, `announcement`, or `other`.
    pub what: &'static str,
    /// Whose address it asks for or announces.
    pub target: IpAddr,
}

/// All that was heard.
#[derive(Default)]
struct All {
    heard: Vec<Heard>,
    dhcp: Vec<Dhcp>,
    dhcp6: Vec<Dhcp6>,
    /// Hosts that have said that none of their programs is a DHCP client.
    unreachable: Vec<Ipv4Addr>,
}

impl All {
    fn add(&mut self, frame: &[u8]) {
        self.heard.extend(read(frame));
        self.dhcp.extend(dhcp::read(frame));
        self.dhcp6.extend(dhcp6::read(frame));
        self.unreachable.extend(dhcp::unreachable(frame));
    }
}

/// An ear on a namespace.
pub struct Ear {
    all: Arc<Mutex<All>>,
    /// How often there was nothing more to hear.
    silences: Arc<AtomicUsize>,
    _thread: OnLan,
}

impl Ear {
    /// Hears all links of `netns` from now on.
    pub fn on(netns: &Netns) -> Self {
        let all = Arc::<Mutex<All>>::default();
        let silences = Arc::<AtomicUsize>::default();
        let (into, silent) = (Arc::clone(&all), Arc::clone(&silences));
        let thread = OnLan::run(netns, move |socket| {
            let mut frame = [0; 2048];
            match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(length) => into.lock().unwrap().add(&frame[..length]),
                Err(_) => {
                    silent.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        Self { all, silences, _thread: thread }
    }

    /// All that was sent before: what has not been read yet is read first, for at most a second if there is more and more.
    fn all(&self) -> MutexGuard<'_, All> {
        let (before, until) =
            (self.silences.load(Ordering::Relaxed), Instant::now() + Duration::from_secs(1));
        // The first one may be of before.
        while self.silences.load(Ordering::Relaxed) < before + 2 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        self.all.lock().unwrap()
    }

    /// What was heard from the MAC address `from` about `target`, the oldest first.
    pub fn heard(&self, from: &str, target: &str) -> Vec<Heard> {
        let target: IpAddr = target.parse().unwrap();
        let all = self.all();
        all.heard.iter().filter(|heard| heard.from == from && heard.target == target).cloned().collect()
    }

    /// What was heard about `target` from whomever.
    pub fn about(&self, target: &str) -> Vec<Heard> {
        let target: IpAddr = target.parse().unwrap();
        self.all().heard.iter().filter(|heard| heard.target == target).cloned().collect()
    }

    /// The times of the frames `what` from `from` about `target`.
    pub fn times(&self, what: &str, from: &str, target: &str) -> Vec<Instant> {
        self.heard(from, target)
            .into_iter()
            .filter(|heard| heard.what == what)
            .map(|heard| heard.at)
            .collect()
    }

    /// The DHCP messages to or from the client with the MAC address `mac`, the oldest first.
    pub fn dhcp(&self, mac: &str) -> Vec<Dhcp> {
        self.all().dhcp.iter().filter(|message| message.chaddr == mac).cloned().collect()
    }

    /// The DHCP messages of all clients and servers, the oldest first.
    pub fn all_dhcp(&self) -> Vec<Dhcp> {
        self.all().dhcp.clone()
    }

    /// The DHCPv6 messages of all clients and servers, the oldest first.
    pub fn dhcp6(&self) -> Vec<Dhcp6> {
        self.all().dhcp6.clone()
    }

    /// The hosts that have told a DHCP server that they have no client (ICMP: port unreachable).
    pub fn unreachable(&self) -> Vec<Ipv4Addr> {
        self.all().unreachable.clone()
    }
}

/// Reads a frame byte by byte as RFC 826 and RFC 4861 draw it; not with the code that is tested.
fn read(frame: &[u8]) -> Option<Heard> {
    let from = frame.get(6..12)?.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    let v4 = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).unwrap()));
    let v6 = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).unwrap()));
    let (what, target) = match frame.get(12..14)? {
        [8, 6] => {
            let (operation, sender, target) = (frame.get(20..22)?, v4(28)?, v4(38)?);
            assert_eq!(frame[22..28], frame[6..12], "the sender is the sender");
            match operation {
                [0, 1] if sender.is_unspecified() => {
                    assert_eq!(frame[32..38], [0; 6]);
                    assert_eq!(frame[..6], [0xff; 6]);
                    ("probe", target)
                }
                [0, 1] if sender == target => ("announcement", target),
                _ => ("other", sender),
            }
        }
        [0x86, 0xdd] if frame.get(20) == Some(&58) => {
            let (source, target) = (v6(22)?, v6(62)?);
            match frame.get(54)? {
                135 if source.is_unspecified() => ("probe", target),
                136 if frame[38..54] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] => {
                    assert_eq!(source, target);
                    assert_eq!(frame[58] & 0x60, 0x20, "unasked, and to override what is known");
                    assert_eq!(frame[80..86], frame[6..12], "with the MAC address in its option");
                    ("announcement", target)
                }
                _ => ("other", target),
            }
        }
        _ => return None,
    };
    Some(Heard { at: Instant::now(), from, what, target })
}
