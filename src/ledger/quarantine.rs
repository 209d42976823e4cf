//! Quarantine: addresses that another host answered for are not allocated for a while. It is part of the
//! hints of a segment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::conflict_detection::LONGEST_AHEAD;
use crate::net::mac::MacAddr;

/// How long a quarantine lasts, in seconds: as long as in dnsmasq after a DHCPDECLINE.
pub(crate) const PERIOD: u64 = 600;
/// How long no container tries a quarantined address again, in seconds, even if no other address is left.
pub(crate) const PAUSE: u64 = 5;
/// How long the link of a dead container may still answer, in seconds: the kernel deletes its namespace
/// asynchronously.
pub(crate) const RELEASED: u64 = 10;
/// The most entries of each kind on a segment.
const MOST: usize = 256;
/// The most addresses that are known to be unclaimed: each attach reads them.
const MOST_AHEAD: usize = 128;
/// How long a switch port with spanning tree may forward nothing, in seconds: twice the forward delay of 15 seconds (802.1D,
/// 8.10), and some more.
pub(crate) const FORWARDING: u64 = 40;

/// An address of an attachment that another host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The index of the attachment.
    pub attachment: usize,
    pub address: IpAddr,
    /// The MAC address of the other host.
    pub mac: MacAddr,
}

/// The quarantine of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantined {
    /// The MAC address of the other host.
    pub mac: MacAddr,
    /// The end, in seconds since 1970.
    pub until: u64,
}

/// Hints on the addresses of a segment. Times are in seconds since 1970, unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SegmentHints {
    /// Addresses that other hosts answered for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub quarantine: BTreeMap<IpAddr, Quarantined>,
    /// MAC addresses of recently released links, and until when these may still answer.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub departed: BTreeMap<MacAddr, u64>,
    /// The LAN that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carrier: Option<Carrier>,
    /// Addresses that no other host had, and when that was known, in seconds since the boot: no host answered, or a container
    /// had the address until then.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unclaimed: BTreeMap<IpAddr, u64>,
}

/// A LAN: what is plugged in again may be another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Carrier {
    /// How often the parent had been connected (`IFLA_CARRIER_UP_COUNT`).
    pub ups: u32,
    /// When this was seen first, in seconds since the boot.
    pub since: u64,
}

/// Returns true if `until` is in the future, but no more than `period`: the clock may have been set back.
fn lasts(until: u64, period: u64, now: u64) -> bool {
    (now..=now.saturating_add(period)).contains(&until)
}

impl Quarantined {
    /// Returns true if the quarantine lasts at `now`.
    pub(crate) fn lasts(&self, now: u64) -> bool {
        lasts(self.until, PERIOD, now)
    }
}

/// Returns the number of quarantined addresses by host.
pub(crate) fn by_host<'a>(all: impl IntoIterator<Item = &'a Quarantined>) -> BTreeMap<MacAddr, usize> {
    let mut hosts = BTreeMap::new();
    for entry in all {
        *hosts.entry(entry.mac).or_default() += 1;
    }
    hosts
}

/// Returns the hosts of [`by_host`] as text: the three with most addresses, and the sum of the others.
pub(crate) fn in_words(hosts: &BTreeMap<MacAddr, usize>) -> String {
    const NAMED: usize = 3;
    let mut hosts: Vec<_> = hosts.iter().collect();
    hosts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
    let mut words: Vec<_> =
        hosts.iter().take(NAMED).map(|(mac, count)| format!("{count} by {mac}")).collect();
    let others: usize = hosts.iter().skip(NAMED).map(|&(_, count)| count).sum();
    words.extend((others > 0).then(|| format!("{others} by others")));
    words.join(", ")
}

impl SegmentHints {
    /// Returns true if `address` may be allocated at `now`.
    pub(crate) fn allow(&self, address: IpAddr, now: u64) -> bool {
        self.quarantine.get(&address).is_none_or(|quarantined| !quarantined.lasts(now))
    }

    /// Quarantines the address of `conflict`.
    pub(crate) fn set_aside(&mut self, conflict: &Conflict, now: u64) {
        self.expire(now);
        let until = now.saturating_add(PERIOD);
        self.unclaimed.remove(&conflict.address);
        self.quarantine.insert(conflict.address, Quarantined { mac: conflict.mac, until });
        while self.quarantine.len() > MOST {
            let oldest = self.quarantine.iter().min_by_key(|(_, quarantined)| quarantined.until);
            let Some(&oldest) = oldest.map(|(address, _)| address) else { return };
            self.quarantine.remove(&oldest);
        }
    }

