//! What a container asks for: its `io.underlay.*` annotations.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::address::{self, RequestedAddress};
use crate::asked::is_json;
use crate::error::{Error, Result};
use crate::json;
use crate::mac::MacAddr;
use crate::name::{ChosenName, Identity, NetworkName};
use crate::network::Network;
use crate::route::{Route, TableId};
use crate::vlan::VlanId;

/// The annotation that lists the attachments of a container.
pub const NETWORKS: &str = "io.underlay.networks";
/// The annotation that says what a container is when it comes again, under whatever id.
pub const IDENTITY: &str = "io.underlay.identity";
/// Before a network's name: the annotation that defines it inline.
pub const NETWORK_PREFIX: &str = "io.underlay.network.";
/// All annotations that are ours begin with this.
pub(crate) const PREFIX: &str = "io.underlay.";
/// What may be asked of an attachment in the short form.
pub(crate) const OPTIONS: [&str; 12] = [
    "ip",
    "ip6",
    "mac",
    "ifname",
    "interface",
    "interface_name",
    "gw-priority",
    "vlan",
    "route",
    "table",
    "default-route",
    "source-mac",
];

/// The annotations of a container, as config.json and the OCI state hold them.
pub type Annotations = BTreeMap<String, String>;

/// Everything a container asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// In the order listed; never empty.
    pub attachments: Vec<Attachment>,
    /// What the container is when it comes again; without it, its id.
    pub identity: Option<Identity>,
    /// Networks the container defines itself.
    pub inline: BTreeMap<NetworkName, Network>,
}

/// One network a container asks to be attached to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    /// The network.
    #[serde(rename = "name", alias = "network")]
    pub network: NetworkName,
    /// Exactly the addresses to have; none: one of each family, picked.
    #[serde(default, alias = "ip", deserialize_with = "address::one_or_many")]
    pub ips: Vec<RequestedAddress>,
    /// The MAC address to have.
    #[serde(default)]
    pub mac: Option<MacAddr>,
    /// What the link is to be called.
    #[serde(default, alias = "interface_name", alias = "interface")]
    pub ifname: Option<ChosenName>,
    /// The attachment with the highest one gives the default route.
    #[serde(default, rename = "gw-priority")]
    pub gw_priority: i32,
    /// The VLAN to be in.
    #[serde(default)]
    pub vlan: Option<VlanId>,
    /// Routes besides those of the network.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The table of its own routes, if not the network's.
    #[serde(default)]
    pub table: Option<TableId>,
    /// Whether it can give the default route.
    #[serde(default = "yes", rename = "default-route")]
    pub default_route: bool,
    /// In mode source: whose frames come in besides.
    #[serde(default, rename = "source-macs")]
    pub source_macs: Vec<MacAddr>,
}

fn yes() -> bool {
    true
}

impl Attachment {
    /// One that asks for the network and nothing else.
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

    /// Whether a link of `network` can be what is asked for.
    ///
    /// # Errors
    /// Says what it cannot have.
    pub fn check(&self, network: &Network) -> Result<()> {
        let checked = network.check_routes(&self.routes);
        let tuning = network.tuning.with_sources(&self.source_macs);
        let checked = checked.and_then(|()| tuning.check(network.driver));
        checked.map_err(|error| error.within(format!("network {}", network.name)))?;
        match self.mac {
            Some(mac) if !network.driver.has_own_mac() => Err(Error::input(format!(
                "network {} has driver {}, whose links all have the parent's MAC address, so none can have {mac}",
                network.name, network.driver
            ))
            .hint("leave mac out, or use a macvlan network whose mode is not passthru")),
            _ => Ok(()),
        }
    }
}

/// The attachments that the annotation lists.
pub(crate) fn attachments(text: &str) -> Result<Vec<Attachment>> {
    let attachments: Vec<Attachment> =
        if is_json(text) { json::read(text.trim().as_bytes())? } else { short_form(text)? };
    if attachments.is_empty() {
        return Err(
            Error::input("names no network").hint("write NAME or NAME:ip=ADDRESS, or remove the annotation")
        );
    }
    Ok(attachments)
}

/// Reads attachments in the short form: `ITEM[;ITEM…]`.
///
/// # Errors
/// Names the option that is wrong.
pub fn short_form(text: &str) -> Result<Vec<Attachment>> {
    text.split(';').map(|item| short(item.trim())).collect()
}

