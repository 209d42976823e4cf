//! `underlay network`: definitions, in the words of `docker network`.

use std::net::IpAddr;
use std::str::FromStr;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde::Serialize;

use super::output::{self, Format};
use crate::attach::missing_parent;
use crate::driver::Kind as Driver;
use crate::error::{Error, Kind, Result};
use crate::kernel::{self, NetnsFile, Socket};
use crate::mac::MacAddr;
use crate::name::{ContainerId, IfName, NetworkName};
use crate::network::{Network, NetworkFile, SubnetFile, VERSION};
use crate::record::Record;
use crate::store::Store;
use crate::subnet::AddressRange;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a network
    Create(Create),
    /// List the networks
    Ls {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
        /// How to print it
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Show the definition of networks and the containers attached to them, as JSON
    Inspect {
        /// Their names
        #[arg(required = true)]
        names: Vec<NetworkName>,
        /// How to print it
        #[arg(long, value_parser = ["json"], default_value = "json")]
        format: String,
    },
    /// Remove networks that no live container uses
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<NetworkName>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// macvlan or ipvlan
    #[arg(short, long, default_value = "macvlan")]
    driver: Driver,
    /// Subnet in CIDR form; repeat it for several
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    subnet: Vec<IpNet>,
    /// Router of a subnet; without one its containers get no default route
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Part of a subnet that addresses are picked from
    #[arg(long, value_name = "CIDR|FIRST-LAST", value_delimiter = ',')]
    ip_range: Vec<AddressRange>,
    /// Driver option: parent, macvlan_mode, ipvlan_mode, ipvlan_flag, mode, mtu
    #[arg(short, long = "opt", value_name = "KEY=VALUE")]
    option: Vec<String>,
    /// Give containers no default route
    #[arg(long)]
    internal: bool,
    /// Name of the network
    name: NetworkName,
}

pub(super) fn run(store: &Store, command: Command) -> Result<()> {
    match command {
        Command::Create(options) => create(store, &options),
        Command::Ls { quiet, format } => list(store, quiet, format),
        Command::Inspect { names, .. } => inspect(store, &names),
        Command::Rm { names } => remove(store, &names),
    }
}

fn create(store: &Store, options: &Create) -> Result<()> {
    let network = Network::new(&options.name, file(options)?)?;
    let parent = Socket::open()?.link(&network.parent)?.ok_or_else(|| missing_parent(&network))?;
    parent.check_parent(&network)?;
    store.lock(store.settings()?.lock_timeout())?.create_network(&network)?;
    output::line(network.name.as_str())
}

/// The definition that the options spell. Gateways and ranges belong to the subnet they lie in, in whatever
/// order they are given.
fn file(options: &Create) -> Result<NetworkFile> {
    let mut subnets: Vec<SubnetFile> =
        options.subnet.iter().map(|&subnet| SubnetFile { subnet, gateway: None, ip_range: None }).collect();
    for &gateway in &options.gateway {
        let subnet = containing(&mut subnets, "gateway", gateway, &gateway)?;
        if let Some(other) = subnet.gateway.replace(gateway) {
            return Err(Error::input(format!(
                "subnet {} has two gateways, {other} and {gateway}",
                subnet.subnet
            ))
            .hint("a container has one default route: choose one"));
        }
    }
    for range in &options.ip_range {
        let subnet = containing(&mut subnets, "address range", range.first(), range)?;
        if let Some(other) = subnet.ip_range.replace(range.to_string()) {
            return Err(Error::input(format!(
                "subnet {} has two ranges, {other} and {range}",
                subnet.subnet
            ))
            .hint("give one range that spans both"));
        }
    }
    let mut file = NetworkFile {
        version: VERSION,
        name: None,
        driver: options.driver,
        parent: None,
        macvlan_mode: None,
        ipvlan_mode: None,
        ipvlan_flag: None,
        mtu: None,
        internal: options.internal,
        subnets,
    };
    for option in &options.option {
        set(&mut file, option)?;
    }
    Ok(file)
}

/// The subnet that `address` lies in, which is (the beginning of) the `what` called `whole`.
fn containing<'a>(
    subnets: &'a mut [SubnetFile],
    what: &str,
    address: IpAddr,
    whole: &dyn std::fmt::Display,
) -> Result<&'a mut SubnetFile> {
    subnets.iter_mut().find(|subnet| subnet.subnet.contains(&address)).ok_or_else(|| {
        Error::input(format!("{what} {whole} lies in none of the subnets"))
            .hint("give its subnet with --subnet")
    })
}

/// Sets what one `-o KEY=VALUE` says.
fn set(file: &mut NetworkFile, option: &str) -> Result<()> {
    let (key, value) = option.split_once('=').ok_or_else(|| {
        Error::new(Kind::Usage, format!("option {option:?} has no value")).hint("write -o KEY=VALUE")
    })?;
    fn word<T: FromStr<Err = Error>>(place: &mut Option<T>, key: &str, value: &str) -> Result<()> {
        let value = value.parse().map_err(|error: Error| error.within(format!("option {key}")))?;
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(Error::new(Kind::Usage, format!("option {key} is given twice"))),
        }
    }
    match (key, file.driver) {
        ("parent", _) => word::<IfName>(&mut file.parent, key, value),
        // podman's spelling, the same for both drivers.
        ("macvlan_mode", _) | ("mode", Driver::Macvlan) => word(&mut file.macvlan_mode, key, value),
        ("ipvlan_mode", _) | ("mode", Driver::Ipvlan) => word(&mut file.ipvlan_mode, key, value),
        ("ipvlan_flag", _) => word(&mut file.ipvlan_flag, key, value),
        ("mtu" | "com.docker.network.driver.mtu", _) => {
            let mtu =
                value.parse().map_err(|_| Error::input(format!("option {key}: {value:?} is no number")))?;
            file.mtu = Some(mtu);
            Ok(())
        }
        _ => Err(Error::new(Kind::Usage, format!("option {key:?} is not known"))
            .hint("use parent, macvlan_mode, ipvlan_mode, ipvlan_flag, mode, mtu")),
    }
}

