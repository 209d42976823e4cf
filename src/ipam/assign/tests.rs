//! Names and routes of attachments, by tables.

use super::*;
use crate::net::ipv6::Ipv6;
use crate::oci::annotations;

fn requests(text: &str) -> Vec<Attachment> {
    let annotations = annotations::Annotations::from([(annotations::NETWORKS.to_owned(), text.to_owned())]);
    crate::oci::annotation_set::RawRequest::of(&annotations).unwrap().read().unwrap().attachments
}

#[track_caller]
fn check_names(text: &str, present: &[&str], expected: &[&str]) {
    let present = present.iter().map(|&name| name.to_owned()).collect();
    let got: Vec<_> = names(requests(text).iter(), &present).unwrap().iter().map(IfName::to_string).collect();
    assert_eq!(got, expected);
}

#[test]
fn link_names() {
    check_names("a", &["lo"], &["eth0"]);
    check_names("a;b", &["lo"], &["eth0", "eth1"]);
    check_names("a;b", &["lo", "eth0"], &["eth1", "eth2"]);
    check_names("a;b;c", &["lo", "eth1"], &["eth0", "eth2", "eth3"]);
    check_names("a;b:ifname=eth0;c", &["lo"], &["eth1", "eth0", "eth2"]);
    check_names("a:ifname=up;b", &["lo"], &["up", "eth0"]);
    let present = BTreeSet::from(["lan".to_owned()]);
    assert!(names(requests("a:ifname=lan").iter(), &present).is_err());
    assert!(names(requests("a:ifname=x;b:ifname=x").iter(), &present).is_err());
}

/// `(keys of the network, options asked for, addresses)` of each attachment, with the routes it is given.
fn routed(cases: &[(&str, &str, &[&str])], present: DefaultRoutes) -> Vec<Attached> {
    let mut all_wanted = Vec::new();
    let mut all_attached = Vec::new();
    for (keys, options, addresses) in cases {
        let text = format!(
            r#"{{"version": 1, {keys} "subnets": [
                {{"subnet": "10.0.0.0/24"}}, {{"subnet": "10.1.0.0/24", "gateway": "10.1.0.1"}},
                {{"subnet": "10.2.0.0/24", "gateway": "10.2.0.1"}},
                    {{"subnet": "10.3.0.0/24", "gateway": "192.0.2.1", "onlink": true}},
                {{"subnet": "2001:db8::/64", "gateway": "2001:db8::1"}},
                {{"subnet": "2001:db8:1::/64"}}]}}"#
        );
        let network = Network::from_json(&"n".parse().unwrap(), text.as_bytes()).unwrap();
        let request = requests(&format!("n{options}")).remove(0);
        let ifname = IfName::eth(all_wanted.len());
        all_attached.push(Attached {
            host_link: None,
            network: network.name.clone(),
            driver: network.driver,
            parent: network.parent.clone(),
            parent_index: 2,
            segment: 2,
            ifname: ifname.clone(),
            ifindex: None,
            mac: None,
            mtu: None,
            bclim: None,
            tuning: crate::net::link_options::LinkOptions::default(),
            detection: None,
            asked: crate::ledger::asked::Asked::default(),
            carrier_ups: 0,
            announcements: 0,
            advertised: Advertised {
                slaac: network.file.ipv6.and_then(Ipv6::slaac),
                ..Advertised::default()
            },
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            picked: Vec::new(),
            former: Vec::new(),
            claimed: Vec::new(),
            dhcp: None,
            dhcp6: None,
            routes: Vec::new(),
            table: None,
        });
        let parent = crate::net::link::eth0();
        all_wanted.push(ResolvedAttachment {
            request,
            network,
            parent,
            ifname,
            previous: PreviousAddresses::default(),
        });
    }
    routes(&all_wanted, &mut all_attached, present);
    all_attached
}

