//! Docker's networks: what `docker network inspect` prints (Engine API, NetworkInspect).

use serde_json::Value;

use super::foreign::{self, Foreign, address, is_true, items, members, word};
use crate::error::{Error, Result};

pub(super) fn read(value: &Value, mut foreign: Foreign) -> Result<Foreign> {
    if is_true(value, "ConfigOnly") {
        return Err(Error::input("it only lends its settings to other networks (--config-only)")
            .hint("import those that are made from it"));
    }
    if let Some(scope) = word(value, "Scope").filter(|scope| *scope != "local") {
        foreign.lose(format!("scope {scope}: underlay's networks are of one host"));
    }
    let ipam = value.get("IPAM").unwrap_or(&Value::Null);
    if let Some(driver) = word(ipam, "Driver").filter(|driver| !matches!(*driver, "default" | "null")) {
        return Err(Error::input(format!("its addresses come from the IPAM driver {driver}"))
            .hint("create it with a subnet, or a range of one, that is left free there"));
    }
    for (key, value) in members(ipam, "Options") {
        foreign.lose(format!("IPAM option {key}={value}"));
    }
    for subnet in items(ipam, "Config") {
        let mut made = foreign::subnet(subnet, "Subnet", "Gateway")?;
        let net = made.subnet;
        // Docker ignores the subnets of a family that is off.
        let family = if net.addr().is_ipv6() { "EnableIPv6" } else { "EnableIPv4" };
        if value.get(family).and_then(Value::as_bool) == Some(false) {
            foreign.lose(format!("subnet {net}, which Docker does not use, because {family} is false"));
            continue;
        }
        made.ip_range = word(subnet, "IPRange").map(str::to_owned);
        for (name, text) in members(subnet, "AuxiliaryAddresses").chain(members(subnet, "AuxAddress")) {
            made.aux_addresses.insert(name.to_owned(), address("aux address", text)?);
        }
        foreign.file.subnets.push(made);
    }
    for (key, value) in members(value, "Options") {
        match key {
            "parent" | "macvlan_mode" | "ipvlan_mode" | "ipvlan_flag" => foreign.option(key, value)?,
            "com.docker.network.driver.mtu" => foreign.option("mtu", value)?,
            "com.docker.network.advertise_addr_nmsgs" => foreign.option("announcements", value)?,
            // Said of the network itself, too.
            "com.docker.network.enable_ipv4" | "com.docker.network.enable_ipv6" => {}
            _ => foreign.lose(format!("option {key}={value}")),
        }
    }
    Ok(foreign)
}