fn list(store: &Store, quiet: bool, format: Format) -> Result<()> {
    let names = store.network_names()?;
    if quiet {
        return names.iter().try_for_each(|name| output::line(name.as_str()));
    }
    let mut networks = Vec::new();
    for name in &names {
        match store.network(name) {
            Ok(network) => networks.push(network),
            Err(error) => output::error(&error),
        }
    }
    if format == Format::Json {
        let files: Vec<_> = networks.iter().map(Network::to_file).collect();
        return output::json(&files);
    }
    let rows: Vec<_> = networks
        .iter()
        .map(|network| {
            let subnets: Vec<_> = network.subnets.iter().map(|subnet| subnet.net().to_string()).collect();
            [
                network.name.to_string(),
                network.driver.to_string(),
                network.parent.to_string(),
                subnets.join(","),
            ]
        })
        .collect();
    output::table(["NAME", "DRIVER", "PARENT", "SUBNETS"], &rows)
}

/// What `network inspect` shows of a network.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    definition: NetworkFile,
    containers: Vec<User<'a>>,
}

/// An attachment, seen from its network.
#[derive(Serialize)]
struct User<'a> {
    container: &'a ContainerId,
    ifname: &'a IfName,
    addresses: &'a [IpNet],
    mac: Option<MacAddr>,
    alive: bool,
}

fn inspect(store: &Store, names: &[NetworkName]) -> Result<()> {
    let records = store.records()?;
    let mut inspected = Vec::new();
    for name in names {
        let definition = store.network(name)?.to_file();
        let containers = records.iter().flat_map(|record| users(record, name)).collect();
        inspected.push(Inspected { definition, containers });
    }
    output::json(&inspected)
}

fn users<'a>(record: &'a Record, name: &'a NetworkName) -> impl Iterator<Item = User<'a>> {
    let alive = kernel::lives(&record.holder);
    record.attachments.iter().filter(move |attached| attached.network == *name).map(move |attached| User {
        container: &record.container,
        ifname: &attached.ifname,
        addresses: &attached.addresses,
        mac: attached.mac,
        alive,
    })
}

/// Removes each network that can be; the last failure is returned, the others are printed.
fn remove(store: &Store, names: &[NetworkName]) -> Result<()> {
    let mut outcome = Ok(());
    for name in names {
        let removed = remove_one(store, name);
        match removed {
            Ok(()) => output::line(name.as_str())?,
            Err(error) => {
                if let Err(previous) = std::mem::replace(&mut outcome, Err(error)) {
                    output::error(&previous);
                }
            }
        }
    }
    outcome
}

fn remove_one(store: &Store, name: &NetworkName) -> Result<()> {
    let locked = store.lock(store.settings()?.lock_timeout())?;
    if !store.has_network(name) {
        // The error for a network that is not there, with its hint.
        return store.network(name).map(drop);
    }
    let lives = |record: &Record| kernel::lives(&record.holder) || NetnsFile::of(&record.holder).is_some();
    let uses = |record: &&Record| record.attachments.iter().any(|attached| attached.network == *name);
    let records = store.records()?;
    if let Some(user) = records.iter().filter(uses).find(|record| lives(record)) {
        return Err(Error::new(
            Kind::Taken,
            format!("network {name} is in use by container {}", user.container),
        )
        .hint("stop it first; `underlay ps` shows what is attached"));
    }
    locked.remove_network(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn read(line: &str) -> Result<Network> {
        let words = std::iter::once("create").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| Error::new(Kind::Usage, error.to_string()))?;
        Network::new(&line.create.name, file(&line.create)?)
    }

    #[test]
    fn dockers_command_lines() {
        let network =
            read("-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net").unwrap();
        let text = serde_json::to_string(&network.to_file()).unwrap();
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
        assert!(network.internal && network.mtu == Some(1400));
        assert_eq!(
            read("-d ipvlan -o mode=l3 -o parent=a n").unwrap().driver.to_string(),
            "ipvlan mode l3 bridge"
        );
        assert_eq!(read("-o mode=vepa -o parent=a n").unwrap().driver.to_string(), "macvlan mode vepa");
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
            ("-o parent=a -o ipvlan_mode=l2 n", "ipvlan_mode: is no option of driver macvlan"),
            ("-o parent=a -o parent=b n", "option parent is given twice"),
            ("-o parent=a -o parnet=b n", "option \"parnet\" is not known"),
            ("-o parent n", "option \"parent\" has no value"),
            ("n", "parent: a network needs a parent link"),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), message, "{line}");
        }
        for line in ["-d bridge n", "--subnet 10.0.0/24 n", "--nosuchflag n", "", "a/b"] {
            assert_eq!(read(line).unwrap_err().kind(), Kind::Usage, "{line}");
        }
    }
}