/// `(keys of the network, gw-priority, addresses)` of each attachment → its default routes.
#[track_caller]
fn check_routes(cases: &[(&str, i32, &[&str])], present: DefaultRoutes, expected: &[&[&str]]) {
    let options: Vec<_> =
        cases.iter().map(|(_, gw_priority, _)| format!(":gw-priority={gw_priority}")).collect();
    let cases = cases
        .iter()
        .zip(&options)
        .map(|(&(keys, _, addresses), options)| (keys, options.as_str(), addresses));
    let all_attached = routed(&cases.collect::<Vec<_>>(), present);
    let text = |route: &Route| route.via.map_or_else(|| format!("dev {}", route.to), |via| via.to_string());
    let advertised = |attached: &Attached| attached.advertised.default_route.then(|| "ra".to_owned());
    let got: Vec<Vec<String>> =
        all_attached.iter().map(|a| a.routes.iter().map(text).chain(advertised(a)).collect()).collect();
    assert_eq!(got, expected);
}

#[test]
fn one_default_route_per_family() {
    let none = DefaultRoutes::default();
    let (mac, l3) = (
        r#""parent": "eth0", "driver": "macvlan","#,
        r#""parent": "eth0", "driver": "ipvlan", "ipvlan_mode": "l3","#,
    );
    let internal = r#""parent": "eth0", "driver": "macvlan", "internal": true,"#;
    check_routes(&[(mac, 0, &["10.1.0.9/24"])], none, &[&["10.1.0.1"]]);
    check_routes(&[(mac, 0, &["10.0.0.9/24"])], none, &[&[]]);
    check_routes(&[(mac, 0, &["10.0.0.9/24", "10.2.0.9/24"])], none, &[&["10.2.0.1"]]);
    check_routes(&[(internal, 0, &["10.1.0.9/24"])], none, &[&[]]);
    check_routes(&[(l3, 0, &["10.1.0.9/24", "2001:db8::9/64"])], none, &[&["dev 0.0.0.0/0", "dev ::/0"]]);
    check_routes(&[(mac, 0, &["10.1.0.9/24"]), (mac, 0, &["10.2.0.9/24"])], none, &[&["10.1.0.1"], &[]]);
    check_routes(&[(mac, 0, &["10.1.0.9/24"]), (mac, 1, &["10.2.0.9/24"])], none, &[&[], &["10.2.0.1"]]);
    check_routes(
        &[(mac, -1, &["10.1.0.9/24", "2001:db8::9/64"]), (mac, 0, &["10.2.0.9/24"])],
        none,
        &[&["2001:db8::1"], &["10.2.0.1"]],
    );
    let inside = r#""parent": "eth0", "driver": "ipvlan", "ipvlan_mode": "l3", "internal": true,"#;
    check_routes(
        &[(inside, 0, &["10.1.0.9/24"])],
        none,
        &[&["dev 10.0.0.0/24", "dev 10.2.0.0/24", "dev 10.3.0.0/24"]],
    );
    let v4 = DefaultRoutes { v4: true, v6: false };
    check_routes(&[(mac, 0, &["10.1.0.9/24", "2001:db8::9/64"])], v4, &[&["2001:db8::1"]]);
    check_routes(&[(mac, 1, &["10.1.0.9/24"])], v4, &[&["10.1.0.1"]]);
    let aside = r#""parent": "eth0", "driver": "macvlan", "no_default_route": true,"#;
    check_routes(&[(aside, 5, &["10.1.0.9/24"]), (mac, 0, &["10.2.0.9/24"])], none, &[&[], &["10.2.0.1"]]);
    let routes =
        r#""parent": "eth0", "driver": "macvlan", "routes": [{"to": "10.9.0.0/16", "via": "10.1.0.2"}],"#;
    check_routes(&[(routes, 0, &["10.1.0.9/24"])], none, &[&["10.1.0.1", "10.1.0.2"]]);
    check_routes(&[(routes, 0, &["10.2.0.9/24"])], none, &[&["10.2.0.1"]]);
    check_routes(&[(mac, 9, &["10.0.0.9/24"]), (mac, 0, &["10.2.0.9/24"])], none, &[&[], &["10.2.0.1"]]);
}

