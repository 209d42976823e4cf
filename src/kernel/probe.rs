//! Asks the hosts of a segment whether one of them has an address, and hears them out.

use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::packet_socket::PacketSocket;
use crate::config::conflict_detection::{Detection, Schedule};
use crate::error::{Error, Kind, Result};
use crate::hash::fnv1a;
use crate::ledger::quarantine::Conflict;
use crate::net::arp_nd::ProbeReply;
use crate::net::mac::MacAddr;

/// For how long what has come is read when the time is over: all of it, if nobody sends more and more. A socket holds some
/// hundred frames.
const LEAST: Duration = Duration::from_millis(100);

/// The probes for the addresses of one container, on all its links at once.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    wires: Vec<(usize, PacketSocket)>,
    asked: Vec<Asked>,
    ignored: Vec<MacAddr>,
}

/// One address that is asked for.
#[derive(Debug)]
struct Asked {
    attachment: usize,
    address: IpAddr,
    begun: Instant,
    schedule: Schedule,
    sent: usize,
}

impl Probes {
    /// Begins to ask for `addresses` of the attachment number `attachment` on `wire`.
    ///
    /// # Errors
    /// When nothing can be sent.
    pub(crate) fn begin(
        &mut self,
        attachment: usize,
        wire: PacketSocket,
        addresses: &[IpAddr],
        detection: Detection,
    ) -> Result<()> {
        self.wires.push((attachment, wire));
        addresses.iter().for_each(|&address| self.ask(attachment, address, detection));
        self.send()
    }

    /// Asks for `address` instead of that of `conflict`.
    pub(crate) fn replace(&mut self, conflict: &Conflict, address: IpAddr, detection: Detection) {
        let is_it =
            |asked: &Asked| (asked.attachment, asked.address) == (conflict.attachment, conflict.address);
        self.asked.retain(|asked| !is_it(asked));
        if let Some(wire) = self.wire(conflict.attachment) {
            wire.listen_for(address);
        }
        self.ask(conflict.attachment, address, detection);
    }

    /// Hears no more of `mac`.
    pub(crate) fn ignore(&mut self, mac: MacAddr) {
        self.ignored.push(mac);
    }

    /// The link of the attachment number `attachment`, if it is probed on.
    pub(crate) fn wire(&self, attachment: usize) -> Option<&PacketSocket> {
        self.wires.iter().find(|(index, _)| *index == attachment).map(|(_, wire)| wire)
    }

    /// Waits until somebody is heard who has an address that is asked for, or the time is over: `None`.
    ///
    /// # Errors
    /// When nothing can be sent or waited for.
    pub(crate) fn listen(&mut self) -> Result<Option<Conflict>> {
        loop {
            self.send()?;
            let now = Instant::now();
            let next = self.asked.iter().filter_map(|asked| asked.next(now)).min();
            // What came in time counts, also when this process comes late; but who sends for ever is not heard for ever.
            let until = next.unwrap_or(now).max(now + LEAST);
            if let Some(conflict) = self.hear(until) {
                return Ok(Some(conflict));
            }
            let Some(next) = next else { return Ok(None) };
            self.wait(next.saturating_duration_since(Instant::now()))?;
        }
    }

    /// The first conflict in what has come, which is read until there is no more, or `until` is over: by turns from all
    /// sockets, so that none is kept from being heard.
    fn hear(&self, until: Instant) -> Option<Conflict> {
        loop {
            let mut any = false;
            for (attachment, wire) in &self.wires {
                for said in wire.hear() {
                    any = true;
                    if let Some(claim) = said.filter(|claim| self.is_conflict(*attachment, claim)) {
                        let (address, mac) = (claim.address, claim.mac);
                        return Some(Conflict { attachment: *attachment, address, mac });
                    }
                }
            }
            if !any || Instant::now() >= until {
                return None;
            }
        }
    }

    fn ask(&mut self, attachment: usize, address: IpAddr, detection: Detection) {
        // No two hosts have the same address, time and process; the kernel's random numbers may be out of reach.
        let chance = fnv1a(&format!("{address} {:?} {}", SystemTime::now(), std::process::id()));
        let schedule = detection.schedule(chance);
        self.asked.push(Asked { attachment, address, begun: Instant::now(), schedule, sent: 0 });
    }

