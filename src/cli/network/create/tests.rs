//! Command lines, and the definitions that they spell.

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

/// Each line, and the key `dhcp` of what it makes.
#[test]
fn where_addresses_come_from() {
    for (line, dhcp) in [
        ("n", None),
        ("--ipam-driver ledger --subnet 10.0.0.0/24 n", None),
        ("--ipam-driver host-local --subnet 10.0.0.0/24 n", None),
        ("--ipam-driver default n", None),
        ("--ipam-driver none n", None),
        ("--ipam-driver null n", None),
        ("--ipam-driver dhcp n", Some("{}")),
        ("--ipam-driver=dhcp --subnet 10.0.0.0/24 --gateway 10.0.0.1 n", Some("{}")),
        ("--ipam-driver dhcp -o dhcp_timeout=10 n", Some(r#"{"timeout":10}"#)),
        ("-o dhcp_timeout=10 n", Some(r#"{"timeout":10}"#)),
        ("-o dhcp_optional=true n", Some(r#"{"optional":true}"#)),
        ("-o dhcp_optional=false n", Some("{}")),
        ("-o dhcp_optional=yes n", Some(r#"{"optional":true}"#)),
        ("-o dhcp_optional=no n", Some("{}")),
        ("-o dhcp_client_id=identity n", Some("{}")),
        ("-o dhcp_client_id=mac n", Some(r#"{"client_id":"mac"}"#)),
        ("-o dhcp_client_id=web-1 n", Some(r#"{"client_id":"web-1"}"#)),
        ("-o dhcp_hostname=web n", Some(r#"{"hostname":"web"}"#)),
        ("-o dhcp_vendor_class=MSFT n", Some(r#"{"vendor_class":"MSFT"}"#)),
        ("-o dhcp_servers=192.168.1.1,192.168.1.2 n", Some(r#"{"servers":["192.168.1.1","192.168.1.2"]}"#)),
        ("-o dhcp_use=dns,routes n", Some(r#"{"use":["routes","dns"]}"#)),
        ("-o dhcp_use= n", Some(r#"{"use":[]}"#)),
        ("-o dhcp6=required n", Some(r#"{"dhcp6":"required"}"#)),
        ("-o dhcp6=no n", Some("{}")),
        (
            "-o dhcp_use=mtu -o dhcp_servers=10.0.0.1 -o dhcp_hostname=a.b -o dhcp_timeout=1 n",
            Some(r#"{"timeout":1,"hostname":"a.b","servers":["10.0.0.1"],"use":["mtu"]}"#),
        ),
    ] {
        let network = read(&format!("-o parent=eth0 {line}")).unwrap();
        let written = network.file.dhcp.map(|dhcp| serde_json::to_string(&dhcp).unwrap());
        assert_eq!(written.as_deref(), dhcp, "{line}");
    }
}

#[test]
fn what_an_import_prints_makes_the_same() {
    for sample in [
        include_str!("../../../import/samples/podman-macvlan.json"),
        include_str!("../../../import/samples/podman-ipvlan.json"),
        include_str!("../../../import/samples/podman-dhcp.json"),
        include_str!("../../../import/samples/docker-macvlan.json"),
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
        (
            "-o parent=a -o dhcp_timeout=27 n",
            "option dhcp_timeout: \"27\" is not a time limit from 1 to 26 seconds",
        ),
        (
            "-o parent=a -o dhcp_timeout=5s n",
            "option dhcp_timeout: \"5s\" is not a time limit from 1 to 26 seconds",
        ),
        ("-o parent=a -o dhcp_optional=y n", "option dhcp_optional: \"y\" is neither true nor false"),
        ("-o parent=a -o dhcp_client_id= n", "option dhcp_client_id: a client id of 0 bytes is not usable"),
        ("-o parent=a -o dhcp_hostname=-a n", "option dhcp_hostname: domain name \"-a\" is not usable"),
        ("-o parent=a -o dhcp_vendor_class= n", "option dhcp_vendor_class: vendor class \"\" is not usable"),
        ("-o parent=a -o dhcp_servers=::1 n", "option dhcp_servers: \"::1\" is no IPv4 address"),
        ("-o parent=a -o dhcp_servers= n", "option dhcp_servers: \"\" is no IPv4 address"),
        (
            "-o parent=a -o dhcp_servers=0.0.0.0 n",
            "dhcp: server 0.0.0.0 is an address of 0.0.0.0/8, this network: no host has it",
        ),
        ("-o parent=a -o dhcp6=true n", "option dhcp6: unknown use of DHCPv6 \"true\""),
        ("-o parent=a -o dhcp_use=routes,ntp n", "option dhcp_use: unknown part of a lease \"ntp\""),
        (
            "-o parent=a --ipam-driver ledger -o dhcp_timeout=9 n",
            "--ipam-driver ledger is given, and options of DHCP",
        ),
        (
            "-o parent=a --ipam-driver none -o dhcp_timeout=9 n",
            "--ipam-driver none is given, and options of DHCP",
        ),
        (
            "-o parent=a --ipam-driver none --subnet 10.0.0.0/24 n",
            "--ipam-driver none is given, and a subnet",
        ),
        ("--ipam-driver dhcp n", "dhcp: a network without a parent has no DHCP server"),
        (
            "-d ipvlan -o mode=l3 -o parent=a --ipam-driver dhcp n",
            "dhcp: ipvlan mode l3 bridge sends no broadcasts, by which servers are found",
        ),
        (
            "-o parent=a --ipam-driver dhcp --host-access n",
            "dhcp: host_access is not supported yet: the host's routes need addresses that are known in advance",
        ),
        (
            "-o parent=a --ipam-driver dhcp --subnet 10.0.0.0/24 --ip-range 10.0.0.8/30 n",
            "dhcp: no address is picked from ip_range 10.0.0.8-10.0.0.11: the server chooses",
        ),
    ] {
        assert_eq!(read(line).unwrap_err().to_string(), message, "{line}");
    }
    for line in ["-d bridge n", "--ipam-driver static n", "--subnet 10.0.0/24 n", "--nosuchflag n", "", "a/b"]
    {
        assert_eq!(read(line).unwrap_err().kind(), Kind::Usage, "{line}");
    }
}
