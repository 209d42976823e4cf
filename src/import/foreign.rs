//! A network of another program as it becomes one of ours, and how its JSON is read.

use std::fmt::Display;
use std::net::IpAddr;

use serde_json::Value;

use crate::config::driver_option;
use crate::config::network_file::{NetworkFile, SubnetFile};
use crate::error::{Error, Result};
use crate::escape::shell::Line;
use crate::net::driver::Kind as Driver;
use crate::net::name::NetworkName;
use crate::net::route::Route;

/// A program with networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Podman,
    Docker,
}

/// A network that another program has defined.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    /// Whose it is.
    pub(super) engine: Engine,
    /// Its name.
    pub name: NetworkName,
    /// The same network as ours.
    pub file: NetworkFile,
    /// The driver options among that, as they are written.
    pub(super) options: Vec<String>,
    /// What of it underlay has not.
    pub lost: Vec<String>,
}

impl Foreign {
    /// Sets a driver option.
    pub(super) fn option(&mut self, key: &str, value: &str) -> Result<()> {
        self.options.push(format!("{key}={value}"));
        driver_option::set(&mut self.file, key, value)
    }

    pub(super) fn lose(&mut self, what: impl Display) {
        self.lost.push(what.to_string());
    }

    /// The command that makes the same network.
    pub(crate) fn command(&self) -> Line {
        let line = Line::of("underlay network create -d").word(self.file.driver);
        let line = if self.file.dhcp.is_some() { line.text("--ipam-driver dhcp") } else { line };
        self.options(line)
    }

    /// The commands that make it a network of the same engine again, with driver `underlay`.
    pub(crate) fn recreate(&self) -> [Line; 2] {
        let (remove, create, ipam) = match self.engine {
            Engine::Docker => {
                ("docker network rm", "docker network create -d underlay", "--ipam-driver underlay")
            }
            Engine::Podman => (
                "podman network rm",
                "podman network create -d underlay",
                match () {
                    () if self.file.dhcp.is_some() => "--ipam-driver dhcp",
                    // Without a subnet, podman would not know that there are no addresses.
                    () if self.file.subnets.is_empty() => "--ipam-driver none",
                    () => "",
                },
            ),
        };
        let is_v6 = |subnet: &SubnetFile| subnet.subnet.addr().is_ipv6();
        let words = [
            ipam,
            if self.file.subnets.iter().any(is_v6) { "--ipv6" } else { "" },
            if self.file.driver == Driver::Ipvlan { "-o driver=ipvlan" } else { "" },
        ];
        let words = words.into_iter().filter(|words| !words.is_empty());
        [Line::of(remove).word(&self.name), self.options(words.fold(Line::of(create), Line::text))]
    }

    /// `line` with the options that all `network create` have, and the name.
    fn options(&self, mut line: Line) -> Line {
        for SubnetFile { subnet, gateway, ip_range, aux_addresses, .. } in &self.file.subnets {
            let aux = aux_addresses.iter().map(|(name, address)| format!("{name}={address}"));
            line = line.text("--subnet").word(subnet).option("--gateway", gateway);
            line = line.option("--ip-range", ip_range).option("--aux-address", aux);
        }
        let route = |route: &Route| {
            let way = route.via.map_or_else(|| route.kind.to_string(), |via| via.to_string());
            let metric = route.metric.map(|metric| format!(",{metric}")).unwrap_or_default();
            format!("{},{way}{metric}", route.to)
        };
        line = line.option("-o", &self.options).option("--route", self.file.routes.iter().map(route));
        if self.file.internal {
            line = line.text("--internal");
        }
        let labels = self.file.labels.iter().map(|(key, value)| format!("{key}={value}"));
        line.option("--label", labels).word(&self.name)
    }
}

/// The subnet of key `net`, with the router of key `gateway`.
pub(super) fn subnet(value: &Value, net: &str, gateway: &str) -> Result<SubnetFile> {
    let subnet = word(value, net).and_then(|net| net.parse().ok());
    let subnet = subnet.ok_or_else(|| Error::input(format!("{value} is no subnet")))?;
    // Some versions of Docker print it with the prefix length.
    let gateway = word(value, gateway).and_then(|gateway| gateway.split('/').next());
    let gateway = gateway.map(|text| address("gateway", text)).transpose()?;
    Ok(SubnetFile { subnet, gateway, ..SubnetFile::default() })
}

/// The address that `text` is, of a `what`.
pub(super) fn address(what: &str, text: &str) -> Result<IpAddr> {
    text.parse().map_err(|_| Error::input(format!("{what} {text:?} is no address")))
}

/// The text of `key`, if there is any.
pub(super) fn word<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

pub(super) fn is_true(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool) == Some(true)
}

/// The elements of the array `key`, if there is one.
pub(super) fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The members of the object `key`, if there is one, with their text.
pub(super) fn members<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let members = value.get(key).and_then(Value::as_object).into_iter().flatten();
    members.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}
