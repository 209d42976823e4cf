//! podman's networks: `/etc/containers/networks/NAME.json`, written by netavark or containers/common.

use ipnet::IpNet;
use serde_json::Value;

use super::foreign::{Foreign, is_true, items, members, word};
use crate::error::{Error, Result};

pub(super) fn read(value: &Value, uplink: Option<&str>, foreign: &mut Foreign) -> Result<()> {
    let ipam = value.get("ipam_options").unwrap_or(&Value::Null);
    if word(ipam, "driver") == Some("dhcp") {
        return Err(Error::input("its addresses come by DHCP, which underlay does not ask")
            .hint("create it with a subnet, or a range of one, that the DHCP server leaves free"));
    }
    for (key, value) in members(value, "ipam_options").filter(|(key, _)| *key != "driver") {
        foreign.lose(format!("IPAM option {key}={value}"));
    }
    for subnet in items(value, "subnets") {
        let net: IpNet = word(subnet, "subnet")
            .and_then(|net| net.parse().ok())
            .ok_or_else(|| Error::input(format!("{subnet} is no subnet")))?;
        foreign.say("--subnet", net);
        if let Some(gateway) = word(subnet, "gateway") {
            foreign.say("--gateway", gateway);
        }
        if let Some(range) = subnet.get("lease_range").filter(|range| range.is_object()) {
            // podman needs not both.
            let first = word(range, "start_ip").map_or_else(|| net.network().to_string(), str::to_owned);
            let last = word(range, "end_ip").map_or_else(|| net.broadcast().to_string(), str::to_owned);
            foreign.say("--ip-range", format!("{first}-{last}"));
        }
    }
    let parent = word(value, "network_interface").or(uplink).ok_or_else(|| {
        Error::input("it names no parent, and the host has no default route")
            .hint("podman takes the link of the default route: see `ip route`")
    })?;
    foreign.say("-o", format!("parent={parent}"));
    for (key, value) in members(value, "options") {
        match key {
            "mode" | "mtu" | "metric" | "bclim" => foreign.say("-o", format!("{key}={value}")),
            "no_default_route" => {
                // As Go reads it (strconv.ParseBool).
                let is_true = matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
                foreign.say("-o", format!("no_default_route={is_true}"));
            }
            _ => foreign.lose(format!("option {key}={value}")),
        }
    }
    for route in items(value, "routes") {
        let to = word(route, "destination").unwrap_or_default();
        let via = match word(route, "route_type") {
            None | Some("unicast") => word(route, "gateway").unwrap_or_default(),
            Some(kind) => kind,
        };
        let metric = route.get("metric").and_then(Value::as_u64).map(|metric| format!(",{metric}"));
        foreign.say("--route", format!("{to},{via}{}", metric.unwrap_or_default()));
    }
    if is_true(value, "internal") {
        foreign.words.push("--internal".to_owned());
    }
    foreign.labels(value.get("labels").unwrap_or(&Value::Null));
    if is_true(value, "dns_enabled") {
        foreign.lose("the name server of its containers");
    }
    let servers: Vec<_> = items(value, "network_dns_servers").filter_map(Value::as_str).collect();
    if !servers.is_empty() {
        foreign.lose(format!("name servers {}", servers.join(", ")));
    }
    Ok(())
}
