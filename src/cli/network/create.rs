//! `underlay network create`: the options, in Docker's words, and the definition they spell.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::{conflicts, reserve};
use crate::cli::{cdi, output};
use crate::config::driver_option;
use crate::config::host_access::HostAccess;
use crate::config::network::Network;
use crate::config::network_file::{NetworkFile, SubnetFile};
use crate::error::{Error, Kind, Result};
use crate::ledger::Store;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access;
use crate::lifecycle::parents;
use crate::lifecycle::repair;
use crate::net::driver::Kind as Driver;
use crate::net::ipv6::Ipv6;
use crate::net::name::NetworkName;
use crate::net::route::Route;
use crate::net::subnet::AddressRange;

#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    /// macvlan or ipvlan
    #[arg(short, long, default_value = "macvlan")]
    driver: Driver,
    /// Subnet in CIDR form; repeat it for several
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    subnet: Vec<IpNet>,
    /// Router of a subnet; without one its containers get no default route
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Router on the link that is in none of the subnets, for the only subnet of its family
    #[arg(long, value_name = "IP")]
    onlink_gateway: Vec<IpAddr>,
    /// Part of a subnet that addresses are picked from
    #[arg(long, value_name = "CIDR|FIRST-LAST", value_delimiter = ',')]
    ip_range: Vec<AddressRange>,
    /// Address of something else in a subnet, never handed out
    #[arg(long, alias = "aux-addresses", value_name = "NAME=IP", value_delimiter = ',')]
    aux_address: Vec<String>,
    /// Driver option: parent, vlan, vlans, vlan_protocol, macvlan_mode, ipvlan_mode, ipvlan_flag, mode, mtu, table,
    /// metric, no_default_route, ipv6, bclim, txqueuelen, bcqueuelen, source_macs, conflict_detection, probe_ahead, announcements
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Say that there is to be IPv6: a subnet of it is enough; or what there is besides: slaac, slaac-stable,
    /// slaac-privacy, off
    #[arg(long, value_name = "KIND", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    ipv6: Option<String>,
    /// Give containers no default route
    #[arg(long)]
    internal: bool,
    /// Give the host a link of its own to talk to the containers, with this address or one of the pool; repeat it for
    /// an address of each family
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    host_access: Vec<String>,
    /// Route besides the default route, by a gateway in one of the subnets or, `onlink`, on the link; or blackhole,
    /// unreachable or prohibit in the gateway's place
    #[arg(long, value_name = "DST,GW[,METRIC][,onlink]")]
    route: Vec<String>,
    /// Sysctl of the links in the container, as ipv4.arp_ignore=1 for net.ipv4.conf.LINK.arp_ignore
    #[arg(long, value_name = "KEY=VALUE")]
    sysctl: Vec<String>,
    /// Annotation that a container must have to use the network: its key, and a pattern of its value
    #[arg(long, value_name = "KEY=PATTERN")]
    require_annotation: Vec<String>,
    /// Keep addresses and a MAC address for one identity, or container id, alone
    #[arg(long, value_name = "NAME=IP[,IP6][,MAC]")]
    reserve: Vec<String>,
    /// A note
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    label: Vec<String>,
    /// Name of the network
    name: NetworkName,
}

pub(super) fn create(store: &Store, network: &Network) -> Result<()> {
    let mut context = Context::new(store)?;
    // Before anything is written: is the parent there, or can it be made?
    parents::find(network, &mut context.host_netlink)?;
    host_access::refuse_foreign(network, &mut context.host_netlink)?;
    // If the network cannot be created, its parent is deleted unless something needs it.
    repair::recover(&mut context)?;
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    // One that was killed may have got no further than to define it.
    conflicts::refuse(store, network).inspect_err(|_| cdi::renew(&locked))?;
    locked.create_network(network)?;
    if let Err(error) = parents::ensure(&locked, network, host) {
        locked.remove_network(&network.name)?;
        parents::delete_unused_of(&locked, network, host)?;
        return Err(error);
    }
    cdi::renew(&locked);
    match locked.follow_machine(false) {
        Ok(true) => log::warn!("the machine id has changed: the addresses of identities are forgotten"),
        Ok(false) => {}
        Err(error) => log::warn!("{}", error.in_full()),
    }
    output::line(network.name.as_str())
}

