use super::*;

/// The line that makes a network, and what is lost; or why it is not made.
fn read(text: &str) -> String {
    let shown = |import: Result<Import>| match import {
        Ok(Import::Made(foreign)) => {
            let command = foreign.command().to_string();
            let command = command.strip_prefix("underlay network create ").unwrap();
            let lost = foreign.lost.join("; ");
            if lost.is_empty() { command.to_owned() } else { format!("{command} # {lost}") }
        }
        Ok(Import::Skipped(why)) => format!("skipped: {why}"),
        Err(error) => format!("refused: {error}"),
    };
    match networks(text, Some("eth7")) {
        Ok(all) => all.into_iter().map(shown).collect::<Vec<_>>().join("\n"),
        Err(error) => format!("error: {error}"),
    }
}

#[test]
fn podmans() {
    for (text, expected) in [
        (
            include_str!("samples/podman-macvlan.json"),
            "-d macvlan --subnet 192.168.1.0/24 --gateway 192.168.1.1 --ip-range 192.168.1.100-192.168.1.120 \
             --subnet 2001:db8:1::/64 --gateway 2001:db8:1::1 -o parent=eth0 -o bclim=8 -o metric=50 -o mode=private \
             -o mtu=1400 --route 10.9.0.0/16,192.168.1.254,7 --label team=web lan",
        ),
        (
            include_str!("samples/podman-ipvlan.json"),
            "-d ipvlan --subnet 10.20.0.0/24 -o parent=eth0 -o mode=l3 --internal backend",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "network_interface": "", "options": {"no_default_route": "1",
                "isolate": "true"}, "network_dns_servers": ["9.9.9.9"], "ipam_options": {"driver": "none"}}"#,
            "-d macvlan -o parent=eth7 -o no_default_route=true a # option isolate=true; name servers 9.9.9.9",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "network_interface": "eth0",
                "subnets": [{"subnet": "10.0.0.0/24", "lease_range": {"start_ip": "10.0.0.9"}}],
                "routes": [{"destination": "10.1.0.0/16", "route_type": "blackhole"}]}"#,
            "-d macvlan --subnet 10.0.0.0/24 --ip-range 10.0.0.9-10.0.0.255 -o parent=eth0 \
             --route 10.1.0.0/16,blackhole a",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "labels": {"-x": "it's, a=b"}}"#,
            r"-d macvlan -o parent=eth7 --label '-x=it'\''s, a=b' a",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "routes": [{"destination": "10.1.0.0/16", "gateway": "x"}]}"#,
            r#"refused: network a: {"destination":"10.1.0.0/16","gateway":"x"}: invalid IP address syntax"#,
        ),
        (
            include_str!("samples/podman-dhcp.json"),
            "-d macvlan --ipam-driver dhcp -o parent=eth0 -o mode=bridge home",
        ),
        (
            r#"{"name": "a", "driver": "ipvlan", "ipam_options": {"driver": "dhcp", "x": "y"}}"#,
            "-d ipvlan --ipam-driver dhcp -o parent=eth7 a # IPAM option x=y",
        ),
        (
            r#"{"name": "a", "driver": "macvlan", "ipam_options": {"driver": "none"}}"#,
            "-d macvlan -o parent=eth7 a",
        ),
        (r#"{"name": "podman", "driver": "bridge"}"#, "skipped: network podman has driver bridge"),
        (
            r#"{"name": "a", "driver": "macvlan", "subnets": [{"subnet": "10/8"}]}"#,
            r#"refused: network a: {"subnet":"10/8"} is no subnet"#,
        ),
    ] {
        assert_eq!(read(text), expected);
    }
    let no_route = networks(r#"{"name": "a", "driver": "macvlan"}"#, None).unwrap();
    assert!(matches!(&no_route[..], [Err(_)]), "{no_route:?}");
}

