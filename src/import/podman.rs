//! podman's networks: `/etc/containers/networks/NAME.json`, written by netavark or containers/common.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::foreign::{self, Foreign, is_true, items, members, word};
use crate::config::dhcp::Dhcp;
use crate::config::network_file::NetworkFile;
use crate::error::{Error, Result};
use crate::net::route::{Route, RouteType};

/// One of `routes`.
#[derive(Deserialize)]
struct Listed {
    destination: IpNet,
    gateway: Option<IpAddr>,
    metric: Option<u32>,
    #[serde(default)]
    route_type: RouteType,
}

pub(super) fn read(value: &Value, uplink: Option<&str>, mut foreign: Foreign) -> Result<Foreign> {
    let ipam = value.get("ipam_options").unwrap_or(&Value::Null);
    foreign.file.dhcp = (word(ipam, "driver") == Some("dhcp")).then(Dhcp::default);
    for (key, value) in members(value, "ipam_options").filter(|(key, _)| *key != "driver") {
        foreign.lose(format!("IPAM option {key}={value}"));
    }
    subnets(value, &mut foreign.file)?;
    let parent = word(value, "network_interface").or(uplink).ok_or_else(|| {
        Error::input("it names no parent, and the host has no default route")
            .hint("podman takes the link of the default route: see `ip route`")
    })?;
    foreign.option("parent", parent)?;
    for (key, value) in members(value, "options") {
        match key {
            "mode" | "mtu" | "metric" | "bclim" => foreign.option(key, value)?,
            "no_default_route" => {
                // As Go reads it (strconv.ParseBool).
                let is_true = matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True");
                foreign.option(key, &is_true.to_string())?;
            }
            _ => foreign.lose(format!("option {key}={value}")),
        }
    }
    routes(value, &mut foreign.file)?;
    if is_true(value, "dns_enabled") {
        foreign.lose("the name server of its containers");
    }
    let servers: Vec<_> = items(value, "network_dns_servers").filter_map(Value::as_str).collect();
    if !servers.is_empty() {
        foreign.lose(format!("name servers {}", servers.join(", ")));
    }
    Ok(foreign)
}

/// Reads the subnets of `value` into `file`.
pub(super) fn subnets(value: &Value, file: &mut NetworkFile) -> Result<()> {
    for subnet in items(value, "subnets") {
        let mut made = foreign::subnet(subnet, "subnet", "gateway")?;
        if let Some(range) = subnet.get("lease_range").filter(|range| range.is_object()) {
            // podman needs not both.
            let net = made.subnet;
            let first = word(range, "start_ip").map_or_else(|| net.network().to_string(), str::to_owned);
            let last = word(range, "end_ip").map_or_else(|| net.broadcast().to_string(), str::to_owned);
            made.ip_range = Some(format!("{first}-{last}"));
        }
        file.subnets.push(made);
    }
    Ok(())
}

/// Reads the routes of `value` into `file`.
pub(super) fn routes(value: &Value, file: &mut NetworkFile) -> Result<()> {
    for route in items(value, "routes") {
        let Listed { destination, gateway, metric, route_type: kind } =
            Listed::deserialize(route).map_err(|error| Error::input(format!("{route}: {error}")))?;
        file.routes.push(Route { metric, kind, ..Route::new(destination, gateway) });
    }
    Ok(())
}
