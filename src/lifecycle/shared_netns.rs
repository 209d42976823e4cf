//! The story of a shared network namespace: containers of a pod that ask for the same networks are attached once, by
//! the first, and detached with the last.
//!
//! The others have a record without attachments, which names the first one's (`shares`). When the holder of that dies,
//! one of those that live takes its place, so that the links have a living holder as long as anybody uses them.

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::{Holder, Record, State, VERSION};
use crate::net::name::ContainerId;
use crate::oci::annotations::Request;

/// Has `container` share what another container of its namespace is attached to, if that is what it asks for; its record
/// then. The namespace must have been made before the container, or there is nobody to share with.
///
/// # Errors
/// When the ledger cannot be read or written.
pub(crate) fn join(
    store: &Store,
    settings: &Settings,
    container: &ContainerId,
    holder: &Holder,
    request: &Request,
    networks: &[Network],
) -> Result<Option<Record>> {
    if holder.netns.path.is_none() {
        return Ok(None);
    }
    let locked = store.lock(settings.lock_timeout())?;
    let records = store.records_in(&holder.netns)?;
    let mut near = records.iter().filter(|record| record.state == State::Attached);
    let Some(first) = near.find(|record| record.gives(&request.attachments, networks)) else {
        return Ok(None);
    };
    let is_shared = heir(first, &records).is_some();
    let own = store.record(container).ok().flatten();
    let joined = match &own {
        // It was the first, and comes again while others are there.
        Some(own) if own == first && is_shared && own.holder != *holder => own.held_by(holder),
        // It has, or had, something of its own: that is the attach's to tell.
        Some(own) if own.shares.is_none() || own.holder != *holder && kernel::lives(&own.holder) => {
            return Ok(None);
        }
        _ if !is_shared && !kernel::lives(&first.holder) => return Ok(None),
        _ => Record {
            version: VERSION,
            container: container.clone(),
            identity: request.identity.clone(),
            state: State::Attached,
            holder: holder.clone(),
            marked_as: None,
            rebuilt: false,
            shares: Some(first.container.clone()),
            attachments: Vec::new(),
        },
    };
    locked.write(&joined)?;
    Ok(Some(joined))
}

/// A container that shares what `record` holds, and lives.
fn heir<'a>(record: &Record, records: &'a [Record]) -> Option<&'a Record> {
    let shares = |other: &&Record| other.shares.as_ref() == Some(&record.container);
    records.iter().filter(shares).find(|other| kernel::lives(&other.holder))
}

/// Whether what `record` holds is used by others, so that it is not taken back when its holder dies.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn is_used(store: &Store, record: &Record) -> Result<bool> {
    // Into a namespace that the runtime has made for it nobody else has come.
    let may_be_shared = record.holder.netns.path.is_some() && record.shares.is_none();
    Ok(may_be_shared && heir(record, &store.records_in(&record.holder.netns)?).is_some())
}

/// The container, if any, that holds the links of `record` since that one's own has ended, and shared them before.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn user(store: &Store, record: &Record) -> Result<Option<ContainerId>> {
    if record.marked_as.is_none() {
        return Ok(None);
    }
    let holds =
        |other: &&Record| other.shares.as_ref() == Some(&record.container) && other.holder == record.holder;
    let others = store.records_in(&record.holder.netns)?;
    Ok(others.iter().find(holds).map(|other| other.container.clone()))
}

/// Passes what `record` holds on to one of those that share it; whether there is one. If not, nobody joins any more.
///
/// # Errors
/// When the ledger cannot be read or written.
pub(crate) fn pass_on(store: &Store, settings: &Settings, record: &Record) -> Result<bool> {
    if record.holder.netns.path.is_none() || record.shares.is_some() {
        return Ok(false);
    }
    let locked = store.lock(settings.lock_timeout())?;
    let records = store.records_in(&record.holder.netns)?;
    // Another hook may have been quicker.
    let Some(now) = records.iter().find(|now| now.container == record.container) else { return Ok(false) };
    if now.holder != record.holder {
        return Ok(kernel::lives(&now.holder));
    }
    match heir(now, &records) {
        Some(heir) => {
            log::info!("container {} keeps the links of {}", heir.container, now.container);
            locked.write(&now.held_by(&heir.holder))?;
            Ok(true)
        }
        None if now.state == State::Attached => {
            locked.write(&Record { state: State::Pending, ..now.clone() })?;
            Ok(false)
        }
        None => Ok(false),
    }
}

/// The record whose links the container of `record`, which is gone, was the last to use, if it was.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn left_behind(store: &Store, record: &Record) -> Result<Option<Record>> {
    let Some(first) = &record.shares else { return Ok(None) };
    Ok(store.record(first)?.filter(|first| !kernel::lives(&first.holder)))
}
