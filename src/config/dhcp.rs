//! The key `dhcp` of a network: a DHCP server of the LAN chooses the IPv4 addresses of its containers, and those of IPv6 if that
//! is wanted.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dhcp::client_id::ClientId;
use crate::dhcp::domain_name::DomainName;
use crate::error::{Error, Result};
use crate::net::driver::{Driver, Kind};
use crate::net::ipv6::Ipv6;
use crate::net::special_purpose::not_for_hosts;
use crate::net::subnet::Subnet;
use crate::net::value::{as_text, at_most, is_default, number, text, words};

/// How long an attach waits by default, in seconds. A server that pings each address before it offers it serves eight new
/// clients in that time.
const TIMEOUT: u64 = 20;
/// What servers are told by default about the kind of client.
const VENDOR_CLASS: &str = "underlay";
/// The most servers that can be allowed.
const MOST_SERVERS: usize = 64;

/// How the containers of a network get their addresses from a DHCP server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dhcp {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Timeout>,
    /// Whether a container starts without an address if no server answers in time. The agent goes on asking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub client_id: ClientIdSource,
    /// The host name that servers are told; the container's own by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<DomainName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_class: Option<VendorClass>,
    /// The servers that are allowed; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Ipv4Addr>,
    /// What is taken of a lease besides its address; all by default.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub uses: Option<BTreeSet<Use>>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub dhcp6: Dhcp6,
}

number! {
    /// How long an attach waits for a lease, in seconds. A hook is killed after 30 seconds, as its hook file says.
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "u64", into = "u64")]
    Timeout(u64), |seconds| (1..=26).contains(&seconds), "time limit from 1 to 26 seconds",
    "use 1 to 26: engines kill a hook after 30 seconds"
}

words! {
    /// A part of a lease, besides the address.
    #[derive(PartialOrd, Ord)]
    Use, "part of a lease", {
        /// The default route, and others.
        Routes = "routes",
        Mtu = "mtu",
        /// Name servers, and domains in which names are looked up.
        Dns = "dns",
    }
}

words! {
    /// Whether an IPv6 address is asked for, by DHCPv6.
    #[derive(Default)]
    Dhcp6, "use of DHCPv6", {
        #[default]
        No = "no",
        /// The attach does not wait for it, and leaves it to the agent.
        Yes = "yes",
        /// The attach waits for it, as for the IPv4 address.
        Required = "required",
    }
}

text! {
    /// What servers are told about the kind of client (RFC 2132, 9.13).
    VendorClass, "vendor class {:?} is not usable", is_vendor_class, "use 1 to 255 printable ASCII characters"
}

/// What the client id of a container is made from. Servers give one address to one client id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ClientIdSource {
    /// The container's identity, so that it stays when the container is created again.
    #[default]
    Identity,
    /// The MAC address of its link.
    Mac,
    /// This text, of which [`ClientId::chosen`] makes one: all containers of the network are one client.
    Text(String),
}

impl Dhcp {
    /// Whether a network of `driver` with these `subnets` can have it.
    ///
    /// # Errors
    /// Says why no server could answer, or what disagrees.
    pub(crate) fn check(
        &self,
        driver: Driver,
        on_dummy: bool,
        subnets: &[Subnet],
        has_host_access: bool,
        ipv6: Option<Ipv6>,
    ) -> Result<()> {
        let refuse = |text: String, hint: &str| Err(Error::input(format!("dhcp: {text}")).hint(hint));
        if driver.is_routed() {
            let hint = "use ipvlan mode l2, or macvlan";
            return refuse(format!("{driver} sends no broadcasts, by which servers are found"), hint);
        }
        if on_dummy {
            let text = "a network without a parent has no DHCP server".to_owned();
            return refuse(text, "name the parent that is on the server's LAN, or use subnets without dhcp");
        }
        if has_host_access {
            let text = "host_access is not supported yet: the host's routes need addresses that are known in advance";
            let hint = "remove one of the two; a second network on the same parent can have host access";
            return refuse(text.to_owned(), hint);
        }
        if self.client_id == ClientIdSource::Mac && driver.kind() == Kind::Ipvlan {
            let text = "client_id mac: ipvlan links have the parent's MAC address, and would be one client";
            return refuse(text.to_owned(), "use client_id identity, or macvlan");
        }
        at_most("dhcp: servers", self.servers.len(), MOST_SERVERS)?;
        for &server in &self.servers {
            if let Some((block, what)) = not_for_hosts(IpNet::from(IpAddr::V4(server))) {
                let text = format!("server {server} is an address of {block}, {what}: no host has it");
                return refuse(text, "name the servers of the LAN");
            }
        }
        if ipv6 == Some(Ipv6::Off) && self.dhcp6 != Dhcp6::No {
            return refuse(format!("ipv6 is off, and dhcp6 is {}", self.dhcp6), "leave one of the two out");
        }
        let mut served = subnets.iter().filter(|subnet| self.serves(subnet.net().addr().is_ipv4()));
        if let Some(range) = served.find_map(Subnet::range) {
            let text = format!("no address is picked from ip_range {range}: the server chooses");
            return refuse(
                text,
                "remove the range; a container gets an address of the subnet if it asks by ip=",
            );
        }
        Ok(())
    }
}

