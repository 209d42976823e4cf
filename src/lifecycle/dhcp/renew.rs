//! Renewal: the agent keeps the leases of all containers, and asks for those that are missing.
//!
//! Between two exchanges it has nothing of a container's namespace: a socket there would keep the namespace, and the MAC
//! address, after the container.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::dhcp::v4::client::{Client, Event as Happened};
use crate::dhcp::v4::outcome::Effect;
use crate::error::Result;
use crate::kernel::{DhcpSocket, NetnsFile, marked_link};
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::record::{Holder, Record};
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::change::{self, Place};
use crate::lifecycle::dhcp::notices::Notices;
use crate::lifecycle::dhcp::session::{self, Session, number};
use crate::net::mac::MacAddr;
use crate::net::name::ContainerId;
use crate::netlink::Socket;

/// For how long an answer is listened for. Then the sockets are closed until the client asks again.
pub(super) const LISTEN: Duration = Duration::from_secs(3);
/// How long to wait after an error, which may be over then.
const RETRY: Duration = Duration::from_secs(1);
/// Exchanges begin one after the other: after a suspend all may be due, and a server drops what it has no time for.
const PACE: Duration = Duration::from_millis(50);
/// Clients that begin together ask within this time, in milliseconds.
const SPREAD: u64 = 300;

/// The client of one link.
struct Renewal {
    holder: Holder,
    parent_index: u32,
    session: Session,
    /// Until when its sockets are listened on.
    until: Duration,
    /// Until when nothing is tried, after an error.
    pause: Duration,
}

/// All clients, by container and number of the attachment.
struct Renewals<'a> {
    context: Context<'a>,
    all: BTreeMap<(ContainerId, usize), Renewal>,
    /// When the next exchange may begin.
    free: Duration,
}

/// Keeps all leases until the agent ends, which `notices` tells.
pub(crate) fn run(store: &Store, notices: &Notices) {
    let mut renewals =
        Renewals { context: Context::for_removal(store), all: BTreeMap::new(), free: Duration::ZERO };
    let failed = |error| log::warn!("{error}");
    renewals.follow_records().unwrap_or_else(failed);
    loop {
        renewals.proceed();
        let sockets = renewals.all.values().filter_map(|renewal| renewal.session.socket.as_ref());
        let sockets = sockets.flat_map(DhcpSocket::sockets);
        let Some(received) = notices.wait(renewals.next(), sockets) else { return };
        if received.records {
            renewals.follow_records().unwrap_or_else(failed);
        }
        received.parents.iter().for_each(|&parent| renewals.moved(parent));
    }
}

impl Renewals<'_> {
    /// Makes clients for links that have none, and forgets those of containers that have ended.
    fn follow_records(&mut self) -> Result<()> {
        let records = self.context.store.records()?.sound;
        let records = records.iter().filter(|record| !record.is_pending() && !record.has_ended());
        let mut known = BTreeMap::new();
        for record in records {
            for (index, attached) in record.attachments().iter().enumerate() {
                if attached.dhcp.is_some() {
                    known.insert((record.container.clone(), index), (record, attached));
                }
            }
        }
        self.all
            .retain(|key, renewal| known.get(key).is_some_and(|(record, _)| record.holder == renewal.holder));
        for (key, (record, attached)) in known {
            let Entry::Vacant(new) = self.all.entry(key.clone()) else { continue };
            let place = Place { container: &key.0, holder: &record.holder, index: key.1 };
            match begin(&mut self.context, record, attached, place) {
                Ok(Some(renewal)) => drop(new.insert(renewal)),
                Ok(None) => {}
                Err(error) => log::warn!("container {}: {error}", record.container),
            }
        }
        Ok(())
    }

    /// When something is due.
    fn next(&self) -> Option<Duration> {
        let due = |renewal: &Renewal| {
            let listened = renewal.session.socket.as_ref().map(|_| renewal.until);
            let next = [renewal.session.client.deadline(), listened].into_iter().flatten().min();
            let free = if listened.is_none() { self.free } else { Duration::ZERO };
            next.map(|next| next.max(renewal.pause).max(free))
        };
        self.all.values().filter_map(due).min()
    }

    /// The links on `parent` may have come to another network.
    fn moved(&mut self, parent: u32) {
        let of_parent = |(_, renewal): &(&(ContainerId, usize), &mut Renewal)| renewal.parent_index == parent;
        for (key, renewal) in self.all.iter_mut().filter(of_parent) {
            let done = renewal.open(&self.context, key).and_then(|_| {
                let effects = renewal.session.client.step(Happened::Moved, since_boot(), number()?);
                renewal.carry_out(&mut self.context, key, effects)
            });
            done.map(drop).unwrap_or_else(|error| log::info!("container {}: {error}", key.0));
        }
    }

    /// Does what is due now.
    fn proceed(&mut self) {
        let mut gone = Vec::new();
        for (key, renewal) in &mut self.all {
            let begins = renewal.session.socket.is_none();
            if begins && self.free > since_boot() {
                continue;
            }
            match renewal.proceed(&mut self.context, key) {
                Ok(true) => {}
                Ok(false) => gone.push(key.clone()),
                Err(error) => {
                    log::info!("container {}: {error}", key.0);
                    (renewal.session.socket, renewal.pause) = (None, since_boot() + RETRY);
                }
            }
            if begins && renewal.session.socket.is_some() {
                self.free = since_boot() + PACE;
            }
        }
        for key in gone {
            self.all.remove(&key);
        }
    }
}

