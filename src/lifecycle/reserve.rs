//! Reservations in the ledger: addresses and MAC addresses of a container and of the host's own links, all of them or none.

use std::net::IpAddr;

use crate::config::network::Network;
use crate::error::{Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::{Applicant, Draft, HostFacts, Now, Place};
use crate::ledger::holder::Holder;
use crate::ledger::host_link::HostLink;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::{now, since_boot};
use crate::ledger::{Locked, Store};
use crate::lifecycle::lease_table::LedgerTable;
use crate::net::link::Link;

/// Picks addresses and MAC addresses for all attachments of a container and for the host's own links that it is to be
/// reached by, and writes its record and leases. `lives` returns true if a holder is alive.
///
/// # Errors
/// Those of [`Draft::record`] and [`reserve_host_link`]. The container has no lease then.
pub(crate) fn reserve(
    locked: &Locked<'_>,
    applicant: Applicant<'_>,
    wanted: &[ResolvedAttachment],
    facts: &HostFacts,
    lives: impl Fn(&Holder) -> bool,
) -> Result<Record> {
    let table = LedgerTable::new(locked);
    let mut draft = Draft::new(&table, facts, moment());
    let record = draft.record(applicant, wanted, lives)?;
    for ResolvedAttachment { network, parent, .. } in wanted.iter().filter(|wanted| wanted.has_host_access())
    {
        reserve_host_link(locked, network, parent, facts)?;
    }
    write_segments(locked, &draft)?;
    locked.write(&record)?;
    draft.leases.keep();
    Ok(record)
}

/// Picks an address for an endpoint to come, and writes a record with that alone.
///
/// # Errors
/// Those of [`Draft::address`].
pub(crate) fn reserve_address(
    locked: &Locked<'_>,
    applicant: Applicant<'_>,
    wanted: &ResolvedAttachment,
    facts: &HostFacts,
    lives: impl Fn(&Holder) -> bool,
) -> Result<Record> {
    let table = LedgerTable::new(locked);
    let mut draft = Draft::new(&table, facts, moment());
    let record = draft.address(applicant, wanted, lives)?;
    write_segments(locked, &draft)?;
    locked.write(&record)?;
    draft.leases.keep();
    Ok(record)
}

/// Puts the address of `conflict` in quarantine and gives the container of `record` another in its place. The new address
/// is leased before the record lists it, and the old one given back after.
///
/// # Errors
/// Those of [`Draft::replace`]. The record stays.
pub(crate) fn replace(
    locked: &Locked<'_>,
    record: &Record,
    wanted: &[ResolvedAttachment],
    conflict: &Conflict,
    facts: &HostFacts,
) -> Result<Record> {
    let another = |draft: &mut Draft<'_>, place: Place<'_>| draft.replace(record, wanted, place, conflict);
    replace_of_container(locked, record, wanted, conflict, facts, another)
}

/// As [`replace`], for a container that runs: it keeps the lease of the old address as long as its link may have that.
///
/// # Errors
/// Those of [`Draft::replace_late`]. The record stays.
pub(crate) fn replace_late(
    locked: &Locked<'_>,
    record: &Record,
    wanted: &[ResolvedAttachment],
    conflict: &Conflict,
    facts: &HostFacts,
) -> Result<Record> {
    let another = |draft: &mut Draft<'_>, place: Place<'_>| draft.replace_late(record, place, conflict);
    replace_of_container(locked, record, wanted, conflict, facts, another)
}

fn replace_of_container(
    locked: &Locked<'_>,
    record: &Record,
    wanted: &[ResolvedAttachment],
    conflict: &Conflict,
    facts: &HostFacts,
    another: impl FnOnce(&mut Draft<'_>, Place<'_>) -> Result<Record>,
) -> Result<Record> {
    let place = Place::of(record, wanted, conflict)?;
    let (container, identity, holder) = (&record.container, record.identity.as_ref(), &record.holder);
    let applicant =
        Applicant { container, identity, host_name: None, holder, nsid: None, avoid_previous: false };
    let table = LedgerTable::new(locked);
    let draft = Draft { applicant: Some(applicant), ..Draft::new(&table, facts, moment()) };
    let another = |draft: &mut Draft<'_>| another(draft, place);
    let replaced = replace_by(draft, another, |record| locked.write(record), locked, place, conflict)?;
    let (segment, old) = (place.segment(), conflict.address.into());
    if !replaced.holds(segment, old) {
        locked.give_back(segment, old);
    }
    Ok(replaced)
}

/// As [`replace`], for the host's own link `known`, which is as the ledger has it.
///
/// # Errors
/// Those of [`Draft::host_link`]; when its network names the very address. The record stays.
pub(crate) fn replace_of_host(
    locked: &Locked<'_>,
    known: &HostLink,
    wanted: &ResolvedAttachment,
    conflict: &Conflict,
    facts: &HostFacts,
) -> Result<HostLink> {
    let another = |draft: &mut Draft<'_>| {
        draft.refuse_exact(wanted, conflict)?;
        draft.host_link(&wanted.network, &wanted.parent, Some(&HostLink { ifindex: None, ..known.clone() }))
    };
    let place = Place { wanted, mac: known.mac };
    let table = LedgerTable::new(locked);
    let draft = Draft::new(&table, facts, moment());
    let replaced = replace_by(draft, another, |link| locked.write_host_link(link), locked, place, conflict)?;
    locked.give_back(place.segment(), conflict.address.into());
    Ok(replaced)
}

