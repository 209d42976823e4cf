//! A lease that nothing will renew: no agent runs, and nothing starts one.

use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ledger::Store;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::lifecycle::report::report;

/// The folder of the tasks that the path unit watches.
const WATCHED: &str = "/run/underlay/agent";
/// Where systemd is told to start the path unit: by the administrator, and by a distribution.
const ENABLED: [&str; 2] = [
    "/etc/systemd/system/paths.target.wants/underlay-agent.path",
    "/usr/lib/systemd/system/paths.target.wants/underlay-agent.path",
];

/// Reports that nothing will renew the leases of `record`, which was attached, if that is so: once, until an agent has run. Its
/// container has an address now, and the operator does not see that it will lose it.
pub(crate) fn tell(store: &Store, record: &Record) {
    let tell = || -> Result<()> {
        if store.has_agent()? || is_started(store)? || !store.note_no_agent()? {
            return Ok(());
        }
        let error = Error::new(Kind::NotFound, "no agent runs, and nothing starts one: DHCP leases are not renewed")
            .hint("`systemctl enable --now underlay-agent.path`, or have another service manager run `underlay agent`");
        log::warn!("{}", error.in_full());
        report(store, &Event::failed("agent", Some(record.container.as_str()), &error));
        Ok(())
    };
    tell().unwrap_or_else(|error| log::warn!("{error}"));
}

/// Whether systemd starts an agent for what is in the folder of the tasks.
fn is_started(store: &Store) -> Result<bool> {
    // As sd_booted(3).
    if store.agent_dir() != Path::new(WATCHED) || !file::exists(Path::new("/run/systemd/system"))? {
        return Ok(false);
    }
    for path in ENABLED {
        if file::exists(Path::new(path))? {
            return Ok(true);
        }
    }
    Ok(false)
}
