//! A container's record that was lost, as the marks of its links tell it.
//!
//! A mark that is proven tells whose a link is, by which process, and which MAC address it was made with. What else the
//! link has, a process inside may have given it. So a record gets the addresses that leases say are its own, and else
//! those alone that it could have been given and nobody else has; and of the host no more than it has already.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Kind, Result};
use crate::kernel::{self, NetnsFile, Survey, SurveyedLink};
use crate::ledger::Store;
use crate::ledger::host_link;
use crate::ledger::record::{Attached, Holder, Links, MadeFor, Own, Record, State};
use crate::net::ipv6::Advertised;
use crate::net::lease_key::LeaseKey;
use crate::net::link_options::LinkOptions;
use crate::net::mark::Mark;
use crate::net::name::{ContainerId, Identity, IfName, NetworkName};
use crate::netlink::Socket;

/// The addresses and routes of a record that is written anew, at most.
const MOST: usize = 4096;

/// What is known when a record is written anew.
pub(crate) struct Known<'a> {
    /// The ledger, as far as it is left.
    pub(crate) store: &'a Store,
    /// What networks do not say themselves.
    pub(crate) settings: &'a Settings,
    /// The addresses of the host.
    pub(crate) on_host: BTreeSet<IpAddr>,
    /// Who is in which namespace.
    pub(crate) survey: &'a Survey,
}

/// The record of `id`, of whose links `seen` are those with proven marks, beside all `others` that are known; `None` if
/// there are none, if their parents are gone, or if nobody holds them any more.
///
/// # Errors
/// When ledger or kernel cannot be read.
pub(crate) fn record(
    known: &Known<'_>,
    id: &ContainerId,
    seen: &[&SurveyedLink],
    others: &[Record],
    host: &mut Socket,
) -> Result<Option<Record>> {
    // Of a container that died and one that was made after it by the same name, the latter.
    let mut lives: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for &seen in seen.iter().filter(|seen| seen.alias.mark.container == *id) {
        match holder(known, seen, others) {
            Some((is_alive, holder)) => {
                let Mark { start_time, pid, .. } = seen.alias.mark;
                lives.entry((is_alive, start_time, pid)).or_default().push((seen, holder));
            }
            None => log::warn!("link {} with the alias {} is not believed", seen.link.name, seen.alias),
        }
    }
    let Some((_, links)) = lives.pop_last() else { return Ok(None) };
    let Some((_, holder)) = links.first().cloned() else { return Ok(None) };
    let mut links: Vec<&SurveyedLink> = links.into_iter().map(|(seen, _)| seen).collect();
    links.sort_by_key(|seen| seen.alias.mark.index);
    // An attach that was begun again has sealed the same mark twice: one link is believed.
    links.dedup_by_key(|seen| seen.alias.mark.index);
    let made_for = links.first().map(|seen| MadeFor::of(&seen.alias.mark));
    let made_for = made_for.filter(|made| (made.pid, made.start_time) != (holder.pid, holder.start_time));
    let mut attachments = Vec::with_capacity(links.len());
    let mut size = 0;
    for (index, seen) in links.into_iter().enumerate() {
        // The mark of a link says which attachment it is: behind a gap it would be another.
        if seen.alias.mark.index != index {
            break;
        }
        // What no attach has made is not written either: it would be more than one file can hold.
        size += seen.addresses.len() + seen.routes.len();
        if size > MOST {
            break;
        }
        attachments.extend(attached(known, seen, others, host)?);
    }
    if attachments.is_empty() {
        return Ok(None);
    }
    // The mark tells no identity: what is remembered of it stays as it is.
    let nsid = links_netns(&holder, host)?;
    let own = Own { state: State::Attached, made_for, rebuilt: true, nsid, attachments };
    Ok(Some(Record { container: id.clone(), identity: None, holder, links: Links::Own(own) }))
}

/// The number by which the host knows the namespace of `holder`, if it is there.
fn links_netns(holder: &Holder, host: &mut Socket) -> Result<Option<i32>> {
    match NetnsFile::of(holder)? {
        Some((_, netns)) => kernel::number(&netns, host),
        None => Ok(None),
    }
}

/// The process by which it is told whether the container of `seen` lives, and whether it does: the one that it was made
/// for, or else the first of those that are in its namespace now, as others of a pod are. `None` if there is nobody, and
/// nobody would ever take back what is lost.
fn holder(known: &Known<'_>, seen: &SurveyedLink, others: &[Record]) -> Option<(bool, Holder)> {
    let Mark { pid, start_time, .. } = seen.alias.mark;
    let pid_namespace = kernel::pid_namespace();
    let made_for = Holder { pid, start_time, pid_namespace, netns: seen.netns.clone() };
    if kernel::lives(&made_for) {
        match kernel::is_in(&made_for) {
            Ok(is_here) => {
                let is_its_own = is_here && !others.iter().any(|other| is_same(&other.holder, &made_for));
                return is_its_own.then_some((true, made_for));
            }
            // It ends at this moment.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => {
                log::warn!("{error}");
                return None;
            }
        }
    }
    match known.survey.first_process_in(seen.netns.inode) {
        Some((pid, start_time)) => Some((true, Holder { pid, start_time, ..made_for })),
        None => made_for.netns.path.is_some().then_some((false, made_for)),
    }
}

fn is_same(one: &Holder, other: &Holder) -> bool {
    (one.pid, one.start_time) == (other.pid, other.start_time)
}