/// The client of a link that has, or wants, a lease; `None` if the container is gone. The kernel gets the lease's lifetime anew:
/// an agent that was killed may not have come to it, and the kernel's clock stands still while the host is suspended.
fn begin(
    context: &mut Context<'_>,
    record: &Record,
    attached: &Attached,
    place: Place<'_>,
) -> Result<Option<Renewal>> {
    let Some((dhcp, mac)) = attached.dhcp.as_ref().zip(attached.mac) else { return Ok(None) };
    let config = attached.dhcp_config(dhcp, mac, session::v4(&context.host_netlink.addresses()?));
    let client = match &dhcp.lease {
        Some(lease) => {
            if !lease.times.is_over(since_boot()) && !change::apply(record, place, false)? {
                return Ok(None);
            }
            Client::resume(config, lease.clone(), number()?)
        }
        None => Client::new(config, since_boot() + Duration::from_millis(number()? % SPREAD), None),
    };
    Ok(Some(Renewal {
        holder: record.holder.clone(),
        parent_index: attached.parent_index,
        session: Session { client, socket: None },
        until: Duration::ZERO,
        pause: Duration::ZERO,
    }))
}

impl Renewal {
    /// Returns false if the container is gone.
    fn proceed(&mut self, context: &mut Context<'_>, key: &(ContainerId, usize)) -> Result<bool> {
        let now = since_boot();
        let is_due = self.session.client.deadline().is_some_and(|due| due.max(self.pause) <= now);
        if is_due && !self.open(context, key)? {
            return Ok(false);
        }
        if self.session.socket.is_none() {
            return Ok(true);
        }
        let effects = self.session.step()?;
        let is_there = self.carry_out(context, key, effects)?;
        if self.until <= since_boot() {
            self.session.socket = None;
        }
        Ok(is_there)
    }

    /// Opens the sockets. Returns false if the container is gone.
    fn open(&mut self, context: &Context<'_>, key: &(ContainerId, usize)) -> Result<bool> {
        self.until = since_boot() + LISTEN;
        if self.session.socket.is_some() {
            return Ok(true);
        }
        let place = Place { container: &key.0, holder: &self.holder, index: key.1 };
        let Some(record) = place.record(context)? else { return Ok(false) };
        let Some((_, netns)) = NetnsFile::of(&self.holder)? else { return Ok(false) };
        let Some((mark, attached)) = record.marked().nth(key.1) else { return Ok(false) };
        let address = attached.leased_address().map(|net| net.addr());
        self.session.socket = netns.inside(|| {
            let link = marked_link(attached.ifindex, &mark, &mut Socket::open()?)?;
            let Some((ifindex, mac)) = link.and_then(|link| Some((link.ifindex, link.mac?))) else {
                return Ok(None);
            };
            let mut socket = DhcpSocket::open(ifindex, mac)?;
            if let Some(IpAddr::V4(address)) = address {
                socket.bind(address);
            }
            Ok(Some(socket))
        })?;
        Ok(self.session.socket.is_some())
    }

    /// Does what the client wants. Returns false if the container is gone.
    fn carry_out(
        &mut self,
        context: &mut Context<'_>,
        key: &(ContainerId, usize),
        mut effects: Vec<Effect>,
    ) -> Result<bool> {
        let holder = self.holder.clone();
        let place = Place { container: &key.0, holder: &holder, index: key.1 };
        while !effects.is_empty() {
            let mut further = Vec::new();
            for effect in effects {
                let is_there = match effect {
                    Effect::Send(outgoing) => {
                        self.session.send(&outgoing);
                        true
                    }
                    Effect::Probe(address) => {
                        let other = other(context, place, address)?;
                        further.extend(self.session.probed(address, other)?);
                        true
                    }
                    Effect::Bound(lease) => {
                        // The exchange is over, and nothing is to be kept in the namespace.
                        self.session.socket = None;
                        change::change(context, place, Some(&lease), "")?
                    }
                    Effect::Lost(loss) => change::change(context, place, None, &loss.to_string())?,
                    Effect::Failed(failure) => {
                        let error = failure.error();
                        log::warn!("container {}: {error}", key.0);
                        change::note_trouble(context, place, &error)?
                    }
                };
                if !is_there {
                    return Ok(false);
                }
            }
            effects = further;
        }
        Ok(true)
    }
}

/// Leases `address` in the ledger, and asks the LAN from the link at `place`. Returns the MAC address of a host or container
/// that has it.
fn other(context: &Context<'_>, place: Place<'_>, address: Ipv4Addr) -> Result<Option<MacAddr>> {
    let Some(record) = place.record(context)? else { return Ok(None) };
    let Some(attached) = place.attached(&record) else { return Ok(None) };
    if let Some(mac) = change::claim(context, place.container, attached.segment, address)? {
        return Ok(Some(mac));
    }
    let (Some(detection), Some(ifindex), Some(mac)) = (attached.detection, attached.ifindex, attached.mac)
    else {
        return Ok(None);
    };
    let Some((_, netns)) = NetnsFile::of(place.holder)? else { return Ok(None) };
    let other = netns.inside(|| session::probe(ifindex, mac, address, detection))?;
    if other.is_some() {
        context.lock()?.give_back(attached.segment, IpAddr::V4(address).into());
    }
    Ok(other)
}