/// The network that the options spell. Gateways, ranges and aux addresses belong to the subnet they lie in, in whatever
/// order they are given.
///
/// # Errors
/// When the options disagree.
pub(super) fn network(options: &Create) -> Result<Network> {
    let subnet = |&subnet: &IpNet| SubnetFile { subnet, ..SubnetFile::default() };
    let mut file = NetworkFile {
        subnets: options.subnet.iter().map(subnet).collect(),
        internal: options.internal,
        ipv6: ipv6(options)?,
        routes: options.route.iter().map(|text| route(text)).collect::<Result<_>>()?,
        host_access: HostAccess::of_words(&options.host_access)?,
        reservations: reserve::parse(&options.reserve)?,
        ..NetworkFile::new(options.driver)
    };
    let subnets = &mut file.subnets;
    let inside = options.gateway.iter().map(|gateway| (gateway, false));
    for (&gateway, onlink) in inside.chain(options.onlink_gateway.iter().map(|gateway| (gateway, true))) {
        let subnet = match onlink {
            true => of_family(subnets, gateway)?,
            false => containing(subnets, "gateway", gateway, &gateway)?,
        };
        subnet.onlink = onlink;
        if let Some(other) = subnet.gateway.replace(gateway) {
            return Err(two(subnet, "gateways", &other, &gateway)
                .hint("a container has one default route: choose one"));
        }
    }
    for range in &options.ip_range {
        let subnet = containing(subnets, "address range", range.first, range)?;
        if let Some(other) = subnet.ip_range.replace(range.to_string()) {
            return Err(two(subnet, "ranges", &other, range).hint("give one range that spans both"));
        }
    }
    for aux in &options.aux_address {
        let (name, address) = pair("aux address", aux)?;
        let address = address
            .parse()
            .map_err(|_| Error::new(Kind::Usage, format!("aux address {aux}: {address:?} is no address")))?;
        let subnet = containing(subnets, "aux address", address, aux)?;
        if let Some(other) = subnet.aux_addresses.insert(name.to_owned(), address) {
            let text = format!("aux address {name} is given twice, {other} and {address}");
            return Err(Error::new(Kind::Usage, text));
        }
    }
    for (key, pattern) in pairs("required annotation", &options.require_annotation)? {
        let of = |error: Error| error.within(format!("required annotation {key}"));
        file.required_annotations.insert(key.to_owned(), pattern.parse().map_err(of)?);
    }
    for (key, value) in pairs("sysctl", &options.sysctl)? {
        let of = |error: Error| error.within(format!("sysctl {key}"));
        file.sysctls.insert(key.parse()?, value.parse().map_err(of)?);
    }
    for label in &options.label {
        // Docker takes a label without a value.
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        file.labels.insert(key.to_owned(), value.to_owned());
    }
    for (key, value) in pairs("option", &options.option)? {
        driver_option::set(&mut file, key, value)?;
    }
    Network::new(&options.name, file)
}

/// What the option `--ipv6` asks for besides subnets.
fn ipv6(options: &Create) -> Result<Option<Ipv6>> {
    let has_subnet = options.subnet.iter().any(|subnet| subnet.addr().is_ipv6());
    match options.ipv6.as_deref() {
        Some("") if !has_subnet => Err(Error::input("--ipv6 is given, and no IPv6 subnet")
            .hint("add --subnet with an IPv6 prefix, for underlay invents none; or write --ipv6=slaac")),
        Some("") | None => Ok(None),
        Some(kind) => kind.parse().map(Some).map_err(|error: Error| error.within("--ipv6")),
    }
}

fn two(subnet: &SubnetFile, what: &str, one: &dyn Display, other: &dyn Display) -> Error {
    Error::input(format!("subnet {} has two {what}, {one} and {other}", subnet.subnet))
}

/// The key and the value of a `what`.
pub(in crate::cli) fn pair<'a>(what: &str, text: &'a str) -> Result<(&'a str, &'a str)> {
    text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
        Error::new(Kind::Usage, format!("{what} {text:?} has no value")).hint("write KEY=VALUE")
    })
}