fn replace_by<T>(
    mut draft: Draft<'_>,
    another: impl FnOnce(&mut Draft<'_>) -> Result<T>,
    write: impl FnOnce(&T) -> Result<()>,
    locked: &Locked<'_>,
    place: Place<'_>,
    conflict: &Conflict,
) -> Result<T> {
    draft.quarantine(place, conflict)?;
    // Also if there is no other address: the next container does not get this one.
    write_segments(locked, &draft)?;
    let replaced = another(&mut draft)?;
    write_segments(locked, &draft)?;
    write(&replaced)?;
    draft.leases.keep();
    Ok(replaced)
}

/// Picks the addresses of the host's link of `network`, which is to be on `parent`, and writes them down, unless that was
/// done before.
///
/// # Errors
/// Those of [`Draft::host_link`]; when the ledger cannot be read or written.
pub(crate) fn reserve_host_link(
    locked: &Locked<'_>,
    network: &Network,
    parent: &Link,
    facts: &HostFacts,
) -> Result<()> {
    let table = LedgerTable::new(locked);
    let mut draft = Draft::new(&table, facts, moment());
    let (known, link) = host_link(locked.store(), &mut draft, network, parent)?;
    if known.as_ref() != Some(&link) {
        locked.write_host_link(&link)?;
    }
    draft.leases.keep();
    // A kill before leaves leases that no record lists.
    let Some(known) = known else { return Ok(()) };
    let is_kept = |address: &IpAddr| known.segment == link.segment && link.addresses.contains(address);
    locked.release_host(&known, |address| !is_kept(address))
}

/// Returns the record that a container would have if it were attached now, and the host's links it would be reached by.
/// `lives` returns true if a holder is alive. As in an attach, dead containers give way if there is no room.
///
/// # Errors
/// Those of [`reserve`].
pub(crate) fn preview(
    store: &Store,
    applicant: Applicant<'_>,
    wanted: &[ResolvedAttachment],
    facts: &HostFacts,
    lives: impl Fn(&Holder) -> bool,
) -> Result<(Record, Vec<HostLink>)> {
    let is_dead = |record: &Record| !lives(&record.holder);
    let of_same = |record: &Record| {
        record.container == *applicant.container || Some(&record.identity()) == applicant.identity
    };
    let draft = |gives_way: &dyn Fn(Option<&Record>) -> bool| -> Result<_> {
        let table = LedgerTable::dry_run(store, gives_way);
        let mut draft = Draft::new(&table, facts, moment());
        let record = draft.record(applicant, wanted, &lives)?;
        let reached = wanted.iter().filter(|wanted| wanted.has_host_access());
        let links = reached.map(|ResolvedAttachment { network, parent, .. }| {
            host_link(store, &mut draft, network, parent).map(|(_, link)| link)
        });
        Ok((record, links.collect::<Result<_>>()?))
    };
    // An attach reclaims at once what its own predecessor holds, and what other dead containers hold if it is needed.
    match draft(&|record| record.is_some_and(|record| of_same(record) && is_dead(record))) {
        Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) => {
            draft(&|record| record.is_none_or(is_dead))
        }
        found => found,
    }
}

/// Returns the time.
pub(crate) fn moment() -> Now {
    Now { since_epoch: now(), since_boot: since_boot().as_secs() }
}

fn write_segments(locked: &Locked<'_>, draft: &Draft<'_>) -> Result<()> {
    draft.segments.iter().try_for_each(|(&number, segment)| locked.write_segment(number, segment))
}

/// The host's link of `network` as it is written, and as it is to be on `parent`.
fn host_link(
    store: &Store,
    draft: &mut Draft<'_>,
    network: &Network,
    parent: &Link,
) -> Result<(Option<HostLink>, HostLink)> {
    let known = match store.host_link(&network.name) {
        // Any other error may be of a sound file, which is not overwritten: then no container of this network is attached.
        Err(error) if error.kind() == Kind::Damaged => {
            log::warn!("{error}");
            None
        }
        known => known?,
    };
    let link = draft.host_link(network, parent, known.as_ref())?;
    Ok((known, link))
}

#[cfg(test)]
mod tests;