fn attached(
    known: &Known<'_>,
    seen: &SurveyedLink,
    others: &[Record],
    host: &mut Socket,
) -> Result<Option<Attached>> {
    let Mark { container, network: name, .. } = &seen.alias.mark;
    let Some(parent) = host.link_by_index(seen.parent_index)? else { return Ok(None) };
    let (Ok(parent_name), Ok(ifname), Some(driver)) =
        (parent.name.parse(), seen.link.name.parse(), seen.link.driver)
    else {
        return Ok(None);
    };
    let network = match known.store.network(name) {
        Ok(network) => Some(known.settings.complete(network)),
        Err(error) if error.kind() == Kind::NotFound => None,
        // Without it the record would lack what it could have been given.
        Err(error) => return Err(error),
    };
    let segment = parent.segment();
    let has = |claim: LeaseKey| -> Result<bool> {
        // What two have whose records are lost cannot be told from whose it is: both keep it, and the lease is that of
        // whom it is remembered of. Nobody else gets it.
        if others.iter().any(|other| !other.is_rebuilt() && other.holds(segment, claim)) {
            return Ok(false);
        }
        // A lease is root's own word.
        if let Some(of) = known.store.leased_to(segment, claim)? {
            return Ok(of == *container);
        }
        let of_host = claim.address().is_some_and(|address| known.on_host.contains(&address))
            || known.store.host_holding(segment, claim)?.is_some()
            || seen.link.mac == parent.mac && claim.address().is_none();
        // The MAC address is sealed, and needs no network to say so.
        let could_give = |network| could_give(network, claim, container);
        Ok(!of_host && network.as_ref().map_or(claim.address().is_none(), could_give))
    };
    let mut addresses = Vec::new();
    for &address in &seen.addresses {
        if has(address.addr().into())? {
            let subnet = network.as_ref().and_then(|network| network.subnet_of(address.addr()));
            // A prefix length of the container's own would make another subnet of it.
            addresses.push(subnet.and_then(|subnet| subnet.host(address.addr()).ok()).unwrap_or(address));
        }
    }
    let mac = match seen.link.mac {
        Some(mac) if driver.has_own_mac() => has(mac.into())?.then_some(mac),
        mac => mac,
    };
    let host_link = host_link(name, &mut addresses, host)?;
    Ok(Some(Attached {
        network: name.clone(),
        driver,
        parent: parent_name,
        parent_index: parent.ifindex,
        segment,
        ifname,
        ifindex: Some(seen.link.ifindex),
        mac,
        mtu: None,
        bclim: None,
        tuning: LinkOptions::default(),
        host_link,
        detection: network.as_ref().and_then(|network| network.detection_on(&parent)),
        announcements: network.as_ref().map_or(0, Network::announced),
        // Set once, when the link was made.
        advertised: Advertised::default(),
        addresses,
        routes: seen.routes.clone(),
        table: seen.table.clone(),
    }))
}

/// Whether `network` could have given `claim` to `container`, as far as its definition says: an address of a subnet that
/// is set aside for nobody.
fn could_give(network: &Network, claim: LeaseKey, container: &ContainerId) -> bool {
    let reserved_for = network.reservations.holder(claim);
    let is_others = reserved_for.is_some_and(|identity| *identity != Identity::from(container));
    let is_free = |address: IpAddr| {
        let named =
            network.file.host_access.as_ref().is_some_and(|access| access.addresses.contains(&address));
        !named && network.subnet_of(address).is_some_and(|subnet| !subnet.is_reserved(address))
    };
    !is_others && claim.address().is_none_or(is_free)
}

/// The name of the host's link of the network `name`, if the host has a route by it to one of `addresses`: that is root's.
/// None is made on the word of a container: those that the host could have a route to, and has none, it has added itself,
/// and are taken out of `addresses`.
fn host_link(name: &NetworkName, addresses: &mut Vec<IpNet>, host: &mut Socket) -> Result<Option<IfName>> {
    let ifname = host_link::name(name);
    let Some(link) = host.link(&ifname)?.filter(|link| host_link::is_of(name, link)) else { return Ok(None) };
    let own = host.addresses_of(link.ifindex)?;
    let routes = host.routes_of(link.ifindex, None)?;
    let is_reached = |net: &IpNet| own.iter().any(|own| own.addr().is_ipv4() == net.addr().is_ipv4());
    let has_route = |net: &IpNet| routes.iter().any(|route| route.to == IpNet::from(net.addr()));
    if !addresses.iter().any(has_route) {
        return Ok(None);
    }
    addresses.retain(|net| has_route(net) || !is_reached(net));
    Ok(Some(ifname))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_could_have_given() {
        let text = br#"{"version": 1, "driver": "macvlan", "parent": "eth0", "host_access": "10.0.0.7",
            "routes": [{"to": "10.9.0.0/16", "via": "10.0.0.3"}],
            "reservations": {"db": {"addresses": ["10.0.0.5"], "mac": "02:00:00:00:00:05"}},
            "subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.128/25",
                         "aux_addresses": {"printer": "10.0.0.9"}}]}"#;
        let network = Network::from_json(&"lan".parse().unwrap(), text).unwrap();
        let gives =
            |claim: &str, id: &str| could_give(&network, claim.parse().unwrap(), &id.parse().unwrap());
        for claim in ["10.0.0.20", "10.0.0.200", "02:00:00:00:00:09"] {
            assert!(gives(claim, "web"), "{claim}");
        }
        for claim in [
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.3",
            "10.0.0.5",
            "10.0.0.7",
            "10.0.0.9",
            "10.0.0.255",
            "10.1.0.20",
            "2001:db8::9",
            "02:00:00:00:00:05",
        ] {
            assert!(!gives(claim, "web"), "{claim}");
        }
        assert!(gives("10.0.0.5", "db") && gives("02:00:00:00:00:05", "db"));
    }
}
