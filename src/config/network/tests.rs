//! Definitions that are read, and those that are refused.

use super::*;
use crate::net::link::eth0;

fn read(text: &str) -> Result<Network> {
    Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
}

#[test]
fn a_full_definition_round_trips() {
    let network = read(
        r#"{"version": 1, "name": "lan", "driver": "ipvlan", "parent": "eth0", "ipvlan_mode": "l3s",
            "ipvlan_flag": "private", "mtu": 1400, "internal": true, "metric": 7,
            "no_default_route": true, "labels": {"a": "b"},
            "required_annotations": {"io.example.team": "web-*"},
            "routes": [{"to": "10.9.0.0/16", "via": "10.0.0.2", "metric": 5}], "subnets": [
            {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.128/25"},
            {"subnet": "2001:db8::/64", "aux_addresses": {"printer": "2001:db8::9"}}]}"#,
    )
    .unwrap();
    assert_eq!(network.driver, Driver::Ipvlan { mode: IpvlanMode::L3s, flag: IpvlanFlag::Private });
    assert_eq!((network.file.mtu, network.file.internal, network.subnets.len()), (Some(1400), true, 2));
    let text = serde_json::to_string(&network.file).unwrap();
    assert_eq!(read(&text).unwrap(), network);
}

#[test]
fn defaults_are_dockers() {
    let network = read(r#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#).unwrap();
    assert_eq!(network.driver, Driver::Macvlan { mode: MacvlanMode::Bridge });
    let network = read(r#"{"version": 1, "driver": "ipvlan", "parent": "eth0"}"#).unwrap();
    assert_eq!(network.driver, Driver::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge });
    assert!(!network.file.internal && network.file.mtu.is_none() && network.subnets.is_empty());
}

#[test]
fn required_annotations() {
    let network = |required: &str| {
        read(&format!(r#"{{"version": 1, "driver": "macvlan", "required_annotations": {required}}}"#))
            .unwrap()
    };
    for (required, given, admitted) in [
        ("{}", &[][..], true),
        (r#"{"team": "web-*"}"#, &[("team", "web-1"), ("other", "x")], true),
        (r#"{"team": "web-*"}"#, &[("team", "db")], false),
        (r#"{"team": "web-*"}"#, &[("Team", "web-1")], false),
        (r#"{"team": "*"}"#, &[], false),
        (r#"{"team": "*"}"#, &[("team", "")], true),
        (r#"{"team": "a", "tier": "[ab]"}"#, &[("team", "a")], false),
        (r#"{"team": "a", "tier": "[ab]"}"#, &[("team", "a"), ("tier", "b")], true),
    ] {
        let annotations = given.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        assert_eq!(network(required).admit(&annotations).is_ok(), admitted, "{required} {given:?}");
    }
    let error = network(r#"{"team": "secret"}"#).admit(&BTreeMap::new()).unwrap_err();
    assert_eq!(error.to_string(), "required_annotations: network lan is not for this container");
    assert!(!format!("{error:?}").contains("secret") && !format!("{error:?}").contains("team"));
}

#[test]
fn mistakes_name_their_key() {
    for (text, message) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        (r#"{"driver": "macvlan"}"#, "missing field `version` at line 1 column 21"),
        (r#"{"version": 2, "news": 1}"#, "version 2 is not known"),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "mtuu": 5}"#,
            "mtuu: unknown field `mtuu`, expected one of `version`, `name`, `driver`, `parent`, `vlan`, `vlans`, `vlan_protocol`, \
             `macvlan_mode`, `ipvlan_mode`, `ipvlan_flag`, `mtu`, `bclim`, `txqueuelen`, `bcqueuelen`, `source_macs`, `sysctls`, \
             `conflict_detection`, `probe_ahead`, `announcements`, `internal`, `no_default_route`, `table`, `metric`, `ipv6`, `dhcp`, `subnets`, `routes`, \
             `host_access`, `required_annotations`, `reservations`, `labels` at line 1 column 60",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "required_annotations": {"io.example.team": "a["}}"#,
            "required_annotations.io.example.team: pattern \"a[\" is not usable: invalid range pattern at line 1 \
             column 85",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "mtu": "big"}"#,
            "mtu: invalid type: string \"big\", expected u32 at line 1 column 66",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10/8"}]}"#,
            "subnets[0].subnet: subnet \"10/8\" is not usable at line 1 column 84",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "a/b"}"#,
            "parent: interface name \"a/b\" is not usable at line 1 column 52",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "name": "wan"}"#,
            "name: the network is called lan here, not wan",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "ipvlan_mode": "l2"}"#,
            "ipvlan_mode: is not an option of driver macvlan",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "mtu": 67}"#,
            "mtu: 67 is not between 68 and 65535",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0",
                "subnets": [{"subnet": "10.0.0.0/8"}, {"subnet": "10.1.0.0/16"}]}"#,
            "subnets: 10.0.0.0/8 and 10.1.0.0/16 overlap",
        ),
        (
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.0.0.1/8"}]}"#,
            "subnets: subnet 10.0.0.1/8 has host bits set",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), message, "{text}");
    }
}

/// Whichever comes first: addresses would be handed out twice.
#[test]
fn subnets_that_overlap() {
    let said = |subnets: &[&str]| {
        let list: Vec<_> = subnets.iter().map(|net| format!(r#"{{"subnet": "{net}"}}"#)).collect();
        let text = format!(r#"{{"version": 1, "driver": "macvlan", "subnets": [{}]}}"#, list.join(","));
        read(&text).map(drop).map_err(|error| error.to_string())
    };
    for (one, other) in [
        ("10.0.0.0/8", "10.1.0.0/16"),
        ("10.1.0.0/16", "10.0.0.0/8"),
        ("10.0.0.0/24", "10.0.0.0/24"),
        ("2001:db8::/64", "2001:db8::/32"),
        ("10.0.0.0/24", "10.0.0.255/32"),
    ] {
        let expected = Err(format!("subnets: {one} and {other} overlap"));
        assert_eq!(said(&[one, other]), expected);
        assert_eq!(said(&["192.0.2.0/24", one, "2001:db8:ff::/48", other]), expected, "with others between");
    }
    for apart in
        [["10.0.0.0/24", "10.0.1.0/24"], ["10.1.0.0/16", "10.0.0.0/16"], ["2001:db8::/32", "10.0.0.0/8"]]
    {
        assert_eq!(said(&apart), Ok(()));
    }
}

/// They are compared with each other, so that a file of 4 MiB would keep the hook busy for long.
#[test]
fn as_many_as_are_possible() {
    let list =
        |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(",");
    let subnets = |count| {
        let subnet = |n: usize| format!(r#"{{"subnet": "10.{}.{}.0/24"}}"#, n / 256, n % 256);
        format!(r#""subnets": [{}]"#, list(count, &subnet))
    };
    let routes = |count| {
        let route = |n: usize| format!(r#"{{"to": "10.{}.{}.0/24", "type": "blackhole"}}"#, n / 256, n % 256);
        format!(r#""routes": [{}]"#, list(count, &route))
    };
    // Of the subnet that has most, not of the first.
    let aux = |count| {
        let address = |n: usize| format!(r#""n{n}": "10.0.{}.{}""#, n / 256, n % 256);
        let most = format!(r#"{{"subnet": "10.0.0.0/16", "aux_addresses": {{{}}}}}"#, list(count, &address));
        format!(r#""subnets": [{{"subnet": "10.1.0.0/16"}}, {most}, {{"subnet": "10.2.0.0/16"}}]"#)
    };
    let keys: [(&str, &dyn Fn(usize) -> String); 3] =
        [("subnets", &subnets), ("routes", &routes), ("aux_addresses", &aux)];
    for (key, text) in keys {
        let read = |count| read(&format!(r#"{{"version": 1, "driver": "macvlan", {}}}"#, text(count)));
        assert!(read(256).is_ok(), "{key}");
        let error = read(257).unwrap_err().to_string();
        assert_eq!(error, format!("{key}: 257 are too many, 256 are possible"));
    }
    // Those that a container asks for itself have the same bound.
    let network = read(r#"{"version": 1, "driver": "macvlan"}"#).unwrap();
    let own = |count: usize| {
        let route = |n: usize| Route::short(&format!("10.{}.{}.0/24@blackhole", n / 256, n % 256)).unwrap();
        network.check_routes(&(0..count).map(route).collect::<Vec<_>>())
    };
    assert_eq!(own(256), Ok(()));
    assert_eq!(own(257).unwrap_err().to_string(), "routes: 257 are too many, 256 are possible");
}

#[test]
fn bounds_of_numbers() {
    let read = |keys: &str| read(&format!(r#"{{"version": 1, {keys}}}"#)).map_err(|error| error.to_string());
    for mtu in [68, 1500, 65535] {
        assert_eq!(read(&format!(r#""driver": "macvlan", "mtu": {mtu}"#)).unwrap().file.mtu, Some(mtu));
    }
    for mtu in [0, 67, 65536] {
        let said = read(&format!(r#""driver": "macvlan", "mtu": {mtu}"#)).unwrap_err();
        assert_eq!(said, format!("mtu: {mtu} is not between 68 and 65535"));
    }
    assert_eq!(read(r#""driver": "macvlan", "bclim": -1"#).unwrap().file.bclim, Some(-1));
    assert_eq!(
        read(r#""driver": "ipvlan", "bclim": -1"#).unwrap_err(),
        "bclim: is not an option of driver ipvlan"
    );
    for (key, value) in [("ipvlan_mode", "l2"), ("ipvlan_flag", "private")] {
        let said = read(&format!(r#""driver": "macvlan", "{key}": "{value}""#)).unwrap_err();
        assert_eq!(said, format!("{key}: is not an option of driver macvlan"));
    }
    let said = read(r#""driver": "ipvlan", "macvlan_mode": "bridge""#).unwrap_err();
    assert_eq!(said, "macvlan_mode: is not an option of driver ipvlan");
}

/// The host would have it for good, and its owner never.
#[test]
fn the_hosts_address_is_nobodys() {
    let read = |access: &str| {
        read(&format!(
            r#"{{"version": 1, "driver": "macvlan", "host_access": {access},
                "subnets": [{{"subnet": "10.0.0.0/24"}}, {{"subnet": "2001:db8::/64"}}],
                "reservations": {{"db": {{"addresses": ["10.0.0.9", "2001:db8::9"]}}}}}}"#
        ))
        .map(drop)
        .map_err(|error| error.to_string())
    };
    for access in ["true", r#""10.0.0.8""#, r#"["10.0.0.8", "2001:db8::8"]"#] {
        assert_eq!(read(access), Ok(()), "{access}");
    }
    for (access, address) in
        [(r#""10.0.0.9""#, "10.0.0.9"), (r#"["10.0.0.8", "2001:db8::9"]"#, "2001:db8::9")]
    {
        assert_eq!(read(access), Err(format!("host_access address {address} is reserved for db")));
    }
}

/// Providers route a subnet to a host without having an address in it.
#[test]
fn gateways_on_the_link() {
    let read = |subnet: &str| {
        let text = format!(
            r#"{{"version": 1, "driver": "macvlan", "subnets": [{{"subnet": "10.0.0.0/24", {subnet}}}]}}"#
        );
        read(&text).map_err(|error| error.to_string())
    };
    let network = read(r#""gateway": "192.0.2.1", "onlink": true"#).unwrap();
    let subnet = &network.subnets[0];
    assert_eq!((subnet.gateway(), subnet.has_onlink_gateway()), (Some([192, 0, 2, 1].into()), true));
    let again = serde_json::to_string(&network.file).unwrap();
    assert_eq!(Network::from_json(&network.name, again.as_bytes()).unwrap(), network);
    assert!(!read(r#""gateway": "10.0.0.1""#).unwrap().subnets[0].has_onlink_gateway());
    for (subnet, message) in [
        (r#""gateway": "192.0.2.1""#, "gateway 192.0.2.1 is not in subnet 10.0.0.0/24"),
        (r#""onlink": true"#, "subnet 10.0.0.0/24 has an onlink gateway, and no gateway"),
        (
            r#""gateway": "2001:db8::1", "onlink": true"#,
            "route to 10.0.0.0/24 leads to 2001:db8::1, of the other family",
        ),
        (
            r#""gateway": "224.0.0.1", "onlink": true"#,
            "route to 10.0.0.0/24 leads to 224.0.0.1, which cannot be a router",
        ),
    ] {
        let error = read(subnet).unwrap_err();
        assert!(error.starts_with("subnets: ") && error.contains(message), "{subnet}: {error}");
    }
}

#[test]
fn ipv6() {
    let read = |text: &str| read(&format!(r#"{{"version": 1, "parent": "eth0", {text}}}"#));
    let network = read(r#""driver": "macvlan", "ipv6": "slaac-stable""#).unwrap();
    let text = serde_json::to_string(&network.file).unwrap();
    assert!(text.contains(r#""ipv6":"slaac-stable""#), "{text}");
    assert_eq!(self::read(&text).unwrap(), network);
    for (text, message) in [
        (
            r#""driver": "macvlan", "ipv6": "off", "subnets": [{"subnet": "2001:db8::/64"}]"#,
            "ipv6: off, and subnet 2001:db8::/64 is an IPv6 subnet",
        ),
        (
            r#""driver": "ipvlan", "ipvlan_mode": "l3", "ipv6": "slaac""#,
            "ipv6: ipvlan mode l3 bridge receives no router advertisements",
        ),
        (
            r#""driver": "macvlan", "ipv6": "on""#,
            "ipv6: unknown variant `on`, expected one of `off`, `slaac`, `slaac-stable`, `slaac-privacy` at line 1 column 66",
        ),
    ] {
        assert_eq!(read(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn the_mtu_of_a_parent() {
    let network = read(r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "mtu": 1500}"#).unwrap();
    let check = |link: &Link| network.check_parent(link).map_err(|error| error.to_string());
    assert_eq!(check(&eth0()), Ok(()));
    for (link, message) in [
        (Link { mtu: 1400, ..eth0() }, "mtu 1500 of network lan is above the 1400 of parent eth0"),
        (Link { mtu: 1400, loopback: true, ..eth0() }, "parent eth0 is a loopback link"),
    ] {
        assert_eq!(check(&link), Err(message.to_owned()));
    }
}

fn on_macvlan(keys: &str) -> Result<Network> {
    read(&format!(r#"{{"version": 1, "driver": "macvlan", {keys}}}"#))
}

fn chosen(keys: &str, asked: Option<u16>) -> Result<String> {
    let network = on_macvlan(keys)?.on_vlan(asked.map(|id| VlanId::try_from(id).unwrap()))?;
    Ok(network.parent.to_string())
}

#[test]
fn the_link_of_a_vlan() {
    for (keys, asked, parent) in [
        (r#""parent": "eth0""#, None, "eth0"),
        (r#""parent": "eth0", "vlan": 50"#, None, "eth0.50"),
        (r#""parent": "eth0", "vlan": 50"#, Some(50), "eth0.50"),
        (r#""parent": "eth0", "vlan": 50, "vlans": "100-199,210""#, None, "eth0.50"),
        (r#""parent": "eth0", "vlan": 50, "vlans": "100-199,210""#, Some(150), "eth0.150"),
        (r#""parent": "eth0", "vlans": "100-199, 210""#, Some(210), "eth0.210"),
        (r#""parent": "eth0.10", "vlan": 20"#, None, "eth0.10.20"),
        (r#""parent": "eth0", "vlan": 10, "vlan_protocol": "802.1ad""#, None, "eth0.ad10"),
        (r#""parent": "eth0.ad10", "vlans": "1-4094""#, Some(4094), "eth0.ad10.4094"),
    ] {
        assert_eq!(chosen(keys, asked).unwrap(), parent, "{keys}");
    }
    let long = chosen(r#""parent": "enp195s0f1np1", "vlan": 1234"#, None).unwrap();
    assert!(long.len() == 15 && long.starts_with("vl-") && long.ends_with("-1234"), "{long}");
    assert_ne!(long, chosen(r#""parent": "enp195s0f1np2", "vlan": 1234"#, None).unwrap());
}

#[test]
fn vlans_round_trip() {
    let network = on_macvlan(r#""parent": "eth0", "vlan": 5, "vlans": "7,9-11", "vlan_protocol": "802.1ad""#);
    let network = network.unwrap();
    let text = serde_json::to_string(&network.file).unwrap();
    assert!(text.contains(r#""parent":"eth0","vlan":5,"vlans":"7,9-11","vlan_protocol":"802.1ad""#));
    assert_eq!(read(&text).unwrap(), network);
    let recipe = network.recipe().unwrap().unwrap();
    assert_eq!(recipe.to_string(), "802.1ad VLAN 5 of eth0");
    // Of many VLANs only the link that carries them is known.
    assert_eq!(on_macvlan(r#""parent": "eth0", "vlans": "7""#).unwrap().recipe(), Ok(None));
}

#[test]
fn mistakes_with_vlans() {
    for (keys, asked, message) in [
        (r#""parent": "eth0""#, Some(5), "network lan has no VLAN 5"),
        (r#""parent": "eth0", "vlan": 5"#, Some(6), "network lan has no VLAN 6"),
        (r#""parent": "eth0", "vlans": "7-9""#, Some(6), "network lan has no VLAN 6"),
        (r#""parent": "eth0", "vlans": "7-9""#, None, "network lan has VLANs 7-9, and none is asked for"),
        (r#""vlan": 5"#, None, "vlan: the network has no parent that could carry VLANs"),
        (r#""parent": "eth0", "vlan_protocol": "802.1Q""#, None, "vlan_protocol: the network has no VLAN"),
    ] {
        assert_eq!(chosen(keys, asked).unwrap_err().to_string(), message, "{keys}");
    }
    let hint = chosen(r#""parent": "eth0", "vlans": "7-9""#, None).unwrap_err();
    assert_eq!(hint.hint_text(), Some("ask for one, like lan:vlan=7"));
    for (keys, message) in [
        (r#""parent": "eth0", "vlan": 0"#, "vlan: 0 is not a VLAN id"),
        (r#""parent": "eth0", "vlan": 4095"#, "vlan: 4095 is not a VLAN id"),
        (r#""parent": "eth0", "vlans": """#, "vlans: \"\" is not a VLAN id"),
        (r#""parent": "eth0", "vlans": "9-7""#, "vlans: VLANs 9-7 are not in ascending order"),
        (r#""parent": "eth0", "vlans": "7-""#, "vlans: \"\" is not a VLAN id"),
        (r#""parent": "eth0", "vlan": 5, "vlan_protocol": "x""#, "vlan_protocol: unknown variant `x`"),
    ] {
        let error = on_macvlan(keys).unwrap_err().to_string();
        assert!(error.starts_with(message), "{keys}: {error}");
    }
}

/// What cannot work is refused when it is written.
#[test]
fn what_cannot_work() {
    for (keys, said) in [
        (
            r#""mtu": 1279, "subnets": [{"subnet": "2001:db8::/64"}]"#,
            "mtu: 1279 is below 1280, which IPv6 needs",
        ),
        (r#""mtu": 1279, "ipv6": "slaac""#, "mtu: 1279 is below 1280, which IPv6 needs"),
        (r#""mtu": 1279, "dhcp": {"dhcp6": "yes"}"#, "mtu: 1279 is below 1280, which IPv6 needs"),
        (r#""mtu": 1279, "subnets": [{"subnet": "10.0.0.0/24"}], "ipv6": "off""#, ""),
        (
            r#""subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}], "routes": [{"to": "10.0.0.0/24", "via": "10.0.0.1"}]"#,
            "routes: route to 10.0.0.0/24 is to the network's own subnet",
        ),
        (
            r#""subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}], "routes": [{"to": "10.0.0.128/25", "via": "10.0.0.1"}]"#,
            "",
        ),
        (
            r#""subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.1-10.0.0.1"}]"#,
            "subnets: 10.0.0.1-10.0.0.1 has no address for a container",
        ),
        (
            r#""subnets": [{"subnet": "10.0.0.7/32", "gateway": "10.0.0.7"}]"#,
            "subnets: 10.0.0.7/32 has no address for a container",
        ),
        (r#""subnets": [{"subnet": "10.0.0.7/32"}]"#, ""),
        (
            r#""subnets": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.7/32"}], "host_access": true"#,
            "host_access: 10.0.0.7-10.0.0.7 has one address, and the host needs one beside the container",
        ),
        (
            r#""subnets": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.7/32"}], "host_access": "10.0.0.8""#,
            "",
        ),
        (
            r#""subnets": [{"subnet": "2001:db8::/0"}]"#,
            "subnets: subnet 2001:db8::/0 has all addresses of its family",
        ),
        (
            r#""subnets": [{"subnet": "192.168.010.0/24"}]"#,
            "subnets[0].subnet: subnet \"192.168.010.0/24\" is not usable",
        ),
    ] {
        let text = format!(r#"{{"version": 1, "driver": "macvlan", "parent": "eth0", {keys}}}"#);
        let read = Network::from_json(&"lan".parse().unwrap(), text.as_bytes());
        let found = read.map_or_else(|error| error.to_string(), |_| String::new());
        assert!(found.starts_with(said) && found.is_empty() == said.is_empty(), "{keys}: {found}");
    }
}