/// Each of `texts` as a pair, with keys that differ.
fn pairs<'a>(what: &str, texts: &'a [String]) -> Result<BTreeMap<&'a str, &'a str>> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        let (key, value) = pair(what, text)?;
        if pairs.insert(key, value).is_some() {
            return Err(Error::new(Kind::Usage, format!("{what} {key} is given twice")));
        }
    }
    Ok(pairs)
}

/// Reads `DST,GW[,METRIC][,onlink]`.
fn route(text: &str) -> Result<Route> {
    Route::parse(text, ',').ok_or_else(|| {
        Error::new(Kind::Usage, format!("route {text:?} is not usable")).hint(
            "write DESTINATION,GATEWAY[,METRIC][,onlink] or DESTINATION,blackhole: 10.9.0.0/16,192.168.1.254",
        )
    })
}

/// The subnet that `address` lies in, which is (the beginning of) the `what` called `whole`.
fn containing<'a>(
    subnets: &'a mut [SubnetFile],
    what: &str,
    address: IpAddr,
    whole: &dyn Display,
) -> Result<&'a mut SubnetFile> {
    subnets.iter_mut().find(|subnet| subnet.subnet.contains(&address)).ok_or_else(|| {
        Error::input(format!("{what} {whole} lies in none of the subnets"))
            .hint("give its subnet with --subnet")
    })
}

