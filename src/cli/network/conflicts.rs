//! Networks that share a parent.

use super::reserve;
use crate::cli::output;
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ledger::Store;
use crate::net::driver::{Driver as Mode, MacvlanMode};

/// What the kernel would refuse, or silently change, when containers of two networks meet on one parent.
///
/// # Errors
/// Names the other network.
pub(super) fn refuse(store: &Store, network: &Network) -> Result<()> {
    let Network { name, parent, driver, .. } = network;
    for other in store.network_names()? {
        // One that cannot be read is no reason against a new one.
        let Ok(other) = store.network(&other) else { continue };
        // Of a network of many VLANs each container is on another link than the one that carries them.
        if other.parent != *parent || [network, &other].into_iter().any(Network::is_of_many_vlans) {
            continue;
        }
        reserve::agree(network, &other)?;
        reserve::agree(&other, network)?;
        if is_passthru(*driver) || is_passthru(other.driver) {
            let (alone, beside) =
                if is_passthru(*driver) { (name, &other.name) } else { (&other.name, name) };
            let sentence =
                format!("passthru network {alone} wants parent {parent} to itself, not beside {beside}");
            return Err(Error::new(Kind::Taken, sentence).hint("use another parent, or mode bridge"));
        }
        match (driver, other.driver) {
            (Mode::Ipvlan { .. }, Mode::Ipvlan { .. }) if *driver != other.driver => {
                let sentence = format!(
                    "network {} on parent {parent} is {}, so {name} cannot be {driver}",
                    other.name, other.driver
                );
                return Err(Error::new(Kind::Taken, sentence).hint(
                    "the kernel keeps one ipvlan mode and flag for all links of a parent: use the same, or another \
                     parent",
                ));
            }
            _ if driver.kind() != other.driver.kind() => output::warning(&format!(
                "network {} on parent {parent} has driver {}: the kernel lets only one of the two have running \
                 containers at a time",
                other.name,
                other.driver.kind()
            )),
            _ => {}
        }
    }
    Ok(())
}

fn is_passthru(driver: Mode) -> bool {
    driver == Mode::Macvlan { mode: MacvlanMode::Passthru }
}