#[test]
fn dockers() {
    for (text, expected) in [
        (
            include_str!("samples/docker-macvlan.json"),
            "-d macvlan --subnet 172.16.86.0/24 --gateway 172.16.86.1 --ip-range 172.16.86.128/25 \
             --aux-address router2=172.16.86.200 --subnet 2001:db8:abc8::/64 --gateway 2001:db8:abc8::10 \
             -o macvlan_mode=bridge -o parent=eth0.50 --label team=web pub_net",
        ),
        (
            r#"[{"Name": "a", "Driver": "ipvlan", "EnableIPv6": false, "Internal": true, "Labels": null,
                "IPAM": {"Driver": "default", "Options": null, "Config": [{"Subnet": "10.0.0.0/24",
                "Gateway": "10.0.0.1/24"}, {"Subnet": "2001:db8::/64"}]},
                "Options": {"ipvlan_mode": "l3", "com.docker.network.driver.mtu": "1400", "x": "y"}},
               {"Name": "bridge", "Driver": "bridge"}, {"Name": "host", "Driver": "host"}]"#,
            "-d ipvlan --subnet 10.0.0.0/24 --gateway 10.0.0.1 -o mtu=1400 -o ipvlan_mode=l3 --internal a # subnet \
             2001:db8::/64, which Docker does not use, because EnableIPv6 is false; option x=y\n\
             skipped: network bridge has driver bridge\nskipped: network host has driver host",
        ),
        (
            r#"[{"Name": "a", "Driver": "macvlan", "IPAM": {"Driver": "ghcr.io/x/net-dhcp"}}]"#,
            "refused: network a: its addresses come from the IPAM driver ghcr.io/x/net-dhcp",
        ),
        (
            r#"[{"Name": "a", "Driver": "macvlan", "ConfigOnly": true}]"#,
            "refused: network a: it only lends its settings to other networks (--config-only)",
        ),
        ("[]", ""),
        ("{}", "error: there is no network in it"),
        ("[1]", "error: there is no network in it"),
        ("", "error: EOF while parsing a value at line 1 column 0"),
    ] {
        assert_eq!(read(text), expected);
    }
}

/// The same networks of the same engines, with our driver.
#[test]
fn recreated() {
    for (text, expected) in [
        (
            include_str!("samples/podman-macvlan.json"),
            "podman network rm lan\npodman network create -d underlay --ipv6 --subnet 192.168.1.0/24 --gateway 192.168.1.1 \
             --ip-range 192.168.1.100-192.168.1.120 --subnet 2001:db8:1::/64 --gateway 2001:db8:1::1 -o parent=eth0 \
             -o bclim=8 -o metric=50 -o mode=private -o mtu=1400 --route 10.9.0.0/16,192.168.1.254,7 --label team=web lan",
        ),
        (
            include_str!("samples/podman-ipvlan.json"),
            "podman network rm backend\npodman network create -d underlay -o driver=ipvlan --subnet 10.20.0.0/24 \
             -o parent=eth0 -o mode=l3 --internal backend",
        ),
        (
            include_str!("samples/podman-dhcp.json"),
            "podman network rm home\npodman network create -d underlay --ipam-driver dhcp -o parent=eth0 -o mode=bridge home",
        ),
        (
            include_str!("samples/docker-macvlan.json"),
            "docker network rm pub_net\ndocker network create -d underlay --ipam-driver underlay --ipv6 \
             --subnet 172.16.86.0/24 --gateway 172.16.86.1 --ip-range 172.16.86.128/25 --aux-address router2=172.16.86.200 \
             --subnet 2001:db8:abc8::/64 --gateway 2001:db8:abc8::10 -o macvlan_mode=bridge -o parent=eth0.50 \
             --label team=web pub_net",
        ),
    ] {
        let [one] = networks(text, Some("eth7")).unwrap().try_into().unwrap();
        let Ok(Import::Made(foreign)) = one else { panic!("{one:?}") };
        assert_eq!(foreign.recreate().map(|line| line.to_string()).join("\n"), expected);
    }
}
