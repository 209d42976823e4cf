//! Hints on a segment: quarantined addresses, and recently released links, which may still answer. Losing
//! them does no harm.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Locked, Store, to_json};
use crate::error::Result;
use crate::fs::file;
use crate::ledger::quarantine::{Conflict, Quarantined};
use crate::ledger::record::{Record, Segment};
use crate::net::driver::Kind as Driver;

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

    /// Returns true if a recently released link of ours may have caused `conflict` on `segment`: the kernel
    /// may still be deleting it.
    pub(crate) fn is_recently_released(&self, segment: u32, conflict: &Conflict) -> bool {
        let known = self.store.segment(segment).ok().flatten();
        known.is_some_and(|known| known.hints.is_recently_released(conflict.mac, now()))
    }

    /// Notes that the links of `record` with conflict detection are released. It is only a hint, so a failure
    /// is logged.
    pub(crate) fn note_released(&self, record: &Record) {
        for attached in record.attachments().iter().filter(|attached| attached.detection.is_some()) {
            let Some(mac) = attached.mac.filter(|_| attached.driver.kind() == Driver::Macvlan) else {
                continue;
            };
            let noted = self.store.segment(attached.segment).and_then(|known| {
                let Some(mut known) = known else { return Ok(()) };
                known.hints.note_released(mac, now());
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