    /// Returns the quarantined addresses that may be tried again, oldest first.
    pub(crate) fn by_age(&self, now: u64) -> Vec<IpAddr> {
        let is_due = |entry: &Quarantined| entry.lasts(now) && entry.until + PAUSE <= now + PERIOD;
        let mut due: Vec<_> = self.quarantine.iter().filter(|(_, entry)| is_due(entry)).collect();
        due.sort_by_key(|(_, entry)| entry.until);
        due.into_iter().map(|(&address, _)| address).collect()
    }

    /// Ends all quarantines, and returns their addresses.
    pub(crate) fn lift(&mut self) -> Vec<IpAddr> {
        std::mem::take(&mut self.quarantine).into_keys().collect()
    }

    /// Notes that the link with `mac` was released.
    pub(crate) fn note_released(&mut self, mac: MacAddr, now: u64) {
        self.expire(now);
        if self.departed.len() < MOST {
            self.departed.insert(mac, now.saturating_add(RELEASED));
        }
    }

    /// Returns true if `mac` is that of a recently released link, which may still exist.
    pub(crate) fn is_recently_released(&self, mac: MacAddr, now: u64) -> bool {
        self.departed.get(&mac).is_some_and(|&until| lasts(until, RELEASED, now))
    }

    /// Notes that the parent has been connected `ups` times. What was known of another LAN is forgotten.
    pub(crate) fn note_carrier(&mut self, ups: u32, now: u64) {
        if self.carrier.is_none_or(|carrier| carrier.ups != ups) {
            self.carrier = Some(Carrier { ups, since: now });
            self.unclaimed.clear();
        }
    }

    /// Returns true if the LAN is that of a parent that has been connected `ups` times.
    pub(crate) fn is_on(&self, ups: u32) -> bool {
        self.carrier.is_some_and(|carrier| carrier.ups == ups)
    }

    /// Notes that no other host has `addresses` at `now`, in seconds since the boot. Of many, the latest stay.
    pub(crate) fn note_unclaimed(&mut self, addresses: impl IntoIterator<Item = IpAddr>, now: u64) {
        self.unclaimed.extend(addresses.into_iter().map(|address| (address, now)));
        self.unclaimed.retain(|_, &mut since| since <= now && now - since <= LONGEST_AHEAD);
        while self.unclaimed.len() > MOST_AHEAD {
            let oldest = self.unclaimed.iter().min_by_key(|&(_, since)| since);
            let Some(&oldest) = oldest.map(|(address, _)| address) else { return };
            self.unclaimed.remove(&oldest);
        }
    }

    /// Returns true if no other host had `address` within the `limit` before `now`, both in seconds, since the boot.
    pub(crate) fn is_unclaimed(&self, address: IpAddr, limit: u64, now: u64) -> bool {
        let Some(&since) = self.unclaimed.get(&address) else { return false };
        // A switch port may have let no question through at first. That is all that is known then; later it does not count.
        let forwards_from = self.carrier.map_or(0, |carrier| carrier.since.saturating_add(FORWARDING));
        let is_late = since >= forwards_from || now < forwards_from;
        is_late
            && now.checked_sub(since).is_some_and(|age| age < limit)
            && !self.quarantine.contains_key(&address)
    }

    /// Removes expired entries, and returns the addresses whose quarantine is over.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<IpAddr> {
        self.departed.retain(|_, until| lasts(*until, RELEASED, now));
        let over = self.quarantine.iter().filter(|(_, quarantined)| !quarantined.lasts(now));
        let over: Vec<_> = over.map(|(&address, _)| address).collect();
        self.quarantine.retain(|address, _| !over.contains(address));
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    fn conflict(number: u32) -> Conflict {
        Conflict { attachment: 0, address: IpAddr::from(number.to_be_bytes()), mac: MAC }
    }

    #[test]
    fn for_a_while() {
        let mut hints = SegmentHints::default();
        let address = conflict(1).address;
        hints.set_aside(&conflict(1), 1000);
        for (now, allowed) in [(1000, false), (1000 + PERIOD, false), (1001 + PERIOD, true), (999, true)] {
            assert_eq!(hints.allow(address, now), allowed, "{now}");
        }
        assert!(hints.clone().expire(1000 + PERIOD).is_empty());
        assert_eq!(hints.expire(1001 + PERIOD), [address]);
        assert_eq!(hints, SegmentHints::default());
    }

