//! Conflict detection for the host's own links: they get no address that another host on the LAN has.
//!
//! The probes are sent from the parent, because the link does not exist yet. During an attach they are sent
//! together with those of the container, so that they cost no extra time.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::conflict_detection::MAX_CONFLICTS;
use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::ipam::reserve::Present;
use crate::kernel::{NetnsFile, PacketSocket, Probes};
use crate::ledger::event::Event;
use crate::ledger::host_link::HostLink;
use crate::ledger::quarantine::Conflict;
use crate::ledger::{Locked, Store};
use crate::lifecycle::report::report;
use crate::net::driver::Kind as Driver;
use crate::net::name::NetworkName;
use crate::netlink::Socket;

/// Running probes, by network.
pub(crate) type HostProbes = BTreeMap<NetworkName, Probes>;

/// The environment in which the host's own links are made.
pub(crate) struct Host<'a> {
    /// Defaults of networks.
    pub settings: &'a Settings,
    /// The host's network namespace.
    pub netns: &'a NetnsFile,
    /// Host facts that restrict which addresses can be allocated.
    pub present: &'a Present,
    /// Probes that [`Host::begin`] has started.
    pub probes: HostProbes,
}

impl Host<'_> {
    /// Begins conflict detection for the addresses of `link`, which is about to be made. Does nothing if the
    /// network has it switched off, or if the parent has no LAN.
    pub(crate) fn begin(&mut self, store: &Store, link: &HostLink, host: &mut Socket) -> Result<()> {
        let Some(network) = self.network(store, &link.network)? else { return Ok(()) };
        let Some(parent) = host.link_by_index(link.parent_index)? else { return Ok(()) };
        let (Some(detection), Some(mac)) = (network.detection_on(&parent), parent.mac) else { return Ok(()) };
        // If the parent is itself an ipvlan link, the kernel attaches the new link to the link below it.
        let below = if link.driver.kind() == Driver::Ipvlan { link.segment } else { link.parent_index };
        // A socket belongs to the namespace it is opened in.
        let socket = self.netns.inside(|| PacketSocket::open(below, mac, &link.addresses))?;
        let mut probes = Probes::default();
        probes.begin(0, socket, &link.addresses, detection)?;
        self.probes.insert(link.network.clone(), probes);
        Ok(())
    }

    /// Waits for the answers to the probes for the addresses of `link`, and replaces addresses in conflict.
    /// Returns the link with addresses that are free.
    ///
    /// # Errors
    /// [`Kind::Taken`] if another host has an address that the network names, or there are too many
    /// conflicts.
    pub(crate) fn resolve_conflicts(
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

    /// Replaces the address of `conflict`.
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
        locked.reserve_host_link(&network, &parent, self.present)?;
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
