//! The leases of a container that is attached: the hook waits for them, at most for the time that the network allows.

use std::net::{IpAddr, Ipv4Addr};

use crate::config::dhcp::Dhcp;
use crate::dhcp::v4::client::Client;
use crate::dhcp::v4::lease::Lease;
use crate::dhcp::v4::outcome::{Effect, Failure};
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::kernel::DhcpSocket;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::conflicts::Probing;
use crate::lifecycle::dhcp::change;
use crate::lifecycle::dhcp::session::{self, Session};
use crate::net::link::Link;
use crate::net::mac::MacAddr;

/// A client of an attachment that has no lease yet.
struct Asking<'a> {
    index: usize,
    wanted: &'a ResolvedAttachment,
    dhcp: &'a Dhcp,
    ifindex: u32,
    mac: MacAddr,
    session: Session,
}

/// Gets the leases of `record`, whose links were `made`, and writes them into it. The thread is in the container's namespace.
///
/// # Errors
/// When a server gives none in time, unless the network says that the container starts without.
pub(crate) fn acquire(probing: &mut Probing<'_, '_>, record: &mut Record, made: &[Link]) -> Result<()> {
    let wanted = probing.wanted;
    let mut asking = Vec::new();
    for (index, (attached, wanted)) in record.attachments_mut().iter_mut().zip(wanted).enumerate() {
        let Some((client, dhcp)) = attached.dhcp.as_ref().zip(wanted.network.file.dhcp.as_ref()) else {
            continue;
        };
        let Some((ifindex, mac)) = made.get(index).and_then(|made| Some((made.ifindex, made.mac?))) else {
            continue;
        };
        if !wanted.parent.is_connected() {
            without(dhcp, wanted, attached, no_carrier(wanted))?;
            continue;
        }
        let now = since_boot();
        let config = attached.dhcp_config(client, mac, session::v4(&probing.facts.on_host));
        let client = Client::new(config, now, Some(now + dhcp.timeout()));
        let session = Session { client, socket: Some(DhcpSocket::open(ifindex, mac)?) };
        asking.push(Asking { index, wanted, dhcp, ifindex, mac, session });
    }
    while !asking.is_empty() {
        let mut left = Vec::with_capacity(asking.len());
        for mut asked in asking {
            if !asked.proceed(probing, record)? {
                left.push(asked);
            }
        }
        asking = left;
        if !asking.is_empty() {
            session::wait(asking.iter().map(|asked| &asked.session));
        }
    }
    Ok(())
}

impl Asking<'_> {
    /// Does what is due. Returns true if the client has come to its end.
    fn proceed(&mut self, probing: &mut Probing<'_, '_>, record: &mut Record) -> Result<bool> {
        let mut effects = self.session.step()?;
        let mut is_over = false;
        // A probe leads to further effects.
        while !effects.is_empty() {
            let mut further = Vec::new();
            for effect in effects {
                match effect {
                    Effect::Send(outgoing) => self.session.send(&outgoing),
                    Effect::Probe(address) => {
                        let other = self.other(probing, record, address)?;
                        further.extend(self.session.probed(address, other)?);
                    }
                    Effect::Bound(lease) => {
                        self.bound(probing, record, lease)?;
                        is_over = true;
                    }
                    Effect::Lost(_) => {}
                    Effect::Failed(failure) => {
                        if let Some(attached) = record.attachments_mut().get_mut(self.index) {
                            without(self.dhcp, self.wanted, attached, self.error(&failure))?;
                        }
                        is_over = true;
                    }
                }
            }
            effects = further;
        }
        Ok(is_over)
    }

    /// Leases `address` in the ledger, and asks the LAN. Returns the MAC address of a host or container that has it.
    fn other(
        &self,
        probing: &Probing<'_, '_>,
        record: &Record,
        address: Ipv4Addr,
    ) -> Result<Option<MacAddr>> {
        let Some(attached) = record.attachments().get(self.index) else { return Ok(None) };
        let context = &*probing.context;
        if let Some(mac) = change::claim(context, &record.container, attached.segment, address)? {
            return Ok(Some(mac));
        }
        let Some(detection) = attached.detection.filter(|_| !self.is_known(probing, attached, address))
        else {
            return Ok(None);
        };
        let other = session::probe(self.ifindex, self.mac, address, detection)?;
        if other.is_some() {
            context.lock()?.give_back(attached.segment, IpAddr::V4(address).into());
        }
        Ok(other)
    }

    /// Whether it is known that no other host had `address` lately: as for an address of the ledger.
    fn is_known(&self, probing: &Probing<'_, '_>, attached: &Attached, address: Ipv4Addr) -> bool {
        let segment = probing.context.store.segment(attached.segment).ok().flatten();
        segment.is_some_and(|segment| {
            segment.hints.is_on(self.wanted.parent.carrier_ups)
                && segment.hints.is_unclaimed(
                    IpAddr::V4(address),
                    self.wanted.network.probe_ahead(),
                    since_boot().as_secs(),
                )
        })
    }

    /// Writes `lease`, whose address is leased in the ledger, into the record.
    fn bound(&self, probing: &Probing<'_, '_>, record: &mut Record, lease: Lease) -> Result<()> {
        let mut bound = record.clone();
        let Some(attached) = bound.attachments_mut().get_mut(self.index) else { return Ok(()) };
        attached.set_lease(Some(lease));
        probing.context.lock()?.write(&bound)?;
        *record = bound;
        Ok(())
    }

    fn error(&self, failure: &Failure) -> Error {
        failure.error().within(format!("network {}", self.wanted.network.name))
    }
}

/// What becomes of a container that has no lease: it starts without if its network says so, and the agent goes on asking.
fn without(dhcp: &Dhcp, wanted: &ResolvedAttachment, attached: &mut Attached, error: Error) -> Result<()> {
    if dhcp.optional {
        attached.note_trouble(&error);
        log::warn!("network {}: {error}: the container starts without an address", wanted.network.name);
        return Ok(());
    }
    Err(error)
}

fn no_carrier(wanted: &ResolvedAttachment) -> Error {
    let text = format!(
        "network {}: no DHCP server can answer, for parent {} is not connected",
        wanted.network.name, wanted.parent.name
    );
    Error::new(Kind::NotFound, text).hint(format!(
        "see `ip link show {}`: it is down, or nothing is plugged in; with dhcp_optional=true the container starts without \
         an address",
        wanted.parent.name
    ))
}
