//! Links that have the MAC address of their parent: a server that tells clients by MAC address takes this host and its containers
//! for one client.

use std::net::{IpAddr, Ipv4Addr};

use crate::dhcp::v4::outcome::Sharer;
use crate::error::Result;
use crate::ledger::Store;
use crate::lifecycle::context::Context;
use crate::net::name::ContainerId;

/// A container with such a link on a segment.
pub(super) struct SharedMac {
    pub(super) container: ContainerId,
    pub(super) segment: u32,
}

impl SharedMac {
    /// Those of `addresses` that the host has now, or another container that asks servers on the segment.
    pub(super) fn taken(
        &self,
        context: &mut Context<'_>,
        addresses: &[Ipv4Addr],
    ) -> Result<Vec<(Ipv4Addr, Sharer)>> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let of_host = context.host_netlink.addresses()?;
        let mut taken = Vec::new();
        for &address in addresses {
            if of_host.contains(&IpAddr::V4(address)) {
                taken.push((address, Sharer::Host));
            } else if self.has_another(context.store, address)? {
                taken.push((address, Sharer::Container));
            }
        }
        Ok(taken)
    }

    /// Whether a server has given `address` to another container. One that the ledger gave is none of the server's: it is declined.
    fn has_another(&self, store: &Store, address: Ipv4Addr) -> Result<bool> {
        let holder = store.leased_to(self.segment, IpAddr::V4(address).into())?;
        let Some(holder) = holder.filter(|holder| *holder != self.container) else { return Ok(false) };
        let record = store.record(&holder)?;
        Ok(record.is_some_and(|record| {
            let mut there = record.attachments().iter().filter(|attached| attached.segment == self.segment);
            there.any(|attached| attached.dhcp.is_some())
        }))
    }
}
