//! `underlay network create`: the options, in Docker's words, and the definition they spell.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;

use clap::Args;
use ipnet::IpNet;

use super::{conflicts, reserve};
use crate::cli::argument::{self, hinted};
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
use crate::net::name::{IfName, NetworkName};
use crate::net::route::Route;
use crate::net::subnet::AddressRange;
use crate::net::value::words;

words! {
    /// Who chooses the addresses of containers, in podman's words and in Docker's.
    IpamDriver, "IPAM driver", {
        /// underlay, from the subnets.
        Ledger = "ledger" | "host-local" | "default",
        /// A server on the LAN those of IPv4, except those that containers ask for in a subnet.
        Dhcp = "dhcp",
        /// There are none.
        None = "none" | "null",
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct Create {
    /// macvlan or ipvlan
    #[arg(short, long, default_value = "macvlan")]
    driver: Driver,
    /// What chooses addresses: ledger, from the subnets (the default); dhcp, a server on the LAN; none
    #[arg(long, value_name = "DRIVER", value_parser = hinted::<IpamDriver>)]
    ipam_driver: Option<IpamDriver>,
    /// Subnet in CIDR form; repeat it for several
    #[arg(long, value_name = "CIDR", value_delimiter = ',', value_parser = argument::net)]
    subnet: Vec<IpNet>,
    /// Router of a subnet; without one its containers get no default route
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Router on the link that is in none of the subnets, for the only subnet of its family
    #[arg(long, value_name = "IP")]
    onlink_gateway: Vec<IpAddr>,
    /// Part of a subnet that addresses are picked from
    #[arg(long, value_name = "CIDR|FIRST-LAST", value_delimiter = ',', value_parser = hinted::<AddressRange>)]
    ip_range: Vec<AddressRange>,
    /// Pick addresses from the part of each subnet, or range, that is this host's: number 3 of 16
    #[arg(long, value_name = "NUMBER", requires = "of")]
    host_number: Option<u32>,
    /// How many parts there are, each for one host on the LAN
    #[arg(long, value_name = "HOSTS", requires = "host_number")]
    of: Option<u32>,
    /// Address of something else in a subnet, never handed out
    #[arg(long, alias = "aux-addresses", value_name = "NAME=IP", value_delimiter = ',')]
    aux_address: Vec<String>,
    /// Driver option: parent, vlan, vlans, vlan_protocol, macvlan_mode, ipvlan_mode, ipvlan_flag, mode, mtu, table,
    /// metric, no_default_route, ipv6, bclim, txqueuelen, bcqueuelen, source_macs, conflict_detection, probe_ahead, announcements,
    /// dhcp_timeout, dhcp_optional, dhcp_client_id, dhcp_hostname, dhcp_vendor_class, dhcp_servers, dhcp_use, dhcp6
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
    /// Link of the host on the LAN, as -o parent=: podman's word
    #[arg(long, value_name = "LINK", value_parser = hinted::<IfName>)]
    interface_name: Option<IfName>,
    /// No error if there is a network of that name
    #[arg(long)]
    ignore: bool,
    /// Taken, and without a meaning: no name server serves these networks
    #[arg(long)]
    disable_dns: bool,
    /// Taken, and without a meaning: any container may be attached
    #[arg(long)]
    attachable: bool,
    /// Taken as local: a network is of one host
    #[arg(long, value_name = "SCOPE", value_parser = ["local"])]
    scope: Option<String>,
    /// Name of the network
    #[arg(value_parser = hinted::<NetworkName>)]
    pub(super) name: NetworkName,
}

impl Create {
    /// Whether an existing network will do.
    pub(super) fn may_exist(&self) -> bool {
        self.ignore
    }
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
            false => containing(subnets, "gateway", gateway, &gateway).map_err(|error| {
                let hint = format!("give its subnet with --subnet; for a router on the link that is in none, --onlink-gateway {gateway}");
                error.hint(hint)
            })?,
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
    if let Some((number, hosts)) = options.host_number.zip(options.of) {
        for subnet in subnets.iter_mut() {
            let range = subnet.ip_range.as_deref().map(str::parse).transpose()?;
            let part = range.unwrap_or_else(|| AddressRange::of_net(subnet.subnet)).part(number, hosts)?;
            subnet.ip_range = Some(part.to_string());
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
        if file.labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Error::new(Kind::Usage, format!("label {key} is given twice")));
        }
    }
    file.parent = options.interface_name.clone();
    for (key, value) in pairs("option", &options.option)? {
        driver_option::set(&mut file, key, value)?;
    }
    match options.ipam_driver {
        Some(IpamDriver::Dhcp) => file.dhcp = Some(file.dhcp.take().unwrap_or_default()),
        Some(driver) if file.dhcp.is_some() => {
            return Err(Error::input(format!("--ipam-driver {driver} is given, and options of DHCP"))
                .hint("leave one of the two out: with an option of DHCP the driver is dhcp"));
        }
        Some(IpamDriver::None) if !file.subnets.is_empty() => {
            return Err(Error::input("--ipam-driver none is given, and a subnet")
                .hint("leave one of the two out: without a subnet containers have no addresses"));
        }
        _ => {}
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
mod tests;