/// The only subnet of the family of `gateway`.
fn of_family(subnets: &mut [SubnetFile], gateway: IpAddr) -> Result<&mut SubnetFile> {
    let mut found = subnets.iter_mut().filter(|subnet| subnet.subnet.addr().is_ipv4() == gateway.is_ipv4());
    match (found.next(), found.next()) {
        (Some(subnet), None) => Ok(subnet),
        _ => Err(Error::input(format!("onlink gateway {gateway} wants one subnet of its family"))
            .hint("write several into the network's file, each with its gateway and \"onlink\": true")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{self, Import};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn read(line: &str) -> Result<Network> {
        let words = std::iter::once("create").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| Error::new(Kind::Usage, error.to_string()))?;
        network(&line.create)
    }

    #[test]
    fn dockers_command_lines() {
        let network =
            read("-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net").unwrap();
        let text = serde_json::to_string(&network.file).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"name":"pub_net","driver":"macvlan","parent":"eth0","macvlan_mode":"bridge","internal":false,"subnets":[{"subnet":"172.16.86.0/24","gateway":"172.16.86.1"}]}"#
        );
        let network = read(
            "-d ipvlan --gateway=192.168.212.254 --subnet=192.168.210.0/24 --subnet=192.168.212.0/24 \
             --ip-range 192.168.212.128/25 --ip-range=192.168.210.5-192.168.210.9 --gateway=192.168.210.254 \
             --opt ipvlan_mode=l3s -o ipvlan_flag=vepa -o mtu=1400 -o parent=eth0 --internal ipvlan210",
        )
        .unwrap();
        let gateways: Vec<_> = network.subnets.iter().map(|s| s.gateway().unwrap().to_string()).collect();
        assert_eq!(gateways, ["192.168.210.254", "192.168.212.254"]);
        let ranges: Vec<_> = network.subnets.iter().map(|s| s.range().unwrap().to_string()).collect();
        assert_eq!(ranges, ["192.168.210.5-192.168.210.9", "192.168.212.128-192.168.212.255"]);
        assert_eq!(network.driver.to_string(), "ipvlan mode l3s vepa");
        assert!(network.file.internal && network.file.mtu == Some(1400));
        assert_eq!(
            read("-d ipvlan -o mode=l3 -o parent=a n").unwrap().driver.to_string(),
            "ipvlan mode l3 bridge"
        );
        assert_eq!(read("-o mode=vepa -o parent=a n").unwrap().driver.to_string(), "macvlan mode vepa");
    }

    #[test]
    fn what_an_import_prints_makes_the_same() {
        for sample in [
            include_str!("../../import/samples/podman-macvlan.json"),
            include_str!("../../import/samples/podman-ipvlan.json"),
            include_str!("../../import/samples/docker-macvlan.json"),
            r#"{"name": "a", "driver": "macvlan", "network_interface": "eth0", "labels": {"-x": "--internal"}}"#,
        ] {
            for import in import::networks(sample, None).unwrap() {
                let Ok(Import::Made(foreign)) = import else { panic!("{import:?}") };
                let command = foreign.command().to_string();
                let made = read(command.strip_prefix("underlay network create ").unwrap()).unwrap();
                assert_eq!(made, Network::new(&foreign.name, foreign.file).unwrap(), "{command}");
            }
        }
    }

    #[test]
    fn wrong_combinations_say_why() {
        for (line, message) in [
            ("-o parent=a --gateway 10.0.0.1 n", "gateway 10.0.0.1 lies in none of the subnets"),
            (
                "-o parent=a --subnet 10.0.0.0/24 --ip-range 10.0.1.0/25 n",
                "address range 10.0.1.0-10.0.1.127 lies in none of the subnets",
            ),
            (
                "-o parent=a --subnet 10.0.0.0/24 --ip-range 10.0.0.0/23 n",
                "subnets: address range 10.0.0.0-10.0.1.255 is not in subnet 10.0.0.0/24",
            ),
            (
                "-o parent=a --subnet 10.0.0.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2 n",
                "subnet 10.0.0.0/24 has two gateways, 10.0.0.1 and 10.0.0.2",
            ),
            (
                "-o parent=a --subnet 10.0.0.0/24 --ip-range 10.0.0.0/25 --ip-range 10.0.0.128/25 n",
                "subnet 10.0.0.0/24 has two ranges, 10.0.0.0-10.0.0.127 and 10.0.0.128-10.0.0.255",
            ),
            ("-o parent=a --subnet 10.0.0.1/24 n", "subnets: subnet 10.0.0.1/24 has host bits set"),
            ("-o parent=a -o mtu=big n", "option mtu: \"big\" is no number"),
            ("-o parent=a -o macvlan_mode=l2 n", "option macvlan_mode: unknown macvlan mode \"l2\""),
            ("-o parent=a -o ipvlan_mode=l2 n", "ipvlan_mode: is not an option of driver macvlan"),
            ("-o parent=a -o parent=b n", "option parent is given twice"),
            ("-o parent=a -o parnet=b n", "option \"parnet\" is not known"),
            ("-o parent n", "option \"parent\" has no value"),
            ("--ipv6 --subnet 10.0.0.0/24 n", "--ipv6 is given, and no IPv6 subnet"),
            (
                "--subnet 10.0.0.0/24 --aux-address a=10.0.1.9 n",
                "aux address a=10.0.1.9 lies in none of the subnets",
            ),
            ("--subnet 10.0.0.0/24 --aux-address a=b n", "aux address a=b: \"b\" is no address"),
            ("--aux-address 10.0.0.1 n", "aux address \"10.0.0.1\" has no value"),
            ("--subnet 10.0.0.0/24 --route 10.1.0.0/16 n", "route \"10.1.0.0/16\" is not usable"),
            (
                "--subnet 10.0.0.0/24 --route 10.1.0.0/16,10.2.0.1 n",
                "routes: route to 10.1.0.0/16 leads to 10.2.0.1, which is in none of the subnets",
            ),
            (
                "--subnet 10.0.0.0/24 --route 10.1.0.1/16,10.0.0.1 n",
                "routes: route to 10.1.0.1/16 has host bits set: write 10.1.0.0/16",
            ),
            (
                "--subnet 10.0.0.0/24 --route 0.0.0.0/0,10.0.0.1 n",
                "routes: route to 0.0.0.0/0 is a default route: give the subnet a gateway instead",
            ),
            (
                "--require-annotation team=a[ n",
                "required annotation team: pattern \"a[\" is not usable: invalid range pattern",
            ),
            ("--require-annotation team n", "required annotation \"team\" has no value"),
            (
                "--require-annotation team=a --require-annotation team=b n",
                "required annotation team is given twice",
            ),
            ("-d ipvlan -o bclim=5 n", "bclim: is not an option of driver ipvlan"),
            ("-o no_default_route=maybe n", "option no_default_route: \"maybe\" is neither true nor false"),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), message, "{line}");
        }
        for line in ["-d bridge n", "--subnet 10.0.0/24 n", "--nosuchflag n", "", "a/b"] {
            assert_eq!(read(line).unwrap_err().kind(), Kind::Usage, "{line}");
        }
    }
}