    #[test]
    fn the_oldest_first() {
        let mut hints = SegmentHints::default();
        for (number, at) in [(2, 1000), (3, 1001), (1, 1002), (4, 1200)] {
            hints.set_aside(&conflict(number), at);
        }
        let numbers = |now| -> Vec<u32> {
            let number = |address| match address {
                IpAddr::V4(address) => u32::from(address),
                IpAddr::V6(_) => 0,
            };
            hints.by_age(now).into_iter().map(number).collect()
        };
        assert!(numbers(1004).is_empty());
        assert_eq!(numbers(1000 + PAUSE), [2]);
        assert_eq!(numbers(1204), [2, 3, 1]);
        assert_eq!(numbers(1001 + PERIOD), [3, 1, 4]);
        assert_eq!(hints.lift().len(), 4);
        assert_eq!(hints, SegmentHints::default());
    }

    #[test]
    fn hosts_in_words() {
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let all: Vec<_> =
            [1, 2, 2, 3, 3, 3, 4, 5].map(|last| Quarantined { mac: mac(last), until: 1 }).into();
        let words = in_words(&by_host(&all));
        assert_eq!(
            words,
            "3 by 02:00:00:00:00:03, 2 by 02:00:00:00:00:02, 1 by 02:00:00:00:00:01, 2 by others"
        );
        assert_eq!(in_words(&by_host(&all[..1])), "1 by 02:00:00:00:00:01");
    }

    #[test]
    fn not_too_many() {
        let mut hints = SegmentHints::default();
        (0..300).for_each(|number| hints.set_aside(&conflict(number), 1000 + u64::from(number)));
        assert_eq!(hints.quarantine.len(), MOST);
        assert!(hints.allow(conflict(43).address, 1300) && !hints.allow(conflict(44).address, 1300));
        (0..300).for_each(|_| hints.note_released(MAC, 1300));
        assert_eq!(hints.departed.len(), 1);
    }

    #[test]
    fn unclaimed_for_a_while() {
        let address = |number: u32| conflict(number).address;
        let mut hints = SegmentHints::default();
        hints.note_carrier(1, 900);
        hints.note_unclaimed([address(1)], 1000);
        for (number, now, is_unclaimed) in
            [(1, 999, false), (1, 1000, true), (1, 1599, true), (1, 1600, false), (2, 1000, false)]
        {
            assert_eq!(hints.is_unclaimed(address(number), 600, now), is_unclaimed, "{number} {now}");
        }
        assert!(!hints.is_unclaimed(address(1), 0, 1000), "switched off");
        hints.set_aside(&conflict(1), 5000);
        assert!(!hints.is_unclaimed(address(1), 600, 1001), "a host has answered since");
        (0..300).for_each(|number| hints.note_unclaimed([address(number)], 2000 + u64::from(number)));
        assert_eq!(hints.unclaimed.len(), MOST_AHEAD);
        assert!(hints.is_unclaimed(address(299), 600, 2299) && !hints.is_unclaimed(address(100), 600, 2299));
        hints.note_unclaimed([], 2300 + LONGEST_AHEAD);
        assert_eq!(hints.unclaimed.len(), 0);
    }

    #[test]
    fn of_one_lan() {
        let [early, late] = [1, 2].map(|number| conflict(number).address);
        let mut hints = SegmentHints::default();
        hints.note_carrier(1, 1000);
        hints.note_unclaimed([early], 1010);
        hints.note_unclaimed([late], 1040);
        hints.note_carrier(1, 1041);
        assert!(hints.is_unclaimed(early, 600, 1039), "nothing better is known yet");
        assert!(!hints.is_unclaimed(early, 600, 1040) && hints.is_unclaimed(late, 600, 1040));
        hints.note_carrier(2, 1050);
        assert!(!hints.is_unclaimed(late, 600, 1050) && hints.is_on(2) && !hints.is_on(1));
    }

    #[test]
    fn recently_released() {
        let mut hints = SegmentHints::default();
        hints.note_released(MAC, 1000);
        assert!(
            hints.is_recently_released(MAC, 1000 + RELEASED)
                && !hints.is_recently_released(MAC, 1001 + RELEASED)
        );
        assert!(!hints.is_recently_released(MacAddr([2; 6]), 1000));
        hints.note_released(MacAddr([2; 6]), 1001 + RELEASED);
        assert_eq!(hints.departed.len(), 1);
    }
}
