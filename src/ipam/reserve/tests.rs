//! The host's own link, over a table in memory.

use crate::error::{Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::Draft;
use crate::ipam::tests::{Memory, NOW, SMALL, wanted};
use crate::ledger::host_link::HostLink;
use crate::net::link::Link;

/// Allocates for the host's link of `network`, of which `known` is written, while others have the addresses of `set_aside`.
fn host_link(
    ledger: &Memory,
    network: &ResolvedAttachment,
    known: Option<&HostLink>,
    set_aside: &[&str],
) -> Result<HostLink> {
    ledger.segments.borrow_mut().clear();
    set_aside.iter().for_each(|address| ledger.set_aside(address, 0));
    let mut draft = Draft::new(ledger, &ledger.facts, NOW);
    let link = draft.host_link(&network.network, &network.parent, known)?;
    draft.leases.keep();
    Ok(link)
}

#[test]
fn the_hosts_own_link() {
    let mut ledger = Memory::default();
    ledger.facts.on_host.insert("10.0.0.2".parse().unwrap());
    let picks = wanted("lan", &format!(r#"{SMALL}, "host_access": true"#), 2);
    ledger.attach("web", 7, &wanted("lan:ip=10.0.0.3", SMALL, 2), true).unwrap();
    let addresses = |link: &HostLink| link.addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
    let link = host_link(&ledger, &picks, None, &[]).unwrap();
    assert_eq!(addresses(&link), ["10.0.0.4"]);
    // It stays as it is, with a lease that it has; where another host has its address, it gets the next.
    assert_eq!(host_link(&ledger, &picks, Some(&link), &[]).unwrap(), link);
    let moved = Link { ifindex: 2, mtu: 9000, ..picks.parent.clone() };
    let moved = ResolvedAttachment { parent: moved, ..picks.clone() };
    assert_eq!(
        host_link(&ledger, &moved, Some(&HostLink { mtu: Some(1), ..link.clone() }), &[]).unwrap(),
        link
    );
    assert_eq!(addresses(&host_link(&ledger, &picks, Some(&link), &["10.0.0.4"]).unwrap()), ["10.0.0.5"]);
    let before = ledger.leases();
    let error = host_link(&ledger, &picks, None, &["10.0.0.4", "10.0.0.5"]).unwrap_err();
    let text = "network lan has no free IPv4 address left for the host, and 2 are set aside, for others answered: \
                2 by 02:00:00:00:00:01";
    assert_eq!((error.kind(), error.to_string()), (Kind::Exhausted, text.to_owned()));
    // The address that the network names is had, or refused with its holder.
    let named = wanted("lan", &format!(r#"{SMALL}, "host_access": "10.0.0.3""#), 2);
    let error = host_link(&ledger, &named, None, &[]).unwrap_err();
    let text = "address 10.0.0.3 of network lan is held by web";
    assert_eq!((error.kind(), error.to_string()), (Kind::Taken, text.to_owned()));
    assert_eq!(ledger.leases(), before);
    ledger.free("10.0.0.3");
    assert_eq!(addresses(&host_link(&ledger, &named, Some(&link), &[]).unwrap()), ["10.0.0.3"]);
}
