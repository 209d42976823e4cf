//! The networks that podman keeps for its plugin `underlay`: `podman network create -d underlay`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::foreign::{is_true, items, members, word};
use super::podman;
use crate::config::driver_option;
use crate::config::network::Network;
use crate::config::network_file::NetworkFile;
use crate::error::{Error, Result};
use crate::net::name::NetworkName;

/// The option that names a network of `underlay network create`.
const NETWORK: &str = "network";

/// What containers of such a network get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PluginNetwork {
    /// What podman's definition says.
    Own(Box<Network>),
    /// A network that `underlay network create` has made.
    Named(NetworkName),
}

/// Reads podman's definition `value` (netavark's plugin API 1.0.0).
///
/// # Errors
/// Names what underlay has not: podman passes on every option.
pub(crate) fn network(value: &Value) -> Result<PluginNetwork> {
    let name = word(value, "name").ok_or_else(|| Error::input("the network has no name"))?;
    let name: NetworkName = name.parse()?;
    definition(value, &name).map_err(|error| error.within(format!("network {name}")))
}

fn definition(value: &Value, name: &NetworkName) -> Result<PluginNetwork> {
    let options: BTreeMap<String, String> =
        members(value, "options").map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let ipam: BTreeMap<_, _> = members(value, "ipam_options").collect();
    if let Some((key, value)) = ipam.iter().find(|(key, _)| **key != "driver") {
        return Err(Error::input(format!("IPAM option {key}={value} is not known")).hint("leave it out"));
    }
    let mut file = NetworkFile::new(driver_option::driver(&options)?);
    podman::subnets(value, &mut file)?;
    if let Some(named) = options.get(NETWORK) {
        let is_all = options.len() == 1 && file.subnets.is_empty() && items(value, "routes").next().is_none();
        if !is_all || word(value, "network_interface").is_some() || is_true(value, "internal") {
            return Err(Error::input(format!("option network={named} is given, and more"))
                .hint("leave out all else: the network has its definition by `underlay network create`"));
        }
        return named
            .parse()
            .map(PluginNetwork::Named)
            .map_err(|error: Error| error.within("option network"));
    }
    podman::routes(value, &mut file)?;
    file.internal = is_true(value, "internal");
    file.labels = members(value, "labels").map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let parent = word(value, "network_interface").map(|parent| ("parent", parent));
    match (parent, options.get("parent")) {
        (Some((_, one)), Some(other)) if one != other => {
            let text = format!("--interface-name {one} and option parent={other} are given");
            return Err(Error::input(text).hint("leave one of the two out"));
        }
        _ => {}
    }
    let options = options.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in options.filter(|(key, _)| *key != "driver").chain(parent) {
        driver_option::set_of_engine(&mut file, key, value)?;
    }
    if is_by_dhcp(value) {
        file.dhcp.get_or_insert_default();
    }
    let has_ipv6 = file.subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6()) || file.ipv6.is_some();
    if is_true(value, "ipv6_enabled") && !has_ipv6 {
        return Err(Error::input("--ipv6 is given, and no IPv6 subnet")
            .hint("add --subnet with an IPv6 prefix, or -o ipv6=slaac"));
    }
    Network::new(name, file).map(|network| PluginNetwork::Own(Box::new(network)))
}

/// Whether addresses are by DHCP: if the IPAM driver says so, or if nothing says where they come from, as with podman's own macvlan
/// driver.
fn is_by_dhcp(value: &Value) -> bool {
    let option = |key: &str| value.get("options").and_then(|options| word(options, key));
    match value.get("ipam_options").and_then(|ipam| word(ipam, "driver")) {
        Some(driver) => driver == "dhcp",
        None => {
            let is_macvlan =
                option("driver").unwrap_or("macvlan") == "macvlan" && option("ipvlan_mode").is_none();
            let is_said = option(NETWORK).is_some() || option("ipv6").is_some();
            is_macvlan && !is_said && items(value, "subnets").next().is_none()
        }
    }
}

/// Returns `value` as podman is to keep it, so that it chooses no addresses for containers and starts no name server.
pub(crate) fn kept(mut value: Value) -> Value {
    let is_dhcp = is_by_dhcp(&value);
    if let Some(kept) = value.as_object_mut() {
        let driver = if is_dhcp { "dhcp" } else { "none" };
        kept.insert("ipam_options".to_owned(), serde_json::json!({ "driver": driver }));
        kept.insert("dns_enabled".to_owned(), false.into());
    }
    value
}
