//! Conflicts that are found when the container has its address already: after an attach that did not wait, and where nobody
//! could be asked before.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::conflict_detection::Detection;
use crate::config::settings::OnLateConflict;
use crate::error::Result;
use crate::kernel::{NetnsFile, PacketSocket, Probes};
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::event::Event;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::now;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::LateConflict;
use crate::lifecycle::readdress;
use crate::lifecycle::report::report;
use crate::net::link::Link;
use crate::net::mac::MacAddr;

/// How many attachments are asked for at once: each takes up to three descriptors.
const BATCH: usize = 64;
/// How long to wait for answers at most, in milliseconds: nothing waits for them, and others are to be asked for too.
const LONGEST: u32 = 1000;
/// How often a container is given another address in a row: a host that answers for all of them must not chase it.
const MOVES: usize = 3;

/// An attachment to ask for.
struct Question<'a> {
    record: &'a Record,
    number: usize,
    attached: &'a Attached,
    parent: &'a Link,
}

/// Asks the LAN whether other hosts have the addresses of `records`, as far as their parents are connected. Reports those that
/// do, and puts the addresses in quarantine. Containers that get another address then are asked for again. Addresses that DHCP
/// servers have given are added to `leased`: their clients get other ones.
///
/// # Errors
/// When not all were asked for.
pub(super) fn ask(
    context: &mut Context<'_>,
    records: &[Record],
    leased: &mut Vec<LateConflict>,
) -> Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    // They may have been changed since the agent was started. Wrong ones stop the next attach, which tells.
    context.settings = context.store.settings().unwrap_or_default();
    let mut due: Vec<_> = records.iter().filter(|record| record.is_attached()).cloned().collect();
    for record in due.iter_mut().filter(|record| readdress::is_begun(record)) {
        match readdress::finish(context, record) {
            Ok(finished) => *record = finished,
            Err(error) => log::info!("container {}: {error}", record.container),
        }
    }
    for round in 0..=MOVES {
        if due.is_empty() {
            break;
        }
        // The last address is asked for as well, and kept.
        due = ask_once(context, &due, round < MOVES, leased)?;
    }
    Ok(())
}

/// As [`ask`]. Returns the new records of containers that have got another address, if they `may_move`.
fn ask_once(
    context: &mut Context<'_>,
    records: &[Record],
    may_move: bool,
    leased: &mut Vec<LateConflict>,
) -> Result<Vec<Record>> {
    let mut connected = context.host_netlink.links()?;
    connected.retain(Link::is_connected);
    let questions = records.iter().flat_map(|record| {
        let numbered = record.attachments().iter().enumerate();
        numbered.filter_map(|(number, attached)| {
            let parent = connected.iter().find(|link| link.ifindex == attached.parent_index)?;
            attached.detection.map(|_| Question { record, number, attached, parent })
        })
    });
    let questions: Vec<_> = questions.collect();
    let mut moved = Vec::new();
    for batch in questions.chunks(BATCH) {
        moved.extend(ask_batch(context, batch, may_move, leased)?);
    }
    Ok(moved)
}

fn ask_batch(
    context: &mut Context<'_>,
    batch: &[Question<'_>],
    may_move: bool,
    leased: &mut Vec<LateConflict>,
) -> Result<Vec<Record>> {
    // A host that only asks does not have the address.
    let mut probes = Probes::without_intent();
    let mut asked = BTreeSet::new();
    for (index, question) in batch.iter().enumerate() {
        match begin(context, question, index, &mut probes) {
            Ok(true) => {
                asked.insert(index);
            }
            Ok(false) => {}
            // The container may have ended, or may have changed its link.
            Err(error) => log::info!("container {}: {error}", question.record.container),
        }
    }
    let mut conflicts = Vec::new();
    while let Some(conflict) = probes.next_conflict()? {
        let Some(question) = batch.get(conflict.attachment) else { continue };
        if has_link(context, question.record, conflict.mac)? {
            // Another host may answer, too.
            probes.ignore(&conflict);
            continue;
        }
        probes.give_up(&conflict);
        conflicts.push(conflict);
    }
    // Nothing of a container's namespace is held while the ledger is locked.
    drop(probes);
    let mut moved = Vec::new();
    for conflict in conflicts {
        let Some(question) = batch.get(conflict.attachment) else { continue };
        asked.remove(&conflict.attachment);
        match late(context, question, &conflict, may_move, leased) {
            Ok(replaced) => moved.extend(replaced),
            Err(error) => log::warn!("container {}: {error}", question.record.container),
        }
    }
    let unanswered = asked.into_iter().filter_map(|index| batch.get(index));
    for question in unanswered.filter(|question| !question.attached.asked.is_free()) {
        let Some(parent) = context.host_netlink.link_by_index(question.parent.ifindex)? else { continue };
        // The questions may not have left.
        if parent.is_connected() && parent.carrier_ups == question.parent.carrier_ups {
            note_asked(context, question, Asked::Yes)?;
        }
    }
    Ok(moved)
}

/// Begins to ask, as number `index`. Returns false if nobody can be asked.
fn begin(
    context: &Context<'_>,
    &Question { record, attached, parent, .. }: &Question<'_>,
    index: usize,
    probes: &mut Probes,
) -> Result<bool> {
    let detection = match attached.detection {
        Some(Detection::For(ms)) => Detection::For(ms.min(LONGEST)),
        _ => Detection::For(LONGEST),
    };
    let addresses: Vec<IpAddr> = attached.addresses.iter().map(IpNet::addr).collect();
    let socket = if attached.driver.is_heard_on_parent() {
        let link = attached.driver.link_below(attached.parent_index, attached.segment);
        let Some(mac) = parent.mac else { return Ok(false) };
        context.host_netns.get()?.inside(|| PacketSocket::open(link, mac, &addresses))?
    } else {
        let (Some(ifindex), Some(mac)) = (attached.ifindex, attached.mac) else { return Ok(false) };
        let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(false) };
        netns.inside(|| PacketSocket::open(ifindex, mac, &addresses))?
    };
    probes.begin(index, socket, &addresses, detection)?;
    Ok(true)
}