    /// Sends the probes whose time has come.
    fn send(&mut self) -> Result<()> {
        let now = Instant::now();
        for asked in &mut self.asked {
            while asked.probe_at().is_some_and(|at| at <= now) {
                asked.sent += 1;
                let wire = self.wires.iter().find(|(index, _)| *index == asked.attachment);
                if let Some((_, wire)) = wire {
                    wire.probe(asked.address)?;
                }
            }
        }
        Ok(())
    }

    fn is_conflict(&self, attachment: usize, claim: &ProbeReply) -> bool {
        self.wire(attachment).is_some_and(|wire| self.counts(attachment, wire.mac(), claim))
    }

    /// Whether an address that is asked for, from the MAC address `own`, is somebody else's by `claim`.
    fn counts(&self, attachment: usize, own: MacAddr, claim: &ProbeReply) -> bool {
        let asked = |asked: &Asked| asked.attachment == attachment && asked.address == claim.address;
        self.asked.iter().any(asked) && !self.ignored.contains(&claim.mac) && yields(own, claim)
    }

    fn wait(&self, time: Duration) -> Result<()> {
        let mut sockets: Vec<_> = self
            .wires
            .iter()
            .flat_map(|(_, wire)| wire.sockets())
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
        match poll(&mut sockets, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => {
                let text = format!("cannot wait for answers to probes: {errno}");
                Err(Error::new(Kind::Kernel(errno.raw_os_error()), text))
            }
        }
    }
}

impl Asked {
    /// When the next probe is sent, if there is one.
    fn probe_at(&self) -> Option<Instant> {
        self.schedule.probes.get(self.sent).map(|&offset| self.begun + offset)
    }

    /// When there is something to do, if it is not over at `now`.
    fn next(&self, now: Instant) -> Option<Instant> {
        let end = self.begun + self.schedule.end;
        (end > now).then(|| self.probe_at().unwrap_or(end).min(end))
    }
}

/// Whether we give the address up. Of two hosts that ask for it at the same time, RFC 5227 has both give it up; but two
/// of ours, with the same range, would then meet again at the next one. So the one with the lower MAC address stays,
/// and the other hears its announcement, or its answer, at the latest.
fn yields(own: MacAddr, claim: &ProbeReply) -> bool {
    !claim.probe || claim.mac < own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_claims_count() {
        let [own, other, third] = [1, 2, 3].map(|last| MacAddr::from_bytes([2, 0, 0, 0, 0, last]));
        let [asked, instead]: [IpAddr; 2] = [[10, 0, 0, 9].into(), [10, 0, 0, 8].into()];
        let mut probes = Probes::default();
        probes.ask(1, asked, Detection::For(5));
        let counts = |probes: &Probes, attachment, address, mac| {
            probes.counts(attachment, own, &ProbeReply { address, mac, probe: false })
        };
        assert!(counts(&probes, 1, asked, other));
        assert!(!counts(&probes, 0, asked, other), "heard on another link");
        assert!(!counts(&probes, 1, instead, other), "not asked for");
        // A link of ours that the kernel is taking away.
        probes.ignore(other);
        assert!(!counts(&probes, 1, asked, other) && counts(&probes, 1, asked, third));
        // Another one is asked for instead, and the first no more.
        probes.replace(&Conflict { attachment: 1, address: asked, mac: third }, instead, Detection::For(5));
        assert!(!counts(&probes, 1, asked, third) && counts(&probes, 1, instead, third));
        assert!(!counts(&probes, 1, instead, other), "for whatever address");
    }

    #[test]
    fn when_there_is_something_to_do() {
        let ms = Duration::from_millis;
        let begun = Instant::now();
        let schedule = Detection::For(90).schedule(0);
        let asked = |sent| Asked { attachment: 0, address: [10, 0, 0, 9].into(), begun, schedule, sent };
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
            assert_eq!(asked(sent).next(begun + ms(now)), next.map(|next| begun + ms(next)), "{sent} {now}");
        }
        assert_eq!(asked(3).probe_at(), None);
    }

    #[test]
    fn one_of_two_stays() {
        let [low, high] = [1, 2].map(|last| MacAddr::from_bytes([2, 0, 0, 0, 0, last]));
        let claim = |mac, probe| ProbeReply { address: [10, 0, 0, 9].into(), mac, probe };
        assert!(yields(high, &claim(low, true)) && !yields(low, &claim(high, true)));
        assert!(yields(high, &claim(low, false)) && yields(low, &claim(high, false)));
    }
}
