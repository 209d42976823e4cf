//! What podman asks for, in `setup` and `teardown`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use crate::dhcp::domain_name::DomainName;
use crate::error::{Error, Result};
use crate::json;
use crate::net::mac::MacAddr;
use crate::net::name::{ChosenName, ContainerId, Identity, NetworkName};
use crate::oci::annotations::{self, Attachment};
use crate::oci::requested_address::RequestedAddress;

/// The option of `--network NAME:key=value` that names the identity.
const IDENTITY: &str = "identity";

/// What podman says of a container and one of its networks.
#[derive(Debug)]
pub(crate) struct Call {
    /// The key of the record: id and interface, because each network of a container has its own. No id of podman's has a `+`.
    pub key: ContainerId,
    said: Said,
}

#[derive(Debug, Deserialize)]
struct Said {
    container_id: String,
    /// The name that the user has chosen, or podman.
    container_name: String,
    network: Value,
    network_options: Options,
}

/// What the container asks for in this network.
#[derive(Debug, Deserialize)]
struct Options {
    interface_name: ChosenName,
    static_ips: Option<Vec<IpAddr>>,
    static_mac: Option<MacAddr>,
    aliases: Option<Vec<String>>,
    options: Option<BTreeMap<String, String>>,
}

/// An attachment, and the identity of its container.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub attachment: Attachment,
    pub identity: Identity,
}

impl Call {
    /// Reads what podman passes to `setup` and `teardown`.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub(crate) fn read(text: &[u8]) -> Result<Self> {
        let said: Said = json::object(text)?;
        let key = format!("{}+{}", said.container_id, said.network_options.interface_name).parse()?;
        Ok(Self { key, said })
    }

    /// podman's definition of the network.
    pub(crate) fn network(&self) -> &Value {
        &self.said.network
    }

    /// Returns what is asked of the network `name`.
    ///
    /// # Errors
    /// Names the option that is wrong.
    pub(crate) fn asked(&self, name: NetworkName) -> Result<Asked> {
        let Options { interface_name, static_ips, static_mac, options, .. } = &self.said.network_options;
        // `podman network reload` asks for what the container has, and once more for what the user has asked for.
        let mut seen = BTreeSet::new();
        let distinct = static_ips.iter().flatten().filter(|&address| seen.insert(address));
        let requested = |address: &IpAddr| RequestedAddress::try_from(address.to_string());
        let mut attachment = Attachment {
            ips: distinct.map(requested).collect::<Result<_>>()?,
            mac: *static_mac,
            ifname: Some(interface_name.clone()),
            ..Attachment::plain(name)
        };
        let mut identity: Option<Identity> = None;
        for (key, value) in options.iter().flatten() {
            let set = match key.as_str() {
                IDENTITY => value.parse().map(|value| identity = Some(value)),
                // podman has words of its own for them.
                "ip" | "ip6" | "mac" | "ifname" | "interface_name" | "interface" => unknown(),
                key => annotations::set(&mut attachment, key, value).or_else(|error| {
                    if error.to_string() == "is not known" { unknown() } else { Err(error) }
                }),
            };
            set.map_err(|error| error.within(format!("option {key} of network {}", attachment.network)))?;
        }
        // The name is the same when the container is created again, as by quadlets and compose files. One that is none of an
        // identity is too long: the id is as good then.
        let name = || self.said.container_name.parse().or_else(|_| self.said.container_id.parse());
        let identity = identity.map_or_else(name, Ok)?;
        Ok(Asked { attachment, identity })
    }

    /// The name by which the container calls itself, if the user has chosen one, else the container's own.
    pub(crate) fn host_name(&self) -> Option<DomainName> {
        // The last alias is the host name (podman 5.4); by default that is the beginning of the id.
        let alias = self.said.network_options.aliases.iter().flatten().next_back();
        let chosen = alias.filter(|alias| !self.said.container_id.starts_with(alias.as_str()));
        let name = chosen.unwrap_or(&self.said.container_name);
        Some(name).filter(|name| !name.contains('_')).and_then(|name| name.parse().ok())
    }
}

fn unknown() -> Result<()> {
    Err(Error::input("is not known").hint(
        "use ip, mac and interface_name of podman, or identity, gw-priority, default-route, vlan, route, table, source-mac",
    ))
}
