//! Conflicts that are found when the container has its address already: after an attach that did not wait, and where nobody
//! could be asked before.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::conflict_detection::Detection;
use crate::config::settings::OnLateConflict;
use crate::error::Result;
use crate::kernel::{NetnsFile, PacketSocket, Probes};
use crate::ledger::event::Event;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::{Asked, Attached, Links, Record};
use crate::ledger::segment_hints::now;
use crate::lifecycle::context::Context;
use crate::lifecycle::readdress;
use crate::lifecycle::report::report;
use crate::net::driver::Kind as Driver;
use crate::net::link::Link;

/// The containers whose addresses are asked for at once: each takes two descriptors.
const BATCH: usize = 64;
/// How long to wait for answers at most: nothing waits for them, and others are to be asked for too.
const PATIENCE: Detection = Detection::For(1000);

/// Asks the LAN whether other hosts have the addresses of `records`, as far as their parents are connected. Reports those that
/// do, and puts the addresses in quarantine. Containers that get another address then are asked for again.
pub(super) fn ask(context: &mut Context<'_>, records: &[Record]) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    // They may have been changed since the agent was started. Wrong ones stop the next attach, which tells.
    context.settings = context.store.settings().unwrap_or_default();
    if context.settings.on_late_conflict == OnLateConflict::Move {
        for record in records {
            // The container may have ended.
            readdress::settle(context, record).unwrap_or_else(|error| log::debug!("{error}"));
        }
    }
    let mut connected = context.host_netlink.links()?;
    connected.retain(Link::is_connected);
    let mut due = records.to_vec();
    // Ends, because each time an address of few is put in quarantine.
    while !due.is_empty() {
        let mut moved = Vec::new();
        for batch in due.chunks(BATCH) {
            moved.extend(ask_batch(context, batch, &connected)?);
        }
        due = moved;
    }
    Ok(())
}

/// As [`ask`], for few. Returns the new records of containers that have got another address.
fn ask_batch(context: &mut Context<'_>, batch: &[Record], connected: &[Link]) -> Result<Vec<Record>> {
    let mut asked: Vec<(&Record, usize)> = Vec::new();
    let mut probes = Probes::default();
    for record in batch {
        for (number, attached) in record.attachments().iter().enumerate() {
            match question(context, record, attached, connected) {
                Ok(Some((socket, detection))) => {
                    probes.begin(asked.len(), socket, &addresses(attached), detection)?;
                    asked.push((record, number));
                }
                Ok(None) => {}
                // The container may have ended.
                Err(error) => log::debug!("container {}: {error}", record.container),
            }
        }
    }
    let mut conflicts = Vec::new();
    while let Some(conflict) = probes.next_conflict()? {
        probes.give_up(&conflict);
        conflicts.push(conflict);
    }
    // Nothing of a container's namespace is held while the ledger is locked.
    drop(probes);
    let mut moved = Vec::new();
    for conflict in conflicts {
        let Some(&(record, attachment)) = asked.get(conflict.attachment) else { continue };
        moved.extend(late(context, record, &Conflict { attachment, ..conflict })?);
    }
    let answered = |record: &&Record| asked.iter().any(|(asked, _)| asked.container == record.container);
    let was_unasked = |record: &&Record| record.attachments().iter().any(|a| a.asked == Asked::No);
    for record in batch.iter().filter(answered).filter(was_unasked) {
        note_asked(context, record)?;
    }
    Ok(moved)
}

fn addresses(attached: &Attached) -> Vec<IpAddr> {
    attached.addresses.iter().map(IpNet::addr).collect()
}

/// Returns the sockets to ask by for the addresses of `attached`, and how long to wait; `None` if nobody can be asked.
fn question(
    context: &Context<'_>,
    record: &Record,
    attached: &Attached,
    connected: &[Link],
) -> Result<Option<(PacketSocket, Detection)>> {
    let parent = connected.iter().find(|link| link.ifindex == attached.parent_index);
    let (Some(detection), Some(parent)) = (attached.detection, parent) else { return Ok(None) };
    let detection = if detection == Detection::Rfc { PATIENCE } else { detection };
    let addresses = addresses(attached);
    if attached.driver.is_heard_on_parent() {
        let link = match attached.driver.kind() {
            Driver::Ipvlan => attached.segment,
            Driver::Macvlan => attached.parent_index,
        };
        let Some(mac) = parent.mac else { return Ok(None) };
        let open = || PacketSocket::open(link, mac, &addresses);
        return Ok(Some((context.host_netns.get()?.inside(open)?, detection)));
    }
    let (Some(ifindex), Some(mac)) = (attached.ifindex, attached.mac) else { return Ok(None) };
    let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(None) };
    Ok(Some((netns.inside(|| PacketSocket::open(ifindex, mac, &addresses))?, detection)))
}

/// Reports that another host has an address of `record`, unless that was reported or the container has the address no more.
/// Returns the new record if the container gets another address.
fn late(context: &mut Context<'_>, record: &Record, conflict: &Conflict) -> Result<Option<Record>> {
    let store = context.store;
    let Some(attached) = record.attachments().get(conflict.attachment) else { return Ok(None) };
    let locked = context.lock()?;
    let is_same = |now: &Record| now.holder == record.holder && now.attachments().contains(attached);
    let now_recorded = store.record(&record.container)?.filter(is_same);
    if now_recorded.is_none() || locked.is_recently_released(attached.segment, conflict) {
        return Ok(None);
    }
    let known = store.segment(attached.segment)?.map(|segment| segment.hints.quarantine).unwrap_or_default();
    let is_known = known.get(&conflict.address).is_some_and(|it| it.mac == conflict.mac && it.lasts(now()));
    locked.set_aside(attached.segment, conflict)?;
    drop(locked);
    if !is_known {
        let (container, network) = (record.container.clone(), attached.network.clone());
        let Conflict { address, mac, .. } = *conflict;
        report(store, &Event::Duplicate { container, network, address, mac });
    }
    match (context.settings.on_late_conflict, now_recorded) {
        (OnLateConflict::Move, Some(record)) => readdress::readdress(context, &record, conflict),
        _ => Ok(None),
    }
}

/// Notes that the LAN was asked for the addresses of `record`.
fn note_asked(context: &Context<'_>, record: &Record) -> Result<()> {
    let locked = context.lock()?;
    let Some(mut now) = locked.store().record(&record.container)? else { return Ok(()) };
    if now != *record {
        return Ok(());
    }
    if let Links::Own(own) = &mut now.links {
        own.attachments.iter_mut().for_each(|attached| attached.asked = Asked::Yes);
    }
    locked.write(&now)
}
