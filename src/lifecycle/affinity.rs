//! The story of a memory: what an identity had is looked up when it comes again, and written down when it is attached
//! and when it stops. Whatever goes wrong with that, containers start and stop all the same.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Result;
use crate::ipam::previous::{self, Hint};
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::net::lease_key::LeaseKey;
use crate::net::name::{ContainerId, Identity, NetworkName};

/// What is remembered of an identity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Affinity {
    /// Where it is written, if it can be.
    path: Option<PathBuf>,
    /// As it is written.
    text: Option<String>,
    /// What it had, by network.
    pub(crate) hints: Vec<(NetworkName, Hint)>,
}

/// What is remembered of a container that is `identity`, or else its id. What cannot be read is as good as forgotten.
pub(crate) fn load(store: &Store, identity: Option<&Identity>, container: &ContainerId) -> Affinity {
    let path =
        store.hint_path(identity, container).inspect_err(|error| log::warn!("{}", error.in_full())).ok();
    let read = |path: &Path| -> Result<_> {
        let text = store.hint(path)?;
        let hints = text.as_deref().map(previous::read).transpose();
        Ok((text, hints.map_err(|error| error.within(path.display()))?.unwrap_or_default()))
    };
    let read = path.as_deref().and_then(|path| read(path).inspect_err(|error| log::warn!("{error}")).ok());
    let (text, hints) = read.unwrap_or_default();
    Affinity { path, text, hints }
}

/// Remembers what `record`, which is attached, has; `before` is what was remembered. Where several containers live
/// under one identity, what the first of them has stays.
pub(crate) fn save(store: &Store, record: &Record, before: &Affinity) {
    let text = previous::write(record);
    if text.is_empty() || before.text.as_ref() == Some(&text) {
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
        let had = before.hints.iter().filter(|(network, _)| *network == attached.network);
        had.flat_map(|(_, hint)| hint.claims()).any(|claim| is_anothers(attached.segment, claim))
    });
    if let Some(path) = before.path.as_deref().filter(|_| !shared) {
        write(store, path, &text);
    }
}

/// Remembers anew what `record` has had to its end: it may have been forgotten over others meanwhile. What another
/// container of its identity has left is not replaced. Not of a record that was lost: what it had is what a container says.
pub(crate) fn refresh(store: &Store, record: &Record) {
    let text = previous::write(record);
    if record.is_pending() || record.is_rebuilt() || text.is_empty() {
        return;
    }
    let now = load(store, record.identity.as_ref(), &record.container);
    let Some(path) = now.path else { return };
    if now.text.as_ref() == Some(&text) {
        store.renew_hint(&path).unwrap_or_else(|error| log::warn!("{error}"));
    } else if now.text.is_none() {
        write(store, &path, &text);
    }
}

fn write(store: &Store, path: &Path, text: &str) {
    let written = store.write_hint(path, text).and_then(|()| match is_time_to_trim() {
        true => store.trim_hints(path),
        false => Ok(()),
    });
    if let Err(error) = written {
        log::warn!("{error}");
    }
}

/// One time in sixteen, by chance: whoever makes containers cannot choose it.
fn is_time_to_trim() -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.subsec_micros() % 16 == 0
}

/// Who holds `claim`, as far as that can be made out.
pub(crate) fn holder(store: &Store, segment: u32, claim: LeaseKey) -> Option<Record> {
    let id = store.leased_to(segment, claim).ok()??;
    store.record(&id).ok()?
}