/// Reads one item of the short form: `NAME[:key=value[,key=value]…]`, with white space as good as a comma.
fn short(item: &str) -> Result<Attachment> {
    if item.is_empty() {
        return Err(
            Error::input("names no network").hint("write NAME or NAME:ip=ADDRESS; separate several by one ;")
        );
    }
    let (name, options) = item.split_once(':').unwrap_or((item, ""));
    let mut attachment = Attachment::plain(name.parse()?);
    if options.is_empty() && item.contains(':') {
        return Err(Error::input(format!("{item:?} has no option after the colon")));
    }
    for option in options.split([',', ' ', '\t', '\n']).filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').ok_or_else(|| {
            Error::input(format!("option {option:?} of network {name} has no value")).hint("write key=value")
        })?;
        set(&mut attachment, key, value)
            .map_err(|error| error.within(format!("option {key} of network {name}")))?;
    }
    Ok(attachment)
}

fn set(attachment: &mut Attachment, key: &str, value: &str) -> Result<()> {
    fn once<T>(place: &mut Option<T>, value: T) -> Result<()> {
        match place.replace(value) {
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
            Ok(())
        }
        "mac" => once(&mut attachment.mac, value.parse()?),
        "ifname" | "interface_name" | "interface" => once(&mut attachment.ifname, value.parse()?),
        "gw-priority" => {
            attachment.gw_priority =
                value.parse().map_err(|_| Error::input(format!("{value:?} is not a whole number")))?;
            Ok(())
        }
        "vlan" => once(&mut attachment.vlan, value.parse()?),
        "route" => {
            attachment.routes.push(Route::short(value)?);
            Ok(())
        }
        "source-mac" => {
            attachment.source_macs.push(value.parse()?);
            Ok(())
        }
        "table" => once(&mut attachment.table, value.parse()?),
        "default-route" => {
            attachment.default_route = match value {
                "yes" | "true" => true,
                "no" | "false" => false,
                _ => return Err(Error::input(format!("{value:?} is neither yes nor no"))),
            };
            Ok(())
        }
        _ => Err(Error::input("is not known")
            .hint("use ip, mac, ifname, gw-priority, vlan, route, table, default-route, source-mac")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asked::Asked;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<Attachment>> {
        let annotations = Annotations::from([(NETWORKS.to_owned(), text.to_owned())]);
        Asked::of(&annotations).unwrap().read().map(|request| request.attachments)
    }

    #[test]
    fn both_forms_mean_the_same() {
        let short = "lan:ip=10.0.0.9,ip=2001:db8::9,mac=02:00:00:00:00:09,ifname=up0,gw-priority=-5 ; wan";
        let json = r#"[{"name": "lan", "ips": ["10.0.0.9", "2001:db8::9"], "mac": "02:00:00:00:00:09",
                        "interface": "up0", "gw-priority": -5}, {"network": "wan"}]"#;
        let got = read(short).unwrap();
        assert_eq!(got, read(json).unwrap());
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].ips[1].address.to_string(), "2001:db8::9");
        assert_eq!((got[0].gw_priority, got[1].gw_priority), (-5, 0));
        assert_eq!(
            read("lan:interface_name=a,ip6=::5").unwrap(),
            read(r#"[{"name":"lan","interface_name":"a","ip":"::5"}]"#).unwrap()
        );
        assert_eq!(
            read("lan: ip=10.0.0.9 ip=2001:db8::9,\tgw-priority=1").unwrap(),
            read("lan:ip=10.0.0.9,ip=2001:db8::9,gw-priority=1").unwrap()
        );
        assert_eq!(read("lan:ip=10.0.0.9/24").unwrap()[0].ips[0].prefix_len, Some(24));
    }

    #[test]
    fn nothing_asked() {
        assert!(Asked::of(&Annotations::new()).is_none());
        let foreign = Annotations::from([("io.underlay.other".to_owned(), "x".to_owned())]);
        assert!(Asked::of(&foreign).is_none(), "without the list of networks nothing is ours");
    }

    #[test]
    fn mistakes_are_named() {
        let at = "annotation io.underlay.networks: ";
        for (text, message) in [
            ("", "names no network"),
            (" ", "names no network"),
            ("[]", "names no network"),
            ("lan;", "names no network"),
            (";lan", "names no network"),
            ("l an", "network name \"l an\" is not usable"),
            ("lan:", "\"lan:\" has no option after the colon"),
            ("lan:ip", "option \"ip\" of network lan has no value"),
            ("lan:ip=", "option ip of network lan: address \"\" is not usable"),
            ("lan:ip=10.0.0.256", "option ip of network lan: address \"10.0.0.256\" is not usable"),
            ("lan:ip=fe80::1%eth0", "option ip of network lan: address \"fe80::1%eth0\" is not usable"),
            ("lan:ip=10.0.0.9/33", "option ip of network lan: address \"10.0.0.9/33\" is not usable"),
            ("lan:ip=0.0.0.0", "option ip of network lan: address \"0.0.0.0\" is not usable"),
            ("lan:ip=224.0.0.1", "option ip of network lan: address \"224.0.0.1\" is not usable"),
            ("lan:ip6=10.0.0.9", "option ip6 of network lan: address 10.0.0.9 is not IPv6"),
            ("lan:mac=x", "option mac of network lan: MAC address \"x\" is not usable"),
            ("lan:ifname=a b", "option \"b\" of network lan has no value"),
            ("lan:ifname=a;b", "names no network"),
            ("lan:ifname=$(x)", "option ifname of network lan: interface name \"$(x)\" is not usable"),
            ("lan:ifname=-x", "option ifname of network lan: interface name \"-x\" is not usable"),
            ("lan:ifname=a/b", "option ifname of network lan: interface name \"a/b\" is not usable"),
            ("lan:ifname=a,interface=b", "option interface of network lan: is given twice"),
            ("lan:gw-priority=high", "option gw-priority of network lan: \"high\" is not a whole number"),
            ("lan:ipp=10.0.0.9", "option ipp of network lan: is not known"),
            ("{}", "invalid type: map, expected a sequence at line 1 column 0"),
            (
                r#"[{"name": "lan", "ipps": 1}]"#,
                "[0].ipps: unknown field `ipps`, expected one of `name`, `network`, `ip`, `ips`, `mac`, `ifname`, \
                 `interface`, `interface_name`, `gw-priority`, `vlan`, `routes`, `table`, `default-route`, `source-macs` at line 1 column 23",
            ),
            (
                r#"[{"name": "lan", "ips": 5}]"#,
                "[0].ips: expected an address or a list of addresses at line 1 column 26",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), format!("{at}{message}"), "{text}");
        }
    }

    #[test]
    fn cut_at_a_comma() {
        let annotations = |networks: bool| {
            let cut = ("ip".to_owned(), "2001:db8::9;wan".to_owned());
            let asked = (NETWORKS.to_owned(), "lan:ip=10.0.0.9".to_owned());
            Annotations::from_iter([cut].into_iter().chain(networks.then_some(asked)))
        };
        let error = Asked::of(&annotations(true)).unwrap().read().unwrap_err().to_string();
        assert_eq!(error, "annotation ip looks cut off from io.underlay.networks at a comma");
        assert!(Asked::of(&annotations(false)).is_none(), "somebody else's annotation");
    }

    #[test]
    fn inline_networks() {
        let with = |key: &str, value: &str| {
            let annotations = Annotations::from([
                (NETWORKS.to_owned(), "lan".to_owned()),
                (key.to_owned(), value.to_owned()),
                ("io.unrelated".to_owned(), "x".to_owned()),
            ]);
            Asked::of(&annotations).unwrap().read()
        };
        let text = r#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#;
        let request = with("io.underlay.network.lan", text).unwrap();
        assert_eq!(request.inline.keys().map(NetworkName::as_str).collect::<Vec<_>>(), ["lan"]);
        for (key, value, message) in [
            (
                "io.underlay.network.lan",
                "{}",
                "annotation io.underlay.network.lan: missing field `version` at line 1 column 2",
            ),
            (
                "io.underlay.network.",
                text,
                "annotation io.underlay.network.: network name \"\" is not usable",
            ),
            ("io.underlay.netwrok", text, "annotation io.underlay.netwrok is not known"),
        ] {
            assert_eq!(with(key, value).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn counted_unread() {
        let count = |networks: &str, definitions: usize| {
            let definitions = (0..definitions).map(|n| (format!("{NETWORK_PREFIX}n{n}"), "?".to_owned()));
            let asked = (NETWORKS.to_owned(), networks.to_owned());
            Asked::of(&definitions.chain([asked]).collect()).unwrap().count()
        };
        for (networks, expected) in [
            ("lan", 1),
            ("lan:ip=1;wan;", 3),
            (";;", 3),
            ("", 1),
            (" [{}, 5, \"x\"]", 3),
            ("[]", 0),
            ("[1, 2", 0),
            ("{}", 0),
        ] {
            assert_eq!(count(networks, 0), expected, "{networks}");
            assert_eq!(count(networks, 9), 9);
        }
        assert_eq!(count("a;b;c", 2), 3);
    }

    proptest! {
        /// Whatever stands in the annotation, the answer is a request or an error.
        #[test]
        fn never_panics(text in "\\PC{0,80}", json in "[\\[{\"]\\PC{0,60}", options in "lan:[a-z0-9:=,;./-]{0,40}") {
            for text in [text, json, options] {
                if let Ok(attachments) = read(&text) {
                    prop_assert!(!attachments.is_empty());
                }
            }
        }
    }
}
