//! Affinity: the previous addresses of an identity are loaded when it comes again, and saved when it is
//! attached and when it stops. Containers start and stop also if that fails.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Result;
use crate::ipam::previous::{self, Remembered};
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::net::lease_key::LeaseKey;
use crate::net::name::{ContainerId, Identity};

/// The previous assignments of an identity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Affinity {
    /// Its file; `None` if the data dir cannot be trusted.
    path: Option<PathBuf>,
    /// What that says, by network; empty if there is none.
    pub(crate) previous: Remembered,
}

/// Loads the affinity of `identity`, or of the container's id if it has none. An unreadable one counts as missing.
pub(crate) fn load(store: &Store, identity: Option<&Identity>, container: &ContainerId) -> Affinity {
    let path =
        store.affinity_path(identity, container).inspect_err(|error| log::warn!("{}", error.in_full())).ok();
    let read = |path: &Path| -> Result<Remembered> {
        let previous = store.affinity(path)?.as_deref().map(previous::read).transpose();
        Ok(previous.map_err(|error| error.within(path.display()))?.unwrap_or_default())
    };
    let read = path.as_deref().and_then(|path| read(path).inspect_err(|error| log::warn!("{error}")).ok());
    Affinity { path, previous: read.unwrap_or_default() }
}

/// Saves the assignments of `record`, which is attached, in place of those of `affinity` in these networks. If several containers run
/// under one identity, the affinity of the first one stays.
pub(crate) fn save(store: &Store, record: &Record, affinity: &Affinity) {
    let held = previous::held(record);
    if previous::says(&affinity.previous, &held) {
        return;
    }
    let identity = record.identity();
    let is_anothers = |segment, claim| {
        holder(store, segment, claim).is_some_and(|holder| {
            holder.container != record.container
                && holder.identity() == identity
                && kernel::is_alive(&holder.holder)
        })
    };
    let shared = record.attachments().iter().any(|attached| {
        let had = affinity.previous.iter().filter(|(network, _)| *network == attached.network);
        had.flat_map(|(_, had)| had.claims()).any(|claim| is_anothers(attached.segment, claim))
    });
    if let Some(path) = affinity.path.as_deref().filter(|_| !shared) {
        write(store, path, &previous::write(&held, &affinity.previous));
    }
}

/// Saves the assignments of `record`, whose container has ended, again: it may have been trimmed since
/// the attach. The affinity of another container of the identity is not replaced. A rebuilt record is not saved,
/// because it has addresses on the word of the container.
pub(crate) fn refresh(store: &Store, record: &Record) {
    let held = previous::held(record);
    // No endpoint comes again under its id.
    let is_over = record.holder.endpoint().is_some() && record.identity.is_none();
    if record.is_pending() || record.is_rebuilt() || held.is_empty() || is_over {
        return;
    }
    let current = load(store, record.identity.as_ref(), &record.container);
    let Some(path) = current.path else { return };
    if previous::says(&current.previous, &held) {
        store.renew_affinity(&path).unwrap_or_else(|error| log::warn!("{error}"));
    } else if current.previous.is_empty() {
        write(store, &path, &previous::write(&held, &Vec::new()));
    }
}

fn write(store: &Store, path: &Path, text: &str) {
    let written = store.write_affinity(path, text).and_then(|()| match is_time_to_trim() {
        true => store.trim_affinities(path),
        false => Ok(()),
    });
    written.unwrap_or_else(|error| log::warn!("{error}"));
}

/// Returns true at random, one time in sixteen, so that a user who creates containers cannot choose the
/// moment.
pub(super) fn is_time_to_trim() -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.subsec_micros() % 16 == 0
}

/// Returns the record of the container that holds `claim`, if it can be read.
pub(crate) fn holder(store: &Store, segment: u32, claim: LeaseKey) -> Option<Record> {
    let id = store.leased_to(segment, claim).ok()??;
    store.record(&id).ok()?
}
