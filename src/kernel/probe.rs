//! Probes whether a host on the segment has an address (RFC 5227, RFC 4862), and listens for conflicts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use super::packet_socket::PacketSocket;
use super::wait::wait;
use crate::config::conflict_detection::{Detection, Schedule};
use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::ledger::quarantine::Conflict;
use crate::net::arp_nd::ProbeReply;
use crate::net::mac::MacAddr;

/// How long the frames that came in time are read when the time is over. A socket holds some hundred frames, so that this is
/// enough for all of them, unless a host sends more and more.
const DRAIN: Duration = Duration::from_millis(100);

/// The probes for the addresses of one container, on all its links at once.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// By the number of the attachment.
    sockets: BTreeMap<usize, PacketSocket>,
    tentative: Vec<Tentative>,
    /// What is no conflict, by the number of the attachment.
    ignored: Vec<(usize, MacAddr)>,
    /// Addresses that other hosts probe for, if that is no conflict.
    contended: Option<BTreeSet<IpAddr>>,
}

/// What is known of the addresses that are probed for.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A host has one of them.
    Conflict(Conflict),
    /// No host has answered, and the time is over.
    Free,
    /// It is not over: there is something to do at this time, or when a socket can be read.
    Pending(Instant),
}

/// An address that is probed for: the container does not use it yet.
#[derive(Debug)]
struct Tentative {
    attachment: usize,
    address: IpAddr,
    since: Instant,
    schedule: Schedule,
    /// How many probes were sent.
    sent: usize,
}

impl Probes {
    /// Returns probes by a process that is not about to use the addresses: another host that probes too is no conflict.
    pub(crate) fn without_intent() -> Self {
        Self { contended: Some(BTreeSet::new()), ..Self::default() }
    }

    /// Closes the sockets. Returns the addresses that other hosts have probed for, if that was no conflict.
    pub(crate) fn end(self) -> BTreeSet<IpAddr> {
        self.contended.unwrap_or_default()
    }

    /// Begins to probe for `addresses` of the attachment number `attachment` by `socket`.
    pub(crate) fn begin(
        &mut self,
        attachment: usize,
        socket: PacketSocket,
        addresses: &[IpAddr],
        detection: Detection,
    ) -> Result<()> {
        self.sockets.insert(attachment, socket);
        addresses.iter().for_each(|&address| self.add(attachment, address, detection));
        self.send()
    }

    /// Probes no more for the address of `conflict`.
    pub(crate) fn give_up(&mut self, conflict: &Conflict) {
        let Conflict { attachment, address, .. } = *conflict;
        self.tentative.retain(|tentative| (tentative.attachment, tentative.address) != (attachment, address));
    }

    /// Probes for `address` instead of that of `conflict`.
    pub(crate) fn replace(&mut self, conflict: &Conflict, address: IpAddr, detection: Detection) {
        let attachment = conflict.attachment;
        self.give_up(conflict);
        if let Some(socket) = self.socket(attachment) {
            socket.listen_for(address);
        }
        self.add(attachment, address, detection);
    }

    /// From now on, what the sender of `conflict` sends to that attachment is no conflict.
    pub(crate) fn ignore(&mut self, conflict: &Conflict) {
        self.ignored.push((conflict.attachment, conflict.mac));
    }

    /// Returns the socket of the attachment number `attachment`, if its addresses are probed for.
    pub(crate) fn socket(&self, attachment: usize) -> Option<&PacketSocket> {
        self.sockets.get(&attachment)
    }

    /// Waits for the next conflict; `None` if the time is over.
    pub(crate) fn next_conflict(&mut self) -> Result<Option<Conflict>> {
        loop {
            match self.proceed()? {
                Answer::Conflict(conflict) => return Ok(Some(conflict)),
                Answer::Free => return Ok(None),
                Answer::Pending(next) => {
                    let time = next.saturating_duration_since(Instant::now());
                    let waited = wait(self.fds(), Some(time));
                    waited.map_err(|error| Error::kernel("wait for answers to probes", &error))?;
                }
            }
        }
    }

    /// Sends the probes that are due, and returns what is known by now.
    pub(crate) fn proceed(&mut self) -> Result<Answer> {
        self.send()?;
        let now = Instant::now();
        let next = self.tentative.iter().filter_map(|tentative| tentative.next(now)).min();
        // A frame that came in time counts, also if this process runs late.
        if let Some(conflict) = self.receive(next.unwrap_or(now).max(now + DRAIN)) {
            return Ok(Answer::Conflict(conflict));
        }
        Ok(next.map_or(Answer::Free, Answer::Pending))
    }