#[test]
fn a_default_route_that_a_router_advertises() {
    let none = DefaultRoutes::default();
    let (mac, slaac) = (
        r#""parent": "eth0", "driver": "macvlan","#,
        r#""parent": "eth0", "driver": "macvlan", "ipv6": "slaac","#,
    );
    let (without, with) = ("2001:db8:1::9/64", "2001:db8::9/64");
    check_routes(&[(mac, 0, &[without])], none, &[&["ra"]]);
    check_routes(&[(slaac, 0, &["10.1.0.9/24"])], none, &[&["10.1.0.1", "ra"]]);
    check_routes(&[(slaac, 0, &[with])], none, &[&["2001:db8::1"]]);
    check_routes(&[(mac, 0, &[without]), (mac, 0, &[with])], none, &[&[], &["2001:db8::1"]]);
    check_routes(&[(mac, 1, &[without]), (mac, 0, &[with])], none, &[&["ra"], &[]]);
    check_routes(&[(slaac, 0, &[]), (slaac, 0, &[])], none, &[&["ra"], &[]]);
    check_routes(&[(slaac, 0, &[])], DefaultRoutes { v4: false, v6: true }, &[&[]]);
    check_routes(
        &[(r#""parent": "eth0", "driver": "macvlan", "ipv6": "slaac", "internal": true,"#, 0, &[])],
        none,
        &[&[]],
    );
}
/// A dummy link leads nowhere, whatever gateway its subnets have, and no router is heard on it.
#[test]
fn no_way_out_of_a_dummy() {
    let dummy = r#""driver": "macvlan","#;
    let none = DefaultRoutes::default();
    check_routes(&[(dummy, 0, &["10.1.0.9/24", "2001:db8::9/64", "2001:db8:1::9/64"])], none, &[&[]]);
    check_routes(&[(r#""driver": "macvlan", "ipv6": "slaac","#, 5, &[])], none, &[&[]]);
    let routed = r#""driver": "ipvlan", "ipvlan_mode": "l3","#;
    check_routes(
        &[(routed, 0, &["10.1.0.9/24"])],
        none,
        &[&["dev 10.0.0.0/24", "dev 10.2.0.0/24", "dev 10.3.0.0/24"]],
    );
}

#[test]
fn who_takes_a_default_route_from_a_router() {
    let none = DefaultRoutes::default();
    for (keys, options, address, advertised) in [
        (r#""driver": "macvlan","#, "", "2001:db8:1::9/64", true),
        (r#""driver": "ipvlan","#, "", "2001:db8:1::9/64", true),
        (r#""driver": "macvlan","#, ":default-route=no", "2001:db8:1::9/64", false),
        (r#""driver": "macvlan", "no_default_route": true,"#, "", "2001:db8:1::9/64", false),
        (r#""driver": "macvlan", "internal": true,"#, "", "2001:db8:1::9/64", false),
        (r#""driver": "ipvlan", "ipvlan_mode": "l3","#, "", "2001:db8:1::9/64", false),
        (r#""driver": "macvlan","#, "", "10.0.0.9/24", false),
    ] {
        let keys = format!(r#""parent": "eth0", "metric": 7, {keys}"#);
        let attached = routed(&[(&keys, options, &[address])], none).remove(0);
        let metric = advertised.then_some(7);
        let expected = Advertised { default_route: advertised, metric, ..Advertised::default() };
        assert_eq!(attached.advertised, expected, "{keys} {options}");
    }
}

/// The options asked for and the addresses of an attachment to a network of these `keys` → its table.
#[track_caller]
fn check_table(keys: &str, options: &str, addresses: &[&str], expected: Option<(u32, &[&str])>) {
    let keys = format!(r#""parent": "eth0", {keys}"#);
    let attached = routed(&[(&keys, options, addresses)], DefaultRoutes::default()).remove(0);
    let got = attached
        .table
        .map(|Table { id, routes }| (id.into(), routes.iter().map(Route::to_string).collect::<Vec<_>>()));
    let text = |&route: &&str| route.to_owned();
    assert_eq!(got, expected.map(|(id, routes)| (id, routes.iter().map(text).collect())), "{keys} {options}");
}

#[test]
fn tables_of_their_own() {
    let (mac, with) = (r#""driver": "macvlan","#, r#""driver": "macvlan", "table": 101,"#);
    let v4: &[&str] = &["10.1.0.9/24"];
    check_table(mac, "", v4, None);
    check_table(with, "", v4, Some((101, &["10.1.0.0/24", "default via 10.1.0.1"])));
    check_table(with, ":table=102", v4, Some((102, &["10.1.0.0/24", "default via 10.1.0.1"])));
    // The address alone is no subnet: the kernel has a local route to it.
    check_table(
        with,
        "",
        &["10.1.0.9/32", "2001:db8::9/128"],
        Some((101, &["default via 10.1.0.1", "default via 2001:db8::1"])),
    );
    check_table(
        with,
        "",
        &["10.1.0.8/31", "10.0.0.9/24"],
        Some((101, &["10.1.0.8/31", "10.0.0.0/24", "default via 10.1.0.1"])),
    );
    // Its default route is there also where another attachment gives that of the main table.
    let aside = r#""driver": "macvlan", "table": 101, "no_default_route": true, "metric": 7,"#;
    check_table(aside, "", v4, Some((101, &["10.1.0.0/24", "default via 10.1.0.1 metric 7"])));
    let inside = r#""driver": "macvlan", "table": 101, "internal": true,"#;
    check_table(inside, "", v4, Some((101, &["10.1.0.0/24"])));
    // What the network and the container have of routes, each once.
    let routes = r#""driver": "macvlan", "table": 101,
        "routes": [{"to": "10.9.0.0/16", "via": "10.1.0.2"}, {"to": "10.8.0.0/16", "via": "10.2.0.2"}],"#;
    check_table(
        routes,
        ":route=10.7.0.0/16@10.1.0.3,route=10.9.0.0/16@10.1.0.2",
        v4,
        Some((
            101,
            &["10.1.0.0/24", "default via 10.1.0.1", "10.9.0.0/16 via 10.1.0.2", "10.7.0.0/16 via 10.1.0.3"],
        )),
    );
    let l3 = r#""driver": "ipvlan", "ipvlan_mode": "l3", "table": 101,"#;
    check_table(l3, "", v4, Some((101, &["10.1.0.0/24", "default"])));
}

/// A route that leads nowhere is the namespace's, not a link's: it is there once.
#[test]
fn routes_that_belong_to_no_link() {
    let keys = r#""parent": "eth0", "driver": "macvlan",
        "routes": [{"to": "10.9.0.0/16", "type": "blackhole"}, {"to": "2001:db8:9::/64", "type": "prohibit"}],"#;
    let none = DefaultRoutes::default();
    let both =
        routed(&[(keys, "", &["10.0.0.9/24"]), (keys, "", &["10.0.0.8/24", "2001:db8:1::8/64"])], none);
    let text: Vec<Vec<_>> = both.iter().map(|a| a.routes.iter().map(Route::to_string).collect()).collect();
    assert_eq!(text, [vec!["blackhole 10.9.0.0/16"], vec!["prohibit 2001:db8:9::/64"]]);
}

/// A next hop that is on the link needs no subnet that reaches it, but an address of its family.
#[test]
fn next_hops_on_the_link() {
    let keys = r#""parent": "eth0", "driver": "macvlan",
        "routes": [{"to": "10.9.0.0/16", "via": "192.0.2.1", "onlink": true},
                   {"to": "2001:db8:9::/64", "via": "fe80::1", "onlink": true}],"#;
    let attached = routed(&[(keys, "", &["10.0.0.9/24"])], DefaultRoutes::default()).remove(0);
    let text: Vec<_> = attached.routes.iter().map(Route::to_string).collect();
    assert_eq!(text, ["10.9.0.0/16 via 192.0.2.1 onlink"]);
}

#[test]
fn default_routes_as_the_network_says() {
    for (keys, address, expected) in [
        (r#""driver": "macvlan","#, "10.1.0.9/24", "default via 10.1.0.1"),
        (r#""driver": "macvlan", "metric": 7,"#, "10.1.0.9/24", "default via 10.1.0.1 metric 7"),
        (r#""driver": "macvlan","#, "10.3.0.9/24", "default via 192.0.2.1 onlink"),
        (r#""driver": "ipvlan", "ipvlan_mode": "l3", "metric": 7,"#, "10.1.0.9/24", "default metric 7"),
    ] {
        let keys = format!(r#""parent": "eth0", {keys}"#);
        let attached = routed(&[(&keys, "", &[address])], DefaultRoutes::default()).remove(0);
        let text: Vec<_> = attached.routes.iter().map(Route::to_string).collect();
        assert_eq!(text, [expected], "{keys}");
    }
}
