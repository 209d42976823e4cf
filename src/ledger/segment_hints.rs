//! Hints on a segment: quarantined addresses, and recently released links, which may still answer. Losing
//! them does no harm.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::ClockId;

use ipnet::IpNet;

use super::{Locked, Store, to_json};
use crate::error::Result;
use crate::fs::file;
use crate::ledger::quarantine::{Conflict, Quarantined};
use crate::ledger::record::{Record, Segment};
use crate::net::driver::Kind as Driver;

/// The time since the boot, with that of suspend: what is set to the clock does not change it (clock_gettime(2)).
pub(crate) fn since_boot() -> Duration {
    ClockId::CLOCK_BOOTTIME.now().map_or(Duration::ZERO, Duration::from)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl Store {
    pub(crate) fn segment_path(&self, segment: u32) -> PathBuf {
        self.segment_dir(segment).join("segment.json")
    }

    pub(crate) fn segment(&self, segment: u32) -> Result<Option<Segment>> {
        self.read_state(&self.segment_path(segment))
    }

    /// Returns the quarantined addresses of `segment`.
    pub(crate) fn quarantined(&self, segment: u32) -> Vec<(IpAddr, Quarantined)> {
        let now = now();
        // A damaged file is reported elsewhere.
        let known = self.segment(segment).ok().flatten();
        let all = known.map(|known| known.hints.quarantine).unwrap_or_default();
        all.into_iter().filter(|(_, quarantined)| quarantined.lasts(now)).collect()
    }
}

impl Locked<'_> {
    pub(crate) fn write_segment(&self, number: u32, segment: &Segment) -> Result<()> {
        file::replace(&self.store.segment_path(number), &to_json(segment)?)
    }

    /// Quarantines the address of `conflict`.
    pub(crate) fn set_aside(&self, number: u32, conflict: &Conflict) -> Result<()> {
        let Some(mut segment) = self.store.segment(number).ok().flatten() else { return Ok(()) };
        segment.hints.set_aside(conflict, now());
        self.write_segment(number, &segment)
    }

    /// Ends the quarantine of `address` on segment `number`, if it is in quarantine.
    pub(crate) fn end_quarantine(&self, number: u32, address: IpAddr) -> Result<()> {
        let Some(mut segment) = self.store.segment(number).ok().flatten() else { return Ok(()) };
        match segment.hints.quarantine.remove(&address) {
            Some(_) => self.write_segment(number, &segment),
            None => Ok(()),
        }
    }

    /// Notes that no other host had `addresses` on `segment` at `since`, in the time since the boot, when the parent had been
    /// connected `carrier_ups` times.
    pub(crate) fn note_unclaimed(
        &self,
        number: u32,
        addresses: impl IntoIterator<Item = IpAddr>,
        carrier_ups: u32,
        since: Duration,
    ) -> Result<()> {
        let Some(mut segment) = self.store.segment(number)? else { return Ok(()) };
        segment.hints.note_carrier(carrier_ups, since.as_secs());
        segment.hints.note_unclaimed(addresses, since.as_secs());
        self.write_segment(number, &segment)
    }

    /// Returns true if a recently released link of ours may have caused `conflict` on `segment`: the kernel
    /// may still be deleting it.
    pub(crate) fn is_recently_released(&self, segment: u32, conflict: &Conflict) -> bool {
        let known = self.store.segment(segment).ok().flatten();
        known.is_some_and(|known| known.hints.is_recently_released(conflict.mac, now()))
    }

    /// Notes of `record`, which is released, that no other host has had its addresses if its links `are_deleted`: a link that
    /// a container has hidden may still use them. If `may_answer`, notes that the kernel may still be deleting its links.
    /// These are only hints, so a failure is logged.
    pub(super) fn note_released(&self, record: &Record, may_answer: bool, are_deleted: bool) {
        for attached in record.attachments().iter().filter(|attached| attached.detection.is_some()) {
            let mac = attached.mac.filter(|_| may_answer && attached.driver.kind() == Driver::Macvlan);
            // A record with a number is that of a complete attach, also if it is pending again for its release.
            let was_used = are_deleted && attached.ifindex.is_some() && attached.asked.is_free();
            if mac.is_none() && !was_used {
                continue;
            }
            let noted = self.store.segment(attached.segment).and_then(|known| {
                let Some(mut known) = known else { return Ok(()) };
                if let Some(mac) = mac {
                    known.hints.note_released(mac, now());
                }
                // If the parent was plugged into another LAN meanwhile, nothing is known of that.
                if was_used && known.hints.is_on(attached.carrier_ups) {
                    let addresses = attached.addresses.iter().map(IpNet::addr);
                    known.hints.note_unclaimed(addresses, since_boot().as_secs());
                }
                self.write_segment(attached.segment, &known)
            });
            if let Err(error) = noted {
                log::debug!("{error}");
            }
        }
    }

    /// Ends the expired quarantines, or all of them if `lifted`. Returns their addresses with the segments. A
    /// `dry_run` changes nothing.
    pub(crate) fn expire(&self, lifted: bool, dry_run: bool) -> Result<Vec<(u32, IpAddr)>> {
        let mut over = Vec::new();
        for number in self.store.segments()? {
            let Ok(Some(mut segment)) = self.store.segment(number) else { continue };
            let mut expired = segment.hints.expire(now());
            if lifted {
                expired.extend(segment.hints.lift());
            }
            if !expired.is_empty() && !dry_run {
                self.write_segment(number, &segment)?;
            }
            over.extend(expired.into_iter().map(|address| (number, address)));
        }
        Ok(over)
    }
}
