//! The event log: a line of JSON for each event, in a file of bounded size. It exists because runtimes
//! discard the stderr of a hook (crun) or show it only on failure (runc).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Store, write_state};
use crate::error::Result;
use crate::escape::printable;
use crate::fs::file::{self, Trust};
use crate::ledger::event::Event;

/// The size at which the file is rotated; one older file is kept.
const LIMIT: u64 = 1024 * 1024;
/// The size is checked at one event of so many, so the file can exceed its limit by that much.
const SELDOM: u32 = 16;

/// An event with its time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Recorded<E = Event> {
    /// RFC 3339, seconds, UTC.
    pub time: String,
    #[serde(flatten)]
    pub event: E,
}

/// The number of events by [`Event::kind`].
pub(crate) type Totals = BTreeMap<String, u64>;

/// The totals of deleted files.
#[derive(Default, Serialize, Deserialize)]
struct Forgotten {
    version: u32,
    totals: Totals,
}

impl Store {
    fn events_path(&self) -> PathBuf {
        self.state_dir.join("events")
    }

    fn older_events_path(&self) -> PathBuf {
        self.state_dir.join("events.old")
    }

    fn forgotten_path(&self) -> PathBuf {
        self.state_dir.join("events.json")
    }

    /// Adds `event` to the log. A failure is ignored, because an error is on stderr too.
    pub(crate) fn record_event(&self, event: &Event) {
        let now = SystemTime::now();
        let time = humantime::format_rfc3339_seconds(now).to_string();
        // At random, so that a user who causes events cannot choose the moment.
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let is_time = since.subsec_micros() % SELDOM == 0;
        let written = serde_json::to_string(&Recorded { time, event })
            .map_err(io::Error::from)
            .and_then(|line| self.add_line(&printable::json(&line), is_time));
        if let Err(error) = written {
            ::log::debug!("cannot write {}: {error}", self.events_path().display());
        }
    }

    /// Adds a line, and checks the size of the file if `is_time`.
    fn add_line(&self, line: &str, is_time: bool) -> io::Result<()> {
        let open = || file::open_to_append(&self.events_path());
        let file = open().or_else(|error| match self.make_folder() {
            Ok(()) => open(),
            Err(_) => Err(error),
        })?;
        // One write to a file opened for appending: lines of several hooks do not mix.
        (&file).write_all(format!("{line}\n").as_bytes())?;
        if is_time && file.metadata()?.len() > LIMIT {
            self.rotate(&file)?;
        }
        Ok(())
    }

    /// Makes `file` the older file. Processes that have it open still add to it.
    fn rotate(&self, file: &File) -> io::Result<()> {
        // Under the ledger's lock, so that one process rotates at a time. A process that does not get the
        // lock does not wait: a later event rotates.
        let Ok(Ok(_locked)) = self.lock_within(Duration::ZERO) else { return Ok(()) };
        if fs::metadata(self.events_path())?.ino() != file.metadata()?.ino() {
            return Ok(());
        }
        let mut forgotten = self.forgotten();
        count(&self.older_events(), &mut forgotten.totals);
        let written = write_state(&self.forgotten_path(), &Forgotten { version: 1, ..forgotten });
        written.map_err(|error| io::Error::other(error.to_string()))?;
        fs::rename(self.events_path(), self.older_events_path())
    }

    fn forgotten(&self) -> Forgotten {
        // A damaged file counts as empty: counters may restart, as after a boot.
        self.read_state(&self.forgotten_path()).ok().flatten().unwrap_or_default()
    }

    fn older_events(&self) -> Vec<Recorded> {
        read(file::read(&self.older_events_path(), 2 * LIMIT, Trust::Own)).unwrap_or_default()
    }

    /// Returns the logged events, oldest first.
    pub(crate) fn events(&self) -> Result<Vec<Recorded>> {
        let mut events = self.older_events();
        events.extend(read(file::read(&self.events_path(), 2 * LIMIT, Trust::Own))?);
        Ok(events)
    }

    /// Returns the number of events of each kind since the last boot.
    pub(crate) fn event_totals(&self) -> Result<Totals> {
        let mut totals = self.forgotten().totals;
        count(&self.events()?, &mut totals);
        Ok(totals)
    }
}

/// Returns the lines that are events. Unknown lines, as of a newer version, are skipped.
fn read(content: Result<Option<Vec<u8>>>) -> Result<Vec<Recorded>> {
    let content = content?.unwrap_or_default();
    Ok(content.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

fn count(events: &[Recorded], totals: &mut Totals) {
    for recorded in events {
        *totals.entry(recorded.event.kind().to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn files_are_bounded_and_totals_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new("/none".into(), folder.path().join("run"), "/none".into(), "/none".into());
        assert!(store.events().unwrap().is_empty() && store.event_totals().unwrap().is_empty());
        let event = Event::failed("poststop", Some("web"), &Error::input("x".repeat(9_000)));
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
        store.record_event(&event);
        let line = fs::read_to_string(store.events_path()).unwrap();
        let mut number = 1;
        while number < 1_500 || size(store.forgotten_path()) == 0 {
            number += 1;
            // Deterministic here, at random in `record_event`.
            store.add_line(line.trim_end(), number % u64::from(SELDOM) == 0).unwrap();
            assert!(number < 20_000, "it is never rotated");
        }
        assert!(size(store.events_path()) < 2 * LIMIT && size(store.older_events_path()) < 2 * LIMIT);
        assert!((store.events().unwrap().len() as u64) < number);
        assert_eq!(store.event_totals().unwrap()["failed"], number);
        fs::write(store.events_path(), "garbage\n{\"event\":\"later\",\"time\":\"\"}\n").unwrap();
        fs::write(store.forgotten_path(), "garbage").unwrap();
        assert!(store.events().is_ok() && store.event_totals().is_ok());
    }
}
