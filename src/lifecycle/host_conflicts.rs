//! Conflict detection for the host's own links: no host of the LAN loses its address to one of them.
//!
//! The probes go out by the parent, where the answers come: its link is not there yet. While a container is attached they
//! go out with its own, so that nothing waits for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::conflict_detection::MAX_CONFLICTS;
use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::ipam::reserve::HostFacts;
use crate::kernel::{NetnsFile, PacketSocket, Probes};
use crate::ledger::event::Event;
use crate::ledger::host_link::HostLink;
use crate::ledger::quarantine::Conflict;
use crate::ledger::{Locked, Store};
use crate::lifecycle::report::report;
use crate::lifecycle::reserve;
use crate::net::driver::Kind as Driver;
use crate::net::name::NetworkName;
use crate::netlink::Socket;

/// Probes that are under way, by network.
pub(crate) type HostProbes = BTreeMap<NetworkName, Probes>;

/// The host, where links of its own are made.
pub(crate) struct Host<'a> {
    /// What networks do not say themselves.
    pub settings: &'a Settings,
    /// Its network namespace.
    pub netns: &'a NetnsFile,
    /// What it has, and what it must not get in the way of.
    pub present: &'a HostFacts,
    /// Probes that were begun before.
    pub probes: HostProbes,
}

impl Host<'_> {
    /// Begins to probe for the addresses of `link`, which is going to be made. Does nothing if the network wants no
    /// conflict detection, or there is no LAN to ask.
    ///
    /// # Errors
    /// When no probe can be sent.
    pub(crate) fn begin(&mut self, store: &Store, link: &HostLink, host: &mut Socket) -> Result<()> {
        let Some(network) = self.network(store, &link.network)? else { return Ok(()) };
        let Some(parent) = host.link_by_index(link.parent_index)? else { return Ok(()) };
        let (Some(detection), Some(mac)) = (network.detection_on(&parent), parent.mac) else { return Ok(()) };
        // A packet socket is of the namespace that it is opened in.
        // The kernel hangs an ipvlan link on what is below the ipvlan link that is its parent.
        let below = if link.driver.kind() == Driver::Ipvlan { link.segment } else { link.parent_index };
        let wire = self.netns.inside(|| PacketSocket::open(below, mac, &link.addresses))?;
        let mut probes = Probes::default();
        probes.begin(0, wire, &link.addresses, detection)?;
        self.probes.insert(link.network.clone(), probes);
        Ok(())
    }

    /// Waits for the answers to the probes for the addresses of `link`. Where another host has one of them, the link gets
    /// another. Returns the link with the addresses that it can have.
    ///
    /// # Errors
    /// [`Kind::Taken`] when an address that the network names is another host's, or too many others are.
    pub(crate) fn settle(
        &mut self,
        locked: &Locked<'_>,
        link: &HostLink,
        host: &mut Socket,
    ) -> Result<HostLink> {
        let store = locked.store();
        let mut link = link.clone();
        for _ in 0..=MAX_CONFLICTS {
            if !self.probes.contains_key(&link.network) {
                self.begin(store, &link, host)?;
            }
            // Another process may have chosen other addresses since the probes were sent.
            let Some(mut probes) = self.probes.remove(&link.network) else { return Ok(link) };
            let Some(conflict) = probes.next_conflict()? else { return Ok(link) };
            link = self.replace(locked, link, &conflict, host)?;
        }
        let text = format!("{MAX_CONFLICTS} addresses of network {} were in use on the LAN", link.network);
        Err(Error::new(Kind::Taken, text)
            .hint("name a free address in host_access, or set conflict_detection to off"))
    }

    /// Gives `link` other addresses than that of `conflict`.
    fn replace(
        &self,
        locked: &Locked<'_>,
        link: HostLink,
        conflict: &Conflict,
        host: &mut Socket,
    ) -> Result<HostLink> {
        let store = locked.store();
        let Conflict { address, mac, .. } = *conflict;
        let network = self.network(store, &link.network)?;
        let parent = host.link_by_index(link.parent_index)?;
        let (Some(network), Some(parent)) = (network, parent) else { return Ok(link) };
        report(store, &Event::Conflict { container: None, network: network.name.clone(), address, mac });
        if network.file.host_access.as_ref().is_some_and(|access| access.addresses.contains(&address)) {
            return Err(taken(&network, address, &mac.to_string()));
        }
        locked.set_aside(link.segment, conflict)?;
        reserve::reserve_host_link(locked, &network, &parent, self.present)?;
        Ok(store.host_link(&network.name)?.unwrap_or(link))
    }

    fn network(&self, store: &Store, name: &NetworkName) -> Result<Option<Network>> {
        match store.network(name) {
            Ok(network) => Ok(Some(self.settings.complete(network))),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn taken(network: &Network, address: IpAddr, by: &str) -> Error {
    let text =
        format!("address {address}, host_access of network {}, is in use on the LAN, by {by}", network.name);
    Error::new(Kind::Taken, text)
        .hint("name another address, or none to have a free one picked; find the host by its MAC address")
}
