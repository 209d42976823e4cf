//! Conflicts that are found when the container has its address already: after an attach that did not wait, and where nobody
//! could be asked before.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::conflict_detection::Detection;
use crate::error::Result;
use crate::kernel::{NetnsFile, PacketSocket, Probes};
use crate::ledger::event::Event;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::{Asked, Attached, Links, Record};
use crate::ledger::segment_hints::now;
use crate::lifecycle::context::Context;
use crate::lifecycle::report::report;
use crate::net::driver::Kind as Driver;
use crate::net::link::Link;

/// The containers whose addresses are asked for at once: each takes two descriptors.
const BATCH: usize = 64;
/// How long to wait for answers at most: nothing waits for them, and others are to be asked for too.
const PATIENCE: Detection = Detection::For(1000);

/// Asks the LAN whether other hosts have the addresses of `records`, as far as their parents are connected. Reports those that
/// do, and puts the addresses in quarantine.
pub(super) fn ask(context: &mut Context<'_>, records: &[Record]) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut connected = context.host_netlink.links()?;
    connected.retain(Link::is_connected);
    for batch in records.chunks(BATCH) {
        let mut asked: Vec<(&Record, &Attached)> = Vec::new();
        let mut probes = Probes::default();
        for (record, attached) in
            batch.iter().flat_map(|record| record.attachments().iter().map(move |a| (record, a)))
        {
            match question(context, record, attached, &connected) {
                Ok(Some((socket, detection))) => {
                    probes.begin(asked.len(), socket, &addresses(attached), detection)?;
                    asked.push((record, attached));
                }
                Ok(None) => {}
                // The container may have ended.
                Err(error) => log::debug!("container {}: {error}", record.container),
            }
        }
        while let Some(conflict) = probes.next_conflict()? {
            probes.give_up(&conflict);
            if let Some((record, attached)) = asked.get(conflict.attachment) {
                late(context, record, attached, &conflict)?;
            }
        }
        // Nothing of a container's namespace is held while the ledger is locked.
        drop(probes);
        let answered = |record: &&Record| asked.iter().any(|(asked, _)| asked.container == record.container);
        let was_unasked = |record: &&Record| record.attachments().iter().any(|a| a.asked == Asked::No);
        for record in batch.iter().filter(answered).filter(was_unasked) {
            note_asked(context, record)?;
        }
    }
    Ok(())
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
fn late(context: &Context<'_>, record: &Record, attached: &Attached, conflict: &Conflict) -> Result<()> {
    let locked = context.lock()?;
    let store = locked.store();
    let is_same = |now: &Record| now.holder == record.holder && now.attachments().contains(attached);
    if !store.record(&record.container)?.is_some_and(|now| is_same(&now))
        || locked.is_recently_released(attached.segment, conflict)
    {
        return Ok(());
    }
    let known = store.segment(attached.segment)?.map(|segment| segment.hints.quarantine).unwrap_or_default();
    let is_known = known.get(&conflict.address).is_some_and(|it| it.mac == conflict.mac && it.lasts(now()));
    locked.set_aside(attached.segment, conflict)?;
    drop(locked);
    if !is_known {
        let (container, network) = (record.container.clone(), attached.network.clone());
        let Conflict { address, mac, .. } = *conflict;
        report(context.store, &Event::Duplicate { container, network, address, mac });
    }
    Ok(())
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
