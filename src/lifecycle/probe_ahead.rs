//! Probing ahead: the LAN is asked for the next addresses of a pool before a container gets them, so that its attach need not
//! wait for answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use crate::error::{Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::PreviousAddresses;
use crate::ipam::reserve::{Applicant, Draft, HostFacts, Place};
use crate::kernel::Probes;
use crate::ledger::Store;
use crate::ledger::holder::Holder;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::apart;
use crate::lifecycle::context::Context;
use crate::lifecycle::lease_table::LedgerTable;
use crate::lifecycle::reserve;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, IfName, NetworkName};
use crate::oci::annotations::short_form;

/// The fewest and the most addresses of a family that are asked for. More are if containers come faster.
const FEWEST: usize = 8;
const MOST: usize = 32;

/// Where the addresses of a network come from: its pools on the parent of a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pool {
    network: NetworkName,
    parent_index: u32,
}

/// How a pool is used.
struct Use {
    last: Duration,
    /// How many addresses were taken since the LAN was asked last.
    taken: usize,
    /// How long an address counts as unclaimed.
    limit: Duration,
}

impl Pool {
    /// Returns the pools of those addresses of `record` for which there is conflict detection.
    pub(super) fn of(record: &Record) -> impl Iterator<Item = Self> {
        let detected = record.attachments().iter().filter(|attached| attached.detection.is_some());
        detected
            .map(|attached| Self { network: attached.network.clone(), parent_index: attached.parent_index })
    }
}

