//! Options of a link besides its type, MAC address and MTU: queue lengths, sysctls, and source MAC addresses.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::net::driver::{Driver, Kind, MacvlanMode};
use crate::net::mac::MacAddr;
use crate::net::value::{as_text, at_most};

/// The most source addresses of a network or attachment.
const MOST: usize = 256;

/// Options of a link, which it has only if they are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkOptions {
    /// The length of the transmit queue in frames (`IFLA_TXQLEN`); the kernel's default is 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txqueuelen: Option<u32>,
    /// The length of the broadcast queue (`IFLA_MACVLAN_BC_QUEUE_LEN`); the kernel's default is 1000. The longest of all
    /// links of a parent applies to the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bcqueuelen: Option<u32>,
    /// In mode source: the hosts whose frames it takes (`IFLA_MACVLAN_MACADDR_DATA`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_macs: Vec<MacAddr>,
    /// `net.ipv4.conf.LINK.NAME` and `net.ipv6.conf.LINK.NAME`, by `ipv4.NAME` and `ipv6.NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<Sysctl, SysctlValue>,
}

impl LinkOptions {
    /// Whether a link of `driver` can have these options.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub(crate) fn check(&self, driver: Driver) -> Result<()> {
        if self.bcqueuelen.is_some() && driver.kind() == Kind::Ipvlan {
            return Err(Error::input("bcqueuelen: is not an option of driver ipvlan")
                .hint("remove it, or change the driver"));
        }
        if self.source_macs.is_empty() {
            return Ok(());
        }
        if driver != (Driver::Macvlan { mode: MacvlanMode::Source }) {
            return Err(Error::input(format!("source_macs: {driver} takes frames from all hosts"))
                .hint("remove them, or use macvlan_mode source"));
        }
        at_most("source_macs", self.source_macs.len(), MOST)?;
        match self.source_macs.iter().find(|mac| !mac.is_unicast()) {
            Some(mac) => Err(Error::input(format!("source_macs: {mac} cannot be the MAC address of a link"))
                .hint("name the MAC addresses of the hosts whose frames may come in")),
            None => Ok(()),
        }
    }

    /// These options with more source addresses.
    #[must_use]
    pub(crate) fn with_sources(&self, macs: &[MacAddr]) -> Self {
        let mut options = self.clone();
        for mac in macs {
            if !options.source_macs.contains(mac) {
                options.source_macs.push(*mac);
            }
        }
        options
    }
}

/// The sysctls that may be set: those that work within the container's own namespace. Left out are those that answer for
/// other hosts on the LAN (proxy_arp, proxy_ndp, accept_local, arp_accept), that open the loopback addresses
/// (route_localnet), that write to the host's log (log_martians), and disable_ipv6, which follows from the addresses.
const SYSCTLS: &str = "ipv4.accept_redirects ipv4.arp_announce ipv4.arp_filter ipv4.arp_ignore ipv4.arp_notify \
    ipv4.forwarding ipv4.ignore_routes_with_linkdown ipv4.promote_secondaries ipv4.rp_filter \
    ipv4.secure_redirects ipv4.send_redirects ipv6.accept_ra ipv6.accept_ra_defrtr ipv6.accept_ra_min_hop_limit \
    ipv6.accept_ra_mtu ipv6.accept_ra_pinfo ipv6.accept_ra_rt_info_max_plen ipv6.accept_redirects \
    ipv6.addr_gen_mode ipv6.autoconf ipv6.forwarding ipv6.hop_limit ipv6.ignore_routes_with_linkdown \
    ipv6.keep_addr_on_down ipv6.ndisc_notify ipv6.router_solicitations ipv6.use_tempaddr";

/// A sysctl of a link that may be set: `ipv4.arp_ignore`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sysctl(Cow<'static, str>);

