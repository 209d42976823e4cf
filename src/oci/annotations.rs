//! The annotation `io.underlay.networks`: the networks that a container asks for.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;

use crate::config::network::Network;
use crate::error::{Error, Result};
use crate::json;
use crate::net::mac::MacAddr;
use crate::net::name::{ChosenName, Identity, NetworkName};
use crate::net::route::{Route, TableId};
use crate::net::vlan::VlanId;
use crate::oci::requested_address::{self, RequestedAddress};

/// The annotation that lists the attachments of a container.
pub(crate) const NETWORKS: &str = "io.underlay.networks";
/// The annotation by which a container keeps its addresses when it is created again, under whatever id.
pub(crate) const IDENTITY: &str = "io.underlay.identity";
/// With a network's name behind it, the annotation that defines this network.
pub(crate) const NETWORK_PREFIX: &str = "io.underlay.network.";
/// All our annotations begin with this.
pub(crate) const PREFIX: &str = "io.underlay.";
/// The options of an attachment in the short form.
pub(crate) const OPTIONS: &str =
    "ip ip6 mac ifname interface interface_name gw-priority vlan route table default-route source-mac";

/// The annotations of a container, as config.json and the OCI state hold them.
pub(crate) type Annotations = BTreeMap<String, String>;

/// Everything that a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// In the order listed; never empty.
    pub attachments: Vec<Attachment>,
    /// By default the container's id.
    pub identity: Option<Identity>,
    /// Networks that the annotations define.
    pub inline: BTreeMap<NetworkName, Network>,
}

/// A network that a container asks to be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attachment {
    #[serde(rename = "name", alias = "network")]
    pub network: NetworkName,
    /// The addresses; if there are none, one of each family is allocated.
    #[serde(default, alias = "ip", deserialize_with = "requested_address::one_or_many")]
    pub ips: Vec<RequestedAddress>,
    pub mac: Option<MacAddr>,
    /// The name of the link.
    #[serde(alias = "interface_name", alias = "interface")]
    pub ifname: Option<ChosenName>,
    /// The attachment with the highest priority gives the default route.
    #[serde(default, rename = "gw-priority")]
    pub gw_priority: i32,
    pub vlan: Option<VlanId>,
    /// Routes besides those of the network.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The table of its own routes, if not the network's.
    pub table: Option<TableId>,
    /// Whether it can give the default route.
    #[serde(default = "yes", rename = "default-route")]
    pub default_route: bool,
    /// In mode source: more hosts whose frames come in.
    #[serde(default, rename = "source-macs")]
    pub source_macs: Vec<MacAddr>,
}

fn yes() -> bool {
    true
}

impl Attachment {
    /// An attachment to `network` without options.
    pub(crate) fn plain(network: NetworkName) -> Self {
        Self {
            network,
            ips: Vec::new(),
            mac: None,
            ifname: None,
            gw_priority: 0,
            vlan: None,
            routes: Vec::new(),
            table: None,
            default_route: true,
            source_macs: Vec::new(),
        }
    }

    /// Whether a link of `network` can have what is asked for.
    ///
    /// # Errors
    /// Says what it cannot have.
    pub(crate) fn check(&self, network: &Network) -> Result<()> {
        let (name, driver) = (&network.name, network.driver);
        let options = network.file.link_options().with_sources(&self.source_macs);
        let checked = network.check_routes(&self.routes).and_then(|()| options.check(driver));
        checked.map_err(|error| error.within(format!("network {name}")))?;
        match self.mac {
            Some(mac) if !driver.has_own_mac() => Err(Error::input(format!(
                "network {name} has driver {driver}, whose links all have the parent's MAC address, so none can have {mac}"
            ))
            .hint("leave mac out, or use a macvlan network whose mode is not passthru")),
            _ => Ok(()),
        }
    }
}

/// Reads the attachments that the annotation lists, in either form.
///
/// # Errors
/// Names the option that is wrong.
pub(crate) fn attachments(text: &str) -> Result<Vec<Attachment>> {
    let attachments: Vec<Attachment> =
        if is_json(text) { json::read(text.trim().as_bytes())? } else { short_form(text)? };
    if attachments.is_empty() { Err(names_none()) } else { Ok(attachments) }
}

fn names_none() -> Error {
    Error::input("names no network").hint("write NAME or NAME:ip=ADDRESS; separate several by one ;")
}

/// Whether the annotation is JSON, and not the short form.
pub(crate) fn is_json(networks: &str) -> bool {
    networks.trim_start().starts_with(['[', '{', '"'])
}

/// Reads attachments in the short form: `ITEM[;ITEM…]`.
///
/// # Errors
/// Names the option that is wrong.
pub(crate) fn short_form(text: &str) -> Result<Vec<Attachment>> {
    text.split(';').map(|item| short(item.trim())).collect()
}

/// Reads one item of the short form: `NAME[:key=value[,key=value]…]`. White space separates options too.
fn short(item: &str) -> Result<Attachment> {
    if item.is_empty() {
        return Err(names_none());
    }
    let (name, options) = item.split_once(':').unwrap_or((item, ""));
    let mut attachment = Attachment::plain(name.parse()?);
    if options.is_empty() && item.contains(':') {
        return Err(Error::input(format!("{item:?} has no option after the colon")));
    }
    for option in options.split([',', ' ', '\t', '\n']).filter(|option| !option.is_empty()) {
        let Some((key, value)) = option.split_once('=') else {
            let text = format!("option {option:?} of network {name} has no value");
            return Err(Error::input(text).hint("write key=value"));
        };
        let of = |error: Error| error.within(format!("option {key} of network {name}"));
        set(&mut attachment, key, value).map_err(of)?;
    }
    Ok(attachment)
}

/// Sets one option of the short form.
///
/// # Errors
/// When there is no such option, or it cannot have this value.
pub(crate) fn set(attachment: &mut Attachment, key: &str, value: &str) -> Result<()> {
    fn once<T: FromStr<Err = Error>>(place: &mut Option<T>, value: &str) -> Result<()> {
        match place.replace(value.parse()?) {
            None => Ok(()),
            Some(_) => Err(Error::input("is given twice")),
        }
    }
    match key {
        "ip" | "ip6" => {
            let address = RequestedAddress::try_from(value.to_owned())?;
            if key == "ip6" && address.address.is_ipv4() {
                return Err(Error::input(format!("address {value} is not IPv6")));
            }
            attachment.ips.push(address);
        }
        "mac" => once(&mut attachment.mac, value)?,
        "ifname" | "interface_name" | "interface" => once(&mut attachment.ifname, value)?,
        "gw-priority" => {
            let wrong = |_| Error::input(format!("{value:?} is not a whole number"));
            attachment.gw_priority = value.parse().map_err(wrong)?;
        }
        "vlan" => once(&mut attachment.vlan, value)?,
        "route" => attachment.routes.push(Route::short(value)?),
        "source-mac" => attachment.source_macs.push(value.parse()?),
        "table" => once(&mut attachment.table, value)?,
        "default-route" => {
            attachment.default_route = match value {
                "yes" | "true" => true,
                "no" | "false" => false,
                _ => return Err(Error::input(format!("{value:?} is neither yes nor no"))),
            };
        }
        _ => {
            return Err(Error::input("is not known")
                .hint("use ip, mac, ifname, gw-priority, vlan, route, table, default-route, source-mac"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
