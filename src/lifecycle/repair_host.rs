//! Repair of the records of the host's own links: they are rebuilt from the marks of the links.

use std::collections::BTreeSet;

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Kind, Result};
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::record::VERSION;
use crate::ledger::{Holding, Store};
use crate::lifecycle::repair_step::{RepairStep, Repaired};
use crate::net::driver::Kind as Driver;
use crate::net::lease_key::LeaseKey;
use crate::net::link::Link;
use crate::net::name::NetworkName;
use crate::netlink::Socket;

/// Finds host links with our mark but without a record, unreadable records of links that do not exist, and
/// missing leases of known links.
pub(crate) fn host_links(
    store: &Store,
    settings: &Settings,
    host: &mut Socket,
    repaired: &mut Repaired,
) -> Result<()> {
    let links = host.links()?;
    let marked = |network: &NetworkName| {
        let mark = host_link::mark(network);
        links.iter().find(|link| link.alias.as_ref() == Some(&mark))
    };
    let mut sound = Vec::new();
    let mut lost: BTreeSet<NetworkName> =
        links.iter().filter_map(|link| host_link::network_of(link.alias.as_deref()?)).collect();
    for network in store.host_links()? {
        match store.host_link(&network) {
            Ok(link) => sound.extend(link),
            Err(error) if error.kind().is_left_alone() => {}
            Err(error) if error.kind() == Kind::Damaged && marked(&network).is_none() => {
                repaired.steps.push(RepairStep::Remove(store.host_link_path(&network)));
            }
            Err(error) if error.kind() == Kind::Damaged => continue,
            Err(error) => return Err(error),
        }
        lost.remove(&network);
    }
    for network in lost {
        let Some(link) = marked(&network) else { continue };
        if let Some(link) = rebuild(store, settings, &network, link, host)? {
            let path = store.host_link_path(&network);
            repaired.steps.push(RepairStep::HostLink(Box::new(link.clone()), path));
            sound.push(link);
        }
    }
    for link in sound {
        for claim in link.addresses.iter().copied().map(LeaseKey::from) {
            let (segment, network) = (link.segment, link.network.clone());
            if matches!(store.holding(segment, claim)?, Holding::Nobody) {
                let path = store.lease_path(segment, claim);
                repaired
                    .steps
                    .retain(|step| !matches!(step, RepairStep::Remove(removed) if *removed == path));
                repaired.steps.push(RepairStep::HostLease(segment, claim, network, path));
            }
        }
    }
    Ok(())
}

/// Rebuilds the record of the host's link of `network` from `link`, which has its mark.
fn rebuild(
    store: &Store,
    settings: &Settings,
    network: &NetworkName,
    link: &Link,
    host: &mut Socket,
) -> Result<Option<HostLink>> {
    let (Some(driver), Some(segment)) = (link.driver, link.lower) else { return Ok(None) };
    let Some(lower) = host.link_by_index(segment)? else { return Ok(None) };
    let Ok(parent) = lower.name.parse() else { return Ok(None) };
    if link.name != host_link::name(network).as_str() {
        return Ok(None);
    }
    let definition = store.network(network).ok().map(|network| settings.complete(network));
    let addresses = host.addresses_of(link.ifindex)?.iter().map(|net| net.addr()).collect();
    Ok(Some(HostLink {
        version: VERSION,
        network: network.clone(),
        name: host_link::name(network),
        driver,
        parent,
        parent_index: segment,
        segment,
        mtu: (link.mtu != lower.mtu).then_some(link.mtu),
        mac: link.mac.filter(|_| driver.kind() == Driver::Macvlan),
        addresses,
        detection: definition.as_ref().and_then(|network| network.detection_on(&lower)),
        // A link that boot has made must not be deleted with the last container.
        kept: definition.as_ref().is_some_and(Network::names_host_addresses),
        // The link was complete except for routes when it was marked. Made anew, it would lack routes to
        // containers that are not found.
        ifindex: Some(link.ifindex),
    }))
}