impl Sysctl {
    pub(crate) const ARP_ANNOUNCE: Self = Self(Cow::Borrowed("ipv4.arp_announce"));
    pub(crate) const ARP_FILTER: Self = Self(Cow::Borrowed("ipv4.arp_filter"));
    pub(crate) const ARP_NOTIFY: Self = Self(Cow::Borrowed("ipv4.arp_notify"));
    pub(crate) const NDISC_NOTIFY: Self = Self(Cow::Borrowed("ipv6.ndisc_notify"));

    /// Its file for `link`, below /proc/sys.
    pub fn path(&self, link: &str) -> String {
        format!("net/{}", self.0.replacen('.', &format!("/conf/{link}/"), 1))
    }
}

impl FromStr for Sysctl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if SYSCTLS.split(' ').any(|known| known == text) {
            return Ok(Self(text.to_owned().into()));
        }
        Err(Error::input(format!("sysctl {text:?} cannot be set per link"))
            .hint(format!("use one of: {SYSCTLS}")))
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a sysctl: a whole number, as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SysctlValue(i32);

impl FromStr for SysctlValue {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |_| Error::input(format!("{text:?} is not a sysctl value")).hint("write a whole number");
        text.parse().map(Self).map_err(wrong)
    }
}

impl fmt::Display for SysctlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

as_text!(Sysctl, SysctlValue);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;

    fn read(keys: &str) -> Result<Network> {
        let text = format!(r#"{{"version": 1, "parent": "eth0", {keys}}}"#);
        Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
    }

    #[test]
    fn definitions_round_trip() {
        let keys = r#""driver":"macvlan","macvlan_mode":"source","txqueuelen":500,"bcqueuelen":9,
            "source_macs":["02:00:00:00:00:01"],"sysctls":{"ipv4.arp_ignore":"1","ipv6.accept_ra":"-1"}"#;
        let network = read(keys).unwrap();
        let text = serde_json::to_string(&network.file).unwrap();
        assert!(text.contains(r#""sysctls":{"ipv4.arp_ignore":"1","ipv6.accept_ra":"-1"}"#), "{text}");
        assert_eq!(Network::from_json(&network.name, text.as_bytes()).unwrap(), network);
        let paths: Vec<_> = network.file.sysctls.keys().map(|sysctl| sysctl.path("eth0")).collect();
        assert_eq!(paths, ["net/ipv4/conf/eth0/arp_ignore", "net/ipv6/conf/eth0/accept_ra"]);
    }

    #[test]
    fn mistakes() {
        for (keys, message) in [
            (r#""driver": "ipvlan", "bcqueuelen": 5"#, "bcqueuelen: is not an option of driver ipvlan"),
            (
                r#""driver": "macvlan", "source_macs": ["02:00:00:00:00:01"]"#,
                "source_macs: macvlan mode bridge takes frames from all hosts",
            ),
            (
                r#""driver": "macvlan", "macvlan_mode": "source", "source_macs": ["01:00:00:00:00:01"]"#,
                "source_macs: 01:00:00:00:00:01 cannot be the MAC address of a link",
            ),
            (
                r#""driver": "macvlan", "sysctls": {"ipv4.proxy_arp": "1"}"#,
                "sysctls.ipv4.proxy_arp: sysctl \"ipv4.proxy_arp\" cannot be set",
            ),
            (r#""driver": "macvlan", "sysctls": {"ipv4.../../x": "1"}"#, "sysctls.ipv4.../../x: sysctl"),
            (r#""driver": "macvlan", "sysctls": {"arp_ignore": "1"}"#, "sysctls.arp_ignore: sysctl"),
            (
                r#""driver": "macvlan", "sysctls": {"ipv4.rp_filter": "x"}"#,
                "sysctls.ipv4.rp_filter: \"x\" is not a sysctl value",
            ),
            (
                r#""driver": "macvlan", "sysctls": {"ipv4.rp_filter": "1", "ipv4.rp_filter": "2"}"#,
                "sysctls: ",
            ),
        ] {
            let error = read(keys).unwrap_err().to_string();
            assert!(error.starts_with(message), "{keys}: {error}");
        }
    }
}
