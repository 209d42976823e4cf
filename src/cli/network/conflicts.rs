//! Networks that share a parent.

use super::reserve;
use crate::cli::output;
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ledger::Store;
use crate::net::driver::Kind as DriverKind;

/// Refuses `network` if the kernel would refuse, or silently change, its links beside those of another network on the same
/// parent, or if one of the two could give away what the other reserves.
pub(super) fn refuse(store: &Store, network: &Network) -> Result<()> {
    let Network { name, parent, driver, .. } = network;
    for other in store.network_names()? {
        // A network that cannot be read is no reason to refuse a new one.
        let Ok(other) = store.network(&other) else { continue };
        // In a network of many VLANs the links of containers are on the VLANs, not on the parent.
        if other.parent != *parent || [network, &other].into_iter().any(Network::is_of_many_vlans) {
            continue;
        }
        for (one, two) in [(network, &other), (&other, network)] {
            reserve::agree(one, two)?;
            if one.driver.is_alone() {
                let (alone, beside) = (&one.name, &two.name);
                let text =
                    format!("passthru network {alone} wants parent {parent} to itself, not beside {beside}");
                return Err(Error::new(Kind::Taken, text).hint("use another parent, or mode bridge"));
            }
        }
        let (other, theirs) = (&other.name, other.driver);
        if driver.kind() != theirs.kind() {
            output::warning(&format!(
                "network {other} on parent {parent} has driver {}: the kernel lets only one of the two have running \
                 containers at a time",
                theirs.kind()
            ));
        } else if driver.kind() == DriverKind::Ipvlan && *driver != theirs {
            let text =
                format!("network {other} on parent {parent} is {theirs}, so {name} cannot be {driver}");
            return Err(Error::new(Kind::Taken, text).hint(
                "the kernel keeps one ipvlan mode and flag for all links of a parent: use the same, or another parent",
            ));
        }
    }
    Ok(())
}
