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

/// Probes that are under way, by network, with the addresses that they are for.
#[derive(Default)]
pub(crate) struct HostProbes(BTreeMap<NetworkName, (Vec<IpAddr>, Probes)>);

/// What probes have found, by network: for which addresses, and the first that another host has.
#[derive(Default)]
pub(crate) struct Heard(BTreeMap<NetworkName, (Vec<IpAddr>, Option<Conflict>)>);

impl HostProbes {
    /// Waits for the answers. This takes as long as the longest detection, and is not for the time with the lock.
    ///
    /// # Errors
    /// When nothing can be sent or waited for.
    pub(crate) fn hear(self) -> Result<Heard> {
        let heard = self.0.into_iter().map(|(network, (addresses, mut probes))| {
            let conflict = probes.next_conflict()?;
            Ok((network, (addresses, conflict)))
        });
        heard.collect::<Result<_>>().map(Heard)
    }
}

/// The environment in which the host's own links are made.
pub(crate) struct Host<'a> {
    /// Defaults of networks.
    pub settings: &'a Settings,
    /// The host's network namespace.
    pub netns: &'a NetnsFile,
    /// Host facts that restrict which addresses can be allocated.
    pub present: &'a HostFacts,
}

impl Host<'_> {
    /// Begins to probe for the addresses of `link`, which is going to be made. Does nothing if the network wants no
    /// conflict detection, or there is no LAN to ask.
    ///
    /// # Errors
    /// When no probe can be sent.
    pub(crate) fn begin(
        &self,
        store: &Store,
        link: &HostLink,
        probes: &mut HostProbes,
        host: &mut Socket,
    ) -> Result<()> {
        let Some(network) = self.network(store, &link.network)? else { return Ok(()) };
        let Some(parent) = host.link_by_index(link.parent_index)? else { return Ok(()) };
        let detection = network.detection_on(&parent).filter(|_| parent.is_connected());
        let (Some(detection), Some(mac)) = (detection, parent.mac) else { return Ok(()) };
        // If the parent is itself an ipvlan link, the kernel attaches the new link to the link below it.
        let below = if link.driver.kind() == Driver::Ipvlan { link.segment } else { link.parent_index };
        let wire = self.netns.inside(|| PacketSocket::open(below, mac, &link.addresses))?;
        let mut begun = Probes::default();
        begun.begin(0, wire, &link.addresses, detection)?;
        probes.0.insert(link.network.clone(), (link.addresses.clone(), begun));
        Ok(())
    }

    /// Returns `link` with addresses that no other host has, as far as `heard` tells. For others it probes now.
    ///
    /// # Errors
    /// [`Kind::Taken`] when an address that the network names is another host's, or too many others are.
    pub(crate) fn settle(
        &self,
        locked: &Locked<'_>,
        link: &HostLink,
        heard: &mut Heard,
        host: &mut Socket,
    ) -> Result<HostLink> {
        let store = locked.store();
        let mut link = link.clone();
        for _ in 0..=MAX_CONFLICTS {
            // Another process may have chosen other addresses since the probes were sent.
            let known = heard.0.remove(&link.network).filter(|(addresses, _)| *addresses == link.addresses);
            let conflict = match known {
                Some((_, conflict)) => conflict,
                None => {
                    let mut probes = HostProbes::default();
                    self.begin(store, &link, &mut probes, host)?;
                    probes.hear()?.0.remove(&link.network).and_then(|(_, conflict)| conflict)
                }
            };
            let Some(conflict) = conflict else { return Ok(link) };
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