impl Dhcp {
    /// Whether servers choose the addresses of IPv4, or else of IPv6.
    pub(crate) fn serves(&self, is_v4: bool) -> bool {
        is_v4 || self.dhcp6 != Dhcp6::No
    }

    /// How long an attach waits for a lease.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout.map_or(TIMEOUT, u64::from))
    }

    /// What servers are told about the kind of client.
    pub(crate) fn vendor_class(&self) -> &str {
        self.vendor_class.as_ref().map_or(VENDOR_CLASS, VendorClass::as_str)
    }

    /// Whether `part` of a lease is used.
    pub(crate) fn takes(&self, part: Use) -> bool {
        self.uses.as_ref().is_none_or(|uses| uses.contains(&part))
    }
}

fn is_vendor_class(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

impl FromStr for ClientIdSource {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = |_| {
            Error::input(format!("a client id of {} bytes is not usable", text.len()))
                .hint("write identity, mac, or a text of 1 to 254 bytes")
        };
        match text {
            "identity" => Ok(Self::Identity),
            "mac" => Ok(Self::Mac),
            _ => ClientId::chosen(text).map(|_| Self::Text(text.to_owned())).map_err(refused),
        }
    }
}

impl fmt::Display for ClientIdSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Mac => "mac",
            Self::Text(text) => text,
        })
    }
}