/// Whether `mac` is that of a link in the network namespace of `record`: with `arp_ignore` 0, the kernel's default, each link there
/// answers for the addresses of all.
fn has_link(context: &Context<'_>, record: &Record, mac: MacAddr) -> Result<bool> {
    let records = context.store.records()?.sound;
    let mut there = records.iter().filter(|other| other.holder.is_beside(&record.holder));
    Ok(there.any(|other| other.attachments().iter().any(|attached| attached.own_mac() == Some(mac))))
}

/// Reports that another host has an address of a container, unless that was reported or the container has the address no more.
/// Returns the new record if the container gets another address; one that a DHCP server has given is added to `leased`.
fn late(
    context: &mut Context<'_>,
    question: &Question<'_>,
    conflict: &Conflict,
    may_move: bool,
    leased: &mut Vec<LateConflict>,
) -> Result<Option<Record>> {
    let (store, attached, Conflict { address, mac, .. }) = (context.store, question.attached, *conflict);
    let locked = context.lock()?;
    let Some(record) = current(context, question)? else { return Ok(None) };
    if locked.is_recently_released(attached.segment, conflict) {
        return Ok(None);
    }
    let known = store.segment(attached.segment)?.map(|segment| segment.hints.quarantine).unwrap_or_default();
    let is_known = known.get(&address).is_some_and(|it| it.mac == mac && it.lasts(now()));
    locked.set_aside(attached.segment, conflict)?;
    drop(locked);
    if !is_known {
        let (container, network) = (record.container.clone(), attached.network.clone());
        report(store, &Event::Duplicate { container, network, address, mac });
    }
    if let Some(lease) = attached.dhcp_leases().find(|lease| lease.address().addr() == address) {
        let (container, index, family) = (record.container, question.number, lease.family());
        leased.push(LateConflict { container, index, family, address, mac });
        return Ok(None);
    }
    let moves = may_move && context.settings.on_late_conflict == OnLateConflict::Move;
    if moves && attached.picked.contains(&address) {
        let conflict = Conflict { attachment: question.number, ..*conflict };
        if let Some(replaced) = readdress::begin(context, &record, &conflict)? {
            return readdress::finish(context, &replaced).map(Some);
        }
    }
    note_asked(context, question, Asked::Taken)?;
    Ok(None)
}

/// Returns the record of the container as it is now, if it has that attachment still.
fn current(
    context: &Context<'_>,
    Question { record, attached, .. }: &Question<'_>,
) -> Result<Option<Record>> {
    let now = context.store.record(&record.container)?;
    // Its lease may have been renewed.
    let plain =
        |attached: &Attached| Attached { dhcp: None, dhcp6: None, claimed: Vec::new(), ..attached.clone() };
    let is_same = |now: &Record| {
        let has = || now.attachments().iter().any(|now| plain(now) == plain(attached));
        now.holder == record.holder && now.is_attached() && has()
    };
    Ok(now.filter(is_same))
}

/// Notes whether the LAN was asked for the addresses of an attachment.
fn note_asked(context: &Context<'_>, question: &Question<'_>, asked: Asked) -> Result<()> {
    let locked = context.lock()?;
    let Some(mut now) = current(context, question)? else { return Ok(()) };
    let Some(attached) = now.attachments_mut().get_mut(question.number) else { return Ok(()) };
    if (attached.asked, attached.carrier_ups) == (asked, question.parent.carrier_ups) {
        return Ok(());
    }
    (attached.asked, attached.carrier_ups) = (asked, question.parent.carrier_ups);
    locked.write(&now)
}