/// Asks ahead for the addresses of the pools that `receiver` gives, as long as they are in use, until the channel is closed.
pub(super) fn run(store: &Store, receiver: Receiver<Pool>) {
    let mut context = Context::for_removal(store);
    let mut pools: BTreeMap<Pool, Use> = BTreeMap::new();
    loop {
        let pause = pools.values().map(|pool| pool.limit / 4).min();
        let received = match pause {
            Some(pause) => receiver.recv_timeout(pause),
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let first = match received {
            Ok(pool) => Some(pool),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = since_boot();
        for pool in first.into_iter().chain(receiver.try_iter()) {
            let used = pools.entry(pool).or_insert(Use { last: now, taken: 0, limit: Duration::ZERO });
            (used.last, used.taken) = (now, used.taken + 1);
        }
        pools.retain(|pool, used| match refill(&mut context, pool, used.taken) {
            Ok(limit) => {
                (used.taken, used.limit) = (0, limit);
                now.saturating_sub(used.last) < limit
            }
            Err(error) => {
                log::warn!("network {}: {error}", pool.network);
                false
            }
        });
    }
}

/// Asks ahead for the addresses of `pools`.
///
/// # Errors
/// That of the first pool that failed.
pub(super) fn once(store: &Store, pools: Vec<Pool>) -> Result<()> {
    let mut context = Context::for_removal(store);
    let mut taken: BTreeMap<Pool, usize> = BTreeMap::new();
    pools.into_iter().for_each(|pool| *taken.entry(pool).or_default() += 1);
    taken.into_iter().try_for_each(|(pool, taken)| refill(&mut context, &pool, taken).map(drop))
}

/// Asks for the next addresses of `pool`, of which `taken` were taken since the last time, if too few are known to be
/// unclaimed. Returns how long they count so; zero if nobody is to be asked, or nobody can.
fn refill(context: &mut Context<'_>, pool: &Pool, taken: usize) -> Result<Duration> {
    let store = context.store;
    // They may have been changed since the agent was started.
    context.settings = store.settings()?;
    // It may be defined by an annotation, or removed.
    let Some(network) = store.network_of_links(&pool.network)? else { return Ok(Duration::ZERO) };
    let network = context.settings.complete(network);
    let limit = Duration::from_secs(network.probe_ahead());
    let parent = context.host_netlink.link_by_index(pool.parent_index)?;
    let Some(parent) =
        parent.filter(|parent| parent.name == network.parent.as_str() && parent.is_connected())
    else {
        return Ok(Duration::ZERO);
    };
    // The only link of its parent has nobody beside it that could ask.
    let is_alone = network.driver.is_alone();
    let Some(detection) = network.detection_on(&parent).filter(|_| !limit.is_zero() && !is_alone) else {
        return Ok(Duration::ZERO);
    };
    let begin = since_boot();
    let Some(request) = short_form(pool.network.as_str())?.pop() else { return Ok(Duration::ZERO) };
    let wanted = ResolvedAttachment {
        request,
        network,
        parent,
        ifname: IfName::temporary(std::process::id()),
        previous: PreviousAddresses::default(),
    };
    let addresses = stale(context, &wanted, FEWEST.max(2 * taken).min(MOST), limit, begin)?;
    if addresses.is_empty() {
        return Ok(limit);
    }
    // Without a container the pool may be out of use, and a link of another kind may be wanted on the parent.
    if !is_used(store, pool)? {
        return Ok(Duration::ZERO);
    }
    // Always the same one, so that switches need not learn another each time.
    let mac = MacAddr::of_agent(store.machine_key(&wanted.parent));
    let mut probes = Probes::without_intent();
    probes.begin(0, apart::open(context, &wanted, &addresses, mac)?, &addresses, detection)?;
    let mut conflicts: Vec<Conflict> = Vec::new();
    while let Some(conflict) = probes.next_conflict()? {
        probes.give_up(&conflict);
        conflicts.push(conflict);
    }
    let contended = probes.end();
    // The questions may not have left, or may have gone to another LAN.
    let ups = wanted.parent.carrier_ups;
    let now = context.host_netlink.link_by_index(pool.parent_index)?;
    let is_same = now.is_some_and(|parent| parent.is_connected() && parent.carrier_ups == ups);
    let segment = wanted.parent.segment();
    let locked = context.lock()?;
    let mut free = Vec::new();
    for address in addresses {
        // An attach has taken it meanwhile, and has asked itself.
        if store.is_leased(segment, address.into()) {
            continue;
        }
        match conflicts.iter().find(|conflict| conflict.address == address) {
            Some(conflict) if locked.is_recently_released(segment, conflict) => {}
            Some(conflict) => locked.set_aside(segment, conflict)?,
            None if is_same && !contended.contains(&address) => free.push(address),
            None => {}
        }
    }
    locked.note_unclaimed(segment, free, ups, begin)?;
    Ok(limit)
}

/// Returns true if a container has addresses of `pool`.
fn is_used(store: &Store, pool: &Pool) -> Result<bool> {
    Ok(store.records()?.sound.iter().any(|record| Pool::of(record).any(|used| used == *pool)))
}

/// Returns those of the next `count` addresses of each family that are not known to be unclaimed for long; none if most are.
fn stale(
    context: &mut Context<'_>,
    wanted: &ResolvedAttachment,
    count: usize,
    limit: Duration,
    now: Duration,
) -> Result<Vec<IpAddr>> {
    let store = context.store;
    let neighbours = context.host_netlink.neighbours(wanted.parent.ifindex)?;
    let neighbours = neighbours.into_iter().map(|known| ((wanted.parent.ifindex, known.address), known));
    let facts = HostFacts {
        on_host: context.host_netlink.addresses()?.into_iter().collect(),
        neighbours: neighbours.collect(),
        beside: store.networks_beside([&wanted.network].into_iter())?,
        ..HostFacts::default()
    };
    // No container has this name: a record of it is never written.
    let container: ContainerId = "underlay-agent".parse()?;
    let netns = context.host_netns.get()?.describe(None);
    let holder = Holder::none_yet(netns);
    let applicant = Applicant {
        container: &container,
        identity: None,
        host_name: None,
        holder: &holder,
        nsid: None,
        avoid_previous: false,
    };
    let table = LedgerTable::read(store);
    let draft = Draft::new(&table, &facts, reserve::moment());
    let mut draft = Draft { applicant: Some(applicant), ..draft };
    let segment = wanted.parent.segment();
    draft.open_segment(wanted)?.hints.note_carrier(wanted.parent.carrier_ups, now.as_secs());
    let mut stale = Vec::new();
    for is_v4 in [true, false] {
        let mut next = Vec::new();
        while next.len() < count {
            match draft.pick(Place { wanted, mac: None }, is_v4) {
                Ok(Some(net)) => next.push(net.addr()),
                // No subnet of the family, or no more addresses.
                Ok(None) => break,
                Err(error) if error.kind() == Kind::Exhausted => break,
                Err(error) => return Err(error),
            }
        }
        let hints = draft.segments.get(&segment).map(|segment| &segment.hints);
        let is_fresh = |address: &IpAddr| {
            hints.is_some_and(|hints| hints.is_unclaimed(*address, limit.as_secs() * 3 / 4, now.as_secs()))
        };
        let old: Vec<_> = next.iter().copied().filter(|address| !is_fresh(address)).collect();
        if old.len() * 2 > next.len() {
            stale.extend(old);
        }
    }
    Ok(stale)
}