as_text!(ClientIdSource);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;

    fn read(keys: &str) -> Result<Network> {
        let text = format!(r#"{{"version": 1, {keys}}}"#);
        Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
    }

    fn on_lan(dhcp: &str) -> Result<Network> {
        read(&format!(r#""driver": "macvlan", "parent": "eth0", "dhcp": {dhcp}"#))
    }

    /// Each key as it is written again, where that differs.
    #[test]
    fn keys() {
        let most = vec![r#""10.0.0.1""#; 64].join(",");
        for (text, again) in [
            ("{}", None),
            (r#"{"timeout":1}"#, None),
            (r#"{"timeout":26}"#, None),
            (r#"{"optional":true}"#, None),
            (r#"{"optional":false}"#, Some("{}")),
            (r#"{"client_id":"identity"}"#, Some("{}")),
            (r#"{"client_id":"mac"}"#, None),
            (r#"{"client_id":"Identity"}"#, None),
            (&format!(r#"{{"client_id":"{}"}}"#, "a".repeat(254)), None),
            (r#"{"hostname":"web.example.com"}"#, None),
            (r#"{"vendor_class":"a b~"}"#, None),
            (&format!(r#"{{"vendor_class":"{}"}}"#, "a".repeat(255)), None),
            (r#"{"servers":["192.168.1.1","192.168.1.2"]}"#, None),
            (&format!(r#"{{"servers":[{most}]}}"#), None),
            (r#"{"servers":[]}"#, Some("{}")),
            (r#"{"use":["routes","mtu","dns"]}"#, None),
            (r#"{"use":["dns","routes","dns"]}"#, Some(r#"{"use":["routes","dns"]}"#)),
            (r#"{"use":[]}"#, None),
            (r#"{"dhcp6":"no"}"#, Some("{}")),
            (r#"{"dhcp6":"yes"}"#, None),
            (r#"{"dhcp6":"required"}"#, None),
            (
                r#"{"timeout":5,"optional":true,"client_id":"web","hostname":"web","vendor_class":"x","servers":["10.0.0.1"],"use":["mtu"]}"#,
                None,
            ),
        ] {
            let network = on_lan(text).unwrap();
            let written = serde_json::to_string(network.file.dhcp.as_ref().unwrap()).unwrap();
            assert_eq!(written, again.unwrap_or(text));
            let file = serde_json::to_vec(&network.file).unwrap();
            assert_eq!(Network::from_json(&network.name, &file).unwrap(), network);
        }
        for without in [r#""driver": "macvlan""#, r#""driver": "macvlan", "dhcp": null"#] {
            let network = read(without).unwrap();
            assert_eq!(network.file.dhcp, None);
            assert!(!serde_json::to_string(&network.file).unwrap().contains("dhcp"));
        }
    }

    #[test]
    fn defaults() {
        let said = |text: &str| {
            let dhcp = on_lan(text).unwrap().file.dhcp.unwrap();
            let taken: Vec<_> = Use::ALL.into_iter().filter(|&part| dhcp.takes(part)).collect();
            format!("{} s, {}, {taken:?}", dhcp.timeout().as_secs(), dhcp.vendor_class())
        };
        assert_eq!(said("{}"), "20 s, underlay, [Routes, Mtu, Dns]");
        assert_eq!(
            said(r#"{"timeout": 5, "vendor_class": "x", "use": ["dns", "routes"]}"#),
            "5 s, x, [Routes, Dns]"
        );
        assert_eq!(said(r#"{"use": []}"#), "20 s, underlay, []");
    }

    #[test]
    fn client_ids() {
        let text = |text: &str| ClientIdSource::Text(text.to_owned());
        for (word, source) in [
            ("identity", ClientIdSource::Identity),
            ("mac", ClientIdSource::Mac),
            ("MAC", text("MAC")),
            ("a b", text("a b")),
        ] {
            assert_eq!((word.parse(), source.to_string()), (Ok(source.clone()), word.to_owned()));
        }
        for length in [0, 255] {
            let error = "a".repeat(length).parse::<ClientIdSource>().unwrap_err();
            assert_eq!(error.to_string(), format!("a client id of {length} bytes is not usable"));
        }
    }

    #[test]
    fn values_that_are_refused() {
        let (long, many) = ("a".repeat(256), vec![r#""10.0.0.1""#; 65].join(","));
        for (text, message) in [
            ("true", "dhcp: invalid type: boolean `true`, expected struct Dhcp"),
            (r#"{"dhcpv6": "yes"}"#, "dhcp.dhcpv6: unknown field `dhcpv6`"),
            (
                r#"{"dhcp6": "always"}"#,
                "dhcp.dhcp6: unknown variant `always`, expected one of `no`, `yes`, `required`",
            ),
            (r#"{"timeout": 0}"#, "dhcp.timeout: 0 is not a time limit from 1 to 26 seconds"),
            (r#"{"timeout": 27}"#, "dhcp.timeout: 27 is not a time limit from 1 to 26 seconds"),
            (r#"{"timeout": "5"}"#, "dhcp.timeout: invalid type: string \"5\", expected u64"),
            (r#"{"optional": 1}"#, "dhcp.optional: invalid type: integer `1`, expected a boolean"),
            (r#"{"client_id": ""}"#, "dhcp.client_id: a client id of 0 bytes is not usable"),
            (r#"{"hostname": "a b"}"#, "dhcp.hostname: domain name \"a b\" is not usable"),
            (r#"{"vendor_class": ""}"#, "dhcp.vendor_class: vendor class \"\" is not usable"),
            (r#"{"vendor_class": "a\n"}"#, "dhcp.vendor_class: vendor class \"a\\n\" is not usable"),
            (r#"{"vendor_class": "ä"}"#, "dhcp.vendor_class: vendor class \"ä\" is not usable"),
            (
                &format!(r#"{{"vendor_class": "{long}"}}"#),
                &format!("dhcp.vendor_class: vendor class \"{long}\" is not usable"),
            ),
            (r#"{"servers": ["::1"]}"#, "dhcp.servers[0]: invalid IPv4 address syntax"),
            (
                r#"{"use": ["ntp"]}"#,
                "dhcp.use[0]: unknown variant `ntp`, expected one of `routes`, `mtu`, `dns`",
            ),
            (&format!(r#"{{"servers": [{many}]}}"#), "dhcp: servers: 65 are too many, 64 are possible"),
            (
                r#"{"servers": ["10.0.0.1", "224.0.0.1"]}"#,
                "dhcp: server 224.0.0.1 is an address of 224.0.0.0/4, multicast: no host has it",
            ),
        ] {
            let error = on_lan(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn which_networks_can_have_it() {
        for keys in [
            r#""driver": "macvlan", "parent": "eth0", "dhcp": {"client_id": "mac"}"#,
            r#""driver": "macvlan", "macvlan_mode": "passthru", "parent": "eth0", "dhcp": {"client_id": "mac"}"#,
            r#""driver": "ipvlan", "parent": "eth0", "dhcp": {}"#,
            r#""driver": "macvlan", "parent": "eth0", "vlans": "5-9", "ipv6": "slaac", "internal": true, "dhcp": {}"#,
            // Addresses of the ledger, for containers that ask for them.
            r#""driver": "macvlan", "parent": "eth0", "dhcp": {}, "reservations": {"db": {"addresses": ["10.0.0.9"]}},
                "subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "aux_addresses": {"nas": "10.0.0.2"}}]"#,
            r#""driver": "macvlan", "parent": "eth0", "dhcp": {},
                "subnets": [{"subnet": "2001:db8::/64", "ip_range": "2001:db8::100/120"}]"#,
            r#""driver": "macvlan", "parent": "eth0", "ipv6": "slaac", "dhcp": {"dhcp6": "required"},
                "subnets": [{"subnet": "2001:db8::/64"}]"#,
        ] {
            assert!(read(keys).is_ok(), "{keys}: {:?}", read(keys));
        }
        let no_broadcasts =
            |driver: &str| format!("{driver} sends no broadcasts, by which servers are found");
        for (keys, message, hint) in [
            (
                r#""driver": "ipvlan", "ipvlan_mode": "l3", "parent": "eth0", "dhcp": {}"#,
                &no_broadcasts("ipvlan mode l3 bridge")[..],
                "use ipvlan mode l2, or macvlan",
            ),
            (
                r#""driver": "ipvlan", "ipvlan_mode": "l3s", "parent": "eth0", "dhcp": {}"#,
                &no_broadcasts("ipvlan mode l3s bridge"),
                "use ipvlan mode l2, or macvlan",
            ),
            (
                r#""driver": "macvlan", "dhcp": {}"#,
                "a network without a parent has no DHCP server",
                "name the parent that is on the server's LAN, or use subnets without dhcp",
            ),
            (
                r#""driver": "macvlan", "parent": "eth0", "dhcp": {}, "host_access": true"#,
                "host_access is not supported yet: the host's routes need addresses that are known in advance",
                "remove one of the two; a second network on the same parent can have host access",
            ),
            (
                r#""driver": "ipvlan", "parent": "eth0", "dhcp": {"client_id": "mac"}"#,
                "client_id mac: ipvlan links have the parent's MAC address, and would be one client",
                "use client_id identity, or macvlan",
            ),
            (
                r#""driver": "macvlan", "parent": "eth0", "dhcp": {},
                    "subnets": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.8/30"}]"#,
                "no address is picked from ip_range 10.0.0.8-10.0.0.11: the server chooses",
                "remove the range; a container gets an address of the subnet if it asks by ip=",
            ),
            (
                r#""driver": "macvlan", "parent": "eth0", "dhcp": {"dhcp6": "yes"},
                    "subnets": [{"subnet": "2001:db8::/64", "ip_range": "2001:db8::8/126"}]"#,
                "no address is picked from ip_range 2001:db8::8-2001:db8::b: the server chooses",
                "remove the range; a container gets an address of the subnet if it asks by ip=",
            ),
            (
                r#""driver": "macvlan", "parent": "eth0", "ipv6": "off", "dhcp": {"dhcp6": "yes"}"#,
                "ipv6 is off, and dhcp6 is yes",
                "leave one of the two out",
            ),
        ] {
            let error = read(keys).unwrap_err();
            assert_eq!(
                (error.to_string(), error.hint_text()),
                (format!("dhcp: {message}"), Some(hint)),
                "{keys}"
            );
        }
        let reserved = r#""driver": "macvlan", "parent": "eth0", "dhcp": {}, "reservations": {"db": {"addresses": ["10.0.0.9"]}}"#;
        let error = read(reserved).unwrap_err().to_string();
        assert_eq!(error, "reservations: db: address 10.0.0.9 is in none of the subnets");
    }
}
