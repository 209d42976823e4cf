//! The leases of a container that is attached: the hook waits for them, at most for the time that the network allows.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::dhcp::{Dhcp, Dhcp6};
use crate::dhcp::client::{Effect, Event};
use crate::dhcp::lease::{Family, Lease};
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::kernel::{DhcpSockets, PacketSocket};
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::conflicts::Probing;
use crate::lifecycle::dhcp::change;
use crate::lifecycle::dhcp::session::{self, Session, number};
use crate::net::link::Link;
use crate::net::mac::MacAddr;

/// A client of an attachment that has no lease yet.
struct Asking<'a> {
    index: usize,
    wanted: &'a ResolvedAttachment,
    dhcp: &'a Dhcp,
    family: Family,
    ifindex: u32,
    mac: MacAddr,
    session: Session,
    until: Duration,
}

/// Gets the leases of `record`, whose links were `made`, and writes them into it. The thread is in the container's namespace.
///
/// # Errors
/// When a server gives none in time, unless the network says that the container starts without.
pub(crate) fn acquire(probing: &mut Probing<'_, '_>, record: &mut Record, made: &[Link]) -> Result<()> {
    let wanted = probing.wanted;
    let mut asking = Vec::new();
    let container = record.container.clone();
    for (index, (attached, wanted)) in record.attachments_mut().iter_mut().zip(wanted).enumerate() {
        let Some(dhcp) = wanted.network.file.dhcp.as_ref() else { continue };
        let Some((ifindex, mac)) = made.get(index).and_then(|made| Some((made.ifindex, made.mac?))) else {
            continue;
        };
        for family in attached.dhcp_families().collect::<Vec<_>>() {
            let now = since_boot();
            let until = now + dhcp.timeout();
            let client = attached.dhcp_client(family, mac, (now, Some(until)), number()?);
            let Some(client) = client else { continue };
            let session = Session::new(client, &container, attached);
            let asked = Asking { index, wanted, dhcp, family, ifindex, mac, session, until };
            if wanted.parent.is_connected() {
                asking.push(asked);
            } else if asked.is_waited_for() {
                without(&asked, attached, no_carrier(wanted))?;
            }
        }
    }
    // The agent goes on with those that are not waited for.
    while asking.iter().any(Asking::is_waited_for) {
        let mut left = Vec::with_capacity(asking.len());
        for mut asked in asking {
            if !asked.proceed(probing, record)? {
                left.push(asked);
            }
        }
        asking = left;
        if asking.iter().any(Asking::is_waited_for) {
            session::wait(asking.iter().map(|asked| &asked.session));
        }
    }
    // What they were about to get: the agent's clients ask for it again.
    asking.iter().try_for_each(|asked| asked.give_up_all(probing, record))
}

