//! Docker's networks: what `docker network inspect` prints (Engine API, NetworkInspect).

use ipnet::IpNet;
use serde_json::Value;

use super::foreign::{Foreign, is_true, items, members, word};
use crate::error::{Error, Result};

pub(super) fn read(value: &Value, foreign: &mut Foreign) -> Result<()> {
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
        let net: IpNet = word(subnet, "Subnet")
            .and_then(|net| net.parse().ok())
            .ok_or_else(|| Error::input(format!("{subnet} is no subnet")))?;
        // Docker ignores the subnets of a family that is off.
        let family = if net.addr().is_ipv6() { "EnableIPv6" } else { "EnableIPv4" };
        if value.get(family).and_then(Value::as_bool) == Some(false) {
            foreign.lose(format!("subnet {net}, which Docker does not use, because {family} is false"));
            continue;
        }
        foreign.say("--subnet", net);
        if let Some(gateway) = word(subnet, "Gateway") {
            // Some versions print it with the prefix length.
            foreign.say("--gateway", gateway.split('/').next().unwrap_or_default());
        }
        if let Some(range) = word(subnet, "IPRange") {
            foreign.say("--ip-range", range);
        }
        for key in ["AuxiliaryAddresses", "AuxAddress"] {
            for (name, address) in members(subnet, key) {
                foreign.say("--aux-address", format!("{name}={address}"));
            }
        }
    }
    for (key, value) in members(value, "Options") {
        match key {
            "parent" | "macvlan_mode" | "ipvlan_mode" | "ipvlan_flag" => {
                foreign.say("-o", format!("{key}={value}"))
            }
            "com.docker.network.driver.mtu" => foreign.say("-o", format!("mtu={value}")),
            "com.docker.network.advertise_addr_nmsgs" => foreign.say("-o", format!("announcements={value}")),
            // Said of the network itself, too.
            "com.docker.network.enable_ipv4" | "com.docker.network.enable_ipv6" => {}
            _ => foreign.lose(format!("option {key}={value}")),
        }
    }
    if is_true(value, "Internal") {
        foreign.words.push("--internal".to_owned());
    }
    foreign.labels(value.get("Labels").unwrap_or(&Value::Null));
    Ok(())
}
