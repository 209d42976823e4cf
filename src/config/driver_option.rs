//! `network create -o`, of underlay and of engines: options of the driver, in Docker's and podman's words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::config::dhcp::Dhcp;
use crate::config::network_file::NetworkFile;
use crate::error::{Error, Kind, Result};
use crate::net::driver::Kind as Driver;
use crate::net::name::IfName;

/// All options.
const OPTIONS: &str = "parent, vlan, vlans, vlan_protocol, macvlan_mode, ipvlan_mode, ipvlan_flag, mode, mtu, table, metric, \
    no_default_route, ipv6, bclim, txqueuelen, bcqueuelen, source_macs, conflict_detection, probe_ahead, \
    announcements, dhcp, dhcp_timeout, dhcp_optional, dhcp_client_id, dhcp_hostname, dhcp_vendor_class, dhcp_servers, \
    dhcp_use, dhcp6";

/// The driver that the options of an engine's network with driver `underlay` ask for: by `driver`, or by an option of ipvlan.
///
/// # Errors
/// When there is no such driver.
pub(crate) fn driver(options: &BTreeMap<String, String>) -> Result<Driver> {
    match options.get("driver") {
        Some(driver) => driver.parse().map_err(|error: Error| error.within("option driver")),
        None if options.keys().any(|key| key.starts_with("ipvlan_")) => Ok(Driver::Ipvlan),
        None => Ok(Driver::Macvlan),
    }
}

/// As [`set`], of an engine's network, which has the options `driver` and `network` besides.
///
/// # Errors
/// As [`set`].
pub(crate) fn set_of_engine(file: &mut NetworkFile, key: &str, value: &str) -> Result<()> {
    set(file, key, value).map_err(|error| match error.kind() {
        Kind::Usage => error.hint(format!(
            "use driver, network, {OPTIONS}; all else has `underlay network create`, of which network=NAME makes it one of the engine's"
        )),
        _ => error,
    })
}

/// Sets what one `-o KEY=VALUE` says. Each option of DHCP asks for DHCP.
///
/// # Errors
/// When there is no such option, or it cannot have this value.
pub(crate) fn set(file: &mut NetworkFile, key: &str, value: &str) -> Result<()> {
    /// An option of two names may be given by both, if they agree.
    fn once<T: PartialEq>(place: &mut Option<T>, new: T) -> Result<()> {
        match place.replace(new) {
            Some(old) if place.as_ref() != Some(&old) => {
                Err(Error::input("is given twice, and differs").hint("give it once"))
            }
            _ => Ok(()),
        }
    }
    fn word<T: FromStr<Err = Error> + PartialEq>(place: &mut Option<T>, value: &str) -> Result<()> {
        once(place, value.parse()?)
    }
    fn number<T: FromStr + PartialEq>(place: &mut Option<T>, value: &str) -> Result<()> {
        once(place, value.parse().map_err(|_| Error::input(format!("{value:?} is no number")))?)
    }
    fn truth(place: &mut bool, value: &str) -> Result<()> {
        // podman's words are those of Go's ParseBool.
        *place = match value {
            "true" | "True" | "TRUE" | "t" | "T" | "1" | "yes" => true,
            "false" | "False" | "FALSE" | "f" | "F" | "0" | "no" => false,
            _ => {
                let text = format!("{value:?} is neither true nor false");
                return Err(Error::input(text).hint("use true or false"));
            }
        };
        Ok(())
    }
    fn list<T, L: FromIterator<T>>(value: &str, read: impl Fn(&str) -> Result<T>) -> Result<L> {
        value.split(',').map(|item| read(item.trim())).collect()
    }
    fn dhcp(file: &mut NetworkFile) -> &mut Dhcp {
        file.dhcp.get_or_insert_default()
    }
    let set = match (key, file.driver) {
        ("parent", _) if value.is_empty() => Err(Error::input("names no link")
            .hint("name the host's link on the LAN; without the option the network is inside of this host")),
        ("parent", _) => word::<IfName>(&mut file.parent, value),
        ("vlan", _) => word(&mut file.vlan, value),
        ("vlans", _) => word(&mut file.vlans, value),
        ("vlan_protocol", _) => word(&mut file.vlan_protocol, value),
        // podman's spelling, the same for both drivers.
        ("macvlan_mode", _) | ("mode", Driver::Macvlan) => word(&mut file.macvlan_mode, value),
        ("ipvlan_mode", _) | ("mode", Driver::Ipvlan) => word(&mut file.ipvlan_mode, value),
        ("ipvlan_flag", _) => word(&mut file.ipvlan_flag, value),
        ("mtu" | "com.docker.network.driver.mtu", _) => number(&mut file.mtu, value),
        ("table", _) => word(&mut file.table, value),
        ("metric", _) => number(&mut file.metric, value),
        ("txqueuelen", _) => number(&mut file.txqueuelen, value),
        ("bcqueuelen", _) => number(&mut file.bcqueuelen, value),
        ("source_macs", _) => list(value, str::parse).map(|macs| file.source_macs = macs),
        ("conflict_detection", _) => word(&mut file.conflict_detection, value),
        ("probe_ahead", _) => number(&mut file.probe_ahead, value),
        ("announcements", _) => number(&mut file.announcements, value),
        ("bclim", _) => number(&mut file.bclim, value),
        ("ipv6", _) => word(&mut file.ipv6, value),
        ("no_default_route", _) => truth(&mut file.no_default_route, value),
        ("dhcp", _) => {
            let mut is_on = false;
            let read = truth(&mut is_on, value);
            if is_on {
                dhcp(file);
            }
            read
        }
        ("dhcp_timeout", _) => word(&mut dhcp(file).timeout, value),
        ("dhcp_optional", _) => truth(&mut dhcp(file).optional, value),
        ("dhcp_client_id", _) => value.parse().map(|source| dhcp(file).client_id = source),
        ("dhcp_hostname", _) => word(&mut dhcp(file).hostname, value),
        ("dhcp_vendor_class", _) => word(&mut dhcp(file).vendor_class, value),
        ("dhcp_servers", _) => {
            let server = |text: &str| {
                text.parse::<Ipv4Addr>().map_err(|_| {
                    Error::input(format!("{text:?} is no IPv4 address"))
                        .hint("name the servers by their addresses, separated by commas")
                })
            };
            list(value, server).map(|servers| dhcp(file).servers = servers)
        }
        ("dhcp_use", _) => {
            let uses = if value.is_empty() { Ok(BTreeSet::new()) } else { list(value, str::parse) };
            uses.map(|uses| dhcp(file).uses = Some(uses))
        }
        ("dhcp6", _) => value.parse().map(|use6| dhcp(file).dhcp6 = use6),
        _ => {
            let text = format!("option {key:?} is not known");
            return Err(Error::new(Kind::Usage, text).hint(format!("use {OPTIONS}")));
        }
    };
    set.map_err(|error| error.within(format!("option {key}")))
}