impl Asking<'_> {
    /// Does what is due. Returns true if the client has come to its end.
    fn proceed(&mut self, probing: &mut Probing<'_, '_>, record: &mut Record) -> Result<bool> {
        if self.session.sockets.is_none() {
            self.session.sockets = match DhcpSockets::open(self.family, self.ifindex, self.mac, None) {
                Err(error) if !self.is_waited_for() => {
                    log::info!("network {}: {error}", self.wanted.network.name);
                    return Ok(true);
                }
                opened => opened?,
            };
            if let Some(attached) = record.attachments().get(self.index) {
                self.session.hear_below(probing.context, attached)?;
            }
            if self.session.sockets.is_none() && since_boot() < self.until {
                return Ok(false);
            }
        }
        let mut effects = self.session.step(probing.context)?;
        let mut is_over = false;
        loop {
            let Some(effect) = effects.pop_front() else {
                let Some(event) = self.session.answer()? else { return Ok(is_over) };
                if let Event::Conflict { address, mac } = event {
                    change::give_up(&probing.context.lock()?, record, self.index, address)?;
                    change::tell_conflict(probing.context, record, self.index, (address, mac));
                }
                effects.extend(self.session.tell(probing.context, event)?);
                continue;
            };
            match effect {
                Effect::Send(outgoing) => self.session.send(&outgoing),
                Effect::Probe(address) => effects.extend(self.claim(probing, record, address)?),
                Effect::Bound(lease) => {
                    self.bound(probing, record, lease)?;
                    is_over = true;
                }
                Effect::Lost(_) => {}
                Effect::Failed(error) => {
                    self.give_up_all(probing, record)?;
                    if self.is_waited_for() {
                        let error = self.in_full(error);
                        if let Some(attached) = record.attachments_mut().get_mut(self.index) {
                            without(self, attached, error)?;
                        }
                    }
                    is_over = true;
                }
            }
        }
    }

    /// Leases `address` in the ledger, and begins to ask the LAN.
    fn claim(
        &mut self,
        probing: &mut Probing<'_, '_>,
        record: &mut Record,
        address: IpAddr,
    ) -> Result<Vec<Effect>> {
        self.give_up_all(probing, record)?;
        let Some(attached) = record.attachments().get(self.index) else { return Ok(Vec::new()) };
        let taken = match change::make_way(probing.context, attached, address)? {
            None => change::claim(&probing.context.lock()?, record, self.index, address)?,
            of_host => of_host,
        };
        if let Some(mac) = taken {
            return self.session.tell(probing.context, Event::Conflict { address, mac });
        }
        let Some(attached) = record.attachments().get(self.index) else { return Ok(Vec::new()) };
        let detection = attached.detection.filter(|_| !self.is_known(probing, attached, address));
        let (ifindex, mac) = (self.ifindex, self.mac);
        let open = |addresses: &[IpAddr]| PacketSocket::open(ifindex, mac, addresses);
        let how = detection.map(|detection| (detection, open));
        self.session.ask(probing.context, (attached, address), how)?;
        Ok(Vec::new())
    }

    /// Gives back what was claimed for this client.
    fn give_up_all(&self, probing: &Probing<'_, '_>, record: &mut Record) -> Result<()> {
        for address in change::claimed(record, self.index, self.family) {
            change::give_up(&probing.context.lock()?, record, self.index, address)?;
        }
        Ok(())
    }

    /// Whether it is known that no other host had `address` lately: as for an address of the ledger.
    fn is_known(&self, probing: &Probing<'_, '_>, attached: &Attached, address: IpAddr) -> bool {
        let segment = probing.context.store.segment(attached.segment).ok().flatten();
        segment.is_some_and(|segment| {
            segment.hints.is_on(self.wanted.parent.carrier_ups)
                && segment.hints.is_unclaimed(
                    address,
                    self.wanted.network.probe_ahead(),
                    since_boot().as_secs(),
                )
        })
    }

    /// Writes `lease`, whose address is leased in the ledger, into the record.
    fn bound(&self, probing: &Probing<'_, '_>, record: &mut Record, lease: Lease) -> Result<()> {
        let mut bound = record.clone();
        bound.take_lease(self.index, lease);
        probing.context.lock()?.write(&bound)?;
        *record = bound;
        Ok(())
    }

    /// Whether the container does not start before it has the lease.
    fn is_waited_for(&self) -> bool {
        self.family == Family::V4 || self.dhcp.dhcp6 == Dhcp6::Required
    }

    /// `error`; if servers were silent, with where and for how long they were asked.
    fn in_full(&self, error: Error) -> Error {
        if error.kind() != Kind::Busy {
            return error;
        }
        let (parent, seconds) = (&self.wanted.parent.name, self.dhcp.timeout().as_secs());
        let hint = format!(
            "{}; see what is asked and answered with `tcpdump -eni {parent} {}`, and the log of the server; with dhcp_optional=true \
             the container starts without an address",
            error.hint_text().unwrap_or_default(),
            self.family.ports(),
        );
        Error::new(Kind::Busy, format!("{error} on {parent} within {seconds} s")).hint(hint)
    }
}

/// What becomes of a container that has no lease: it starts without if its network says so, and the agent goes on asking.
fn without(asked: &Asking<'_>, attached: &mut Attached, error: Error) -> Result<()> {
    let network = format!("network {}", asked.wanted.network.name);
    if asked.dhcp.optional {
        attached.note_trouble(asked.family, &error);
        log::warn!("{network}: {error}: the container starts without an address");
        return Ok(());
    }
    Err(error.within(network))
}

fn no_carrier(wanted: &ResolvedAttachment) -> Error {
    let text = format!("no DHCP server can answer, for parent {} is not connected", wanted.parent.name);
    Error::new(Kind::NotFound, text).hint(format!(
        "see `ip link show {}`: it is down, or nothing is plugged in; with dhcp_optional=true the container starts without \
         an address",
        wanted.parent.name
    ))
}