    /// The sockets, to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.values().flat_map(PacketSocket::sockets)
    }

    /// Returns the first conflict in the frames that have come. They are read until there are no more, or until `until`, from
    /// all sockets in turn, so that a busy link does not hide another.
    fn receive(&mut self, until: Instant) -> Option<Conflict> {
        loop {
            let mut is_idle = true;
            for (&attachment, socket) in &self.sockets {
                for reply in socket.receive() {
                    is_idle = false;
                    let Some(reply) = reply.filter(|reply| self.concerns(attachment, reply)) else {
                        continue;
                    };
                    let ProbeReply { address, mac, probe } = reply;
                    match &mut self.contended {
                        Some(contended) if probe => {
                            contended.insert(address);
                        }
                        _ if yields(socket.mac, &reply) => {
                            return Some(Conflict { attachment, address, mac });
                        }
                        _ => {}
                    }
                }
            }
            if is_idle || Instant::now() >= until {
                return None;
            }
        }
    }

    fn add(&mut self, attachment: usize, address: IpAddr, detection: Detection) {
        // No two hosts have the same address, time and process; the kernel's random numbers may be out of reach.
        let chance = fnv1a(&format!("{address} {:?} {}", SystemTime::now(), std::process::id()));
        let schedule = detection.schedule(chance);
        self.tentative.push(Tentative { attachment, address, since: Instant::now(), schedule, sent: 0 });
    }

    /// Sends the probes that are due.
    fn send(&mut self) -> Result<()> {
        let now = Instant::now();
        for tentative in &mut self.tentative {
            while tentative.probe_at().is_some_and(|at| at <= now) {
                tentative.sent += 1;
                if let Some(socket) = self.sockets.get(&tentative.attachment) {
                    socket.probe(tentative.address)?;
                }
            }
        }
        Ok(())
    }

    /// Returns true if `reply` is about an address that is probed for by the attachment number `attachment`.
    fn concerns(&self, attachment: usize, reply: &ProbeReply) -> bool {
        let is_it = |it: &Tentative| it.attachment == attachment && it.address == reply.address;
        self.tentative.iter().any(is_it) && !self.ignored.contains(&(attachment, reply.mac))
    }
}

impl Tentative {
    /// When the next probe is due, if there is one.
    fn probe_at(&self) -> Option<Instant> {
        self.schedule.probes.get(self.sent).map(|&offset| self.since + offset)
    }

    /// When there is something to do; `None` if the time is over at `now`.
    fn next(&self, now: Instant) -> Option<Instant> {
        let end = self.since + self.schedule.end;
        (end > now).then(|| self.probe_at().unwrap_or(end).min(end))
    }
}

/// Returns true if the address is given up. If two hosts probe for an address at the same time, RFC 5227 has both give it up;
/// but two containers with the same range would then meet again at the next address. So the one with the lower MAC address
/// keeps it, and the other hears its announcement, or its answer. An agent that probes ahead will not use the address.
fn yields(own: MacAddr, reply: &ProbeReply) -> bool {
    !reply.probe || (reply.mac < own && !reply.mac.is_of_agent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_replies_are_conflicts() {
        let [other, third] = [2, 3].map(|last| MacAddr([2, 0, 0, 0, 0, last]));
        let [old, new]: [IpAddr; 2] = [[10, 0, 0, 9].into(), [10, 0, 0, 8].into()];
        let mut probes = Probes::default();
        probes.add(1, old, Detection::For(5));
        let is_conflict = |probes: &Probes, attachment, address, mac| {
            probes.concerns(attachment, &ProbeReply { address, mac, probe: false })
        };
        assert!(is_conflict(&probes, 1, old, other));
        assert!(!is_conflict(&probes, 0, old, other), "heard on another link");
        assert!(!is_conflict(&probes, 1, new, other), "not probed for");
        // A link of ours that the kernel is deleting.
        probes.ignore(&Conflict { attachment: 1, address: old, mac: other });
        assert!(!is_conflict(&probes, 1, old, other) && is_conflict(&probes, 1, old, third));
        // Another address is probed for instead.
        probes.replace(&Conflict { attachment: 1, address: old, mac: third }, new, Detection::For(5));
        assert!(!is_conflict(&probes, 1, old, third) && is_conflict(&probes, 1, new, third));
        assert!(!is_conflict(&probes, 1, new, other), "for whatever address");
    }

    #[test]
    fn when_there_is_something_to_do() {
        let ms = Duration::from_millis;
        let since = Instant::now();
        let schedule = Detection::For(90).schedule(0);
        let tentative =
            |sent| Tentative { attachment: 0, address: [10, 0, 0, 9].into(), since, schedule, sent };
        for (sent, now, next) in [
            (0, 0, Some(0)),
            (1, 0, Some(30)),
            (1, 40, Some(30)),
            (2, 40, Some(60)),
            (3, 70, Some(90)),
            (3, 89, Some(90)),
            (3, 90, None),
            (0, 90, None),
        ] {
            assert_eq!(
                tentative(sent).next(since + ms(now)),
                next.map(|next| since + ms(next)),
                "{sent} {now}"
            );
        }
        assert_eq!(tentative(3).probe_at(), None);
    }

    #[test]
    fn one_of_two_stays() {
        let [low, high] = [1, 2].map(|last| MacAddr([2, 0, 0, 0, 0, last]));
        let claim = |mac, probe| ProbeReply { address: [10, 0, 0, 9].into(), mac, probe };
        assert!(yields(high, &claim(low, true)) && !yields(low, &claim(high, true)));
        assert!(yields(high, &claim(low, false)) && yields(low, &claim(high, false)));
        let agent = MacAddr::of_agent([7; 16]);
        let higher = MacAddr([0xfe; 6]);
        assert!(!yields(higher, &claim(agent, true)) && yields(higher, &claim(agent, false)));
    }
}
