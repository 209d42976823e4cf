//! Leases that make little sense, change, or are not kept by an agent; and records that change hands.

use std::fs;
use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use crate::addresses::dhcp::{address, bed, lan};
use crate::addresses::dhcp_renewal::events;
use crate::harness::agent::Agent;
use crate::harness::bed::Netns;
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const KEA: &[Need] = &[Need::Macvlan, Kind::Kea.need()];
    let all: [Named; 8] = [
        ("routes_that_the_kernel_refuses", KEA, routes),
        ("one_route_by_two_networks", KEA, two_networks),
        ("another_router", KEA, another_router),
        ("a_small_mtu", KEA, small_mtu),
        ("the_address_of_the_host", KEA, address_of_host),
        ("a_lease_that_is_over", KEA, over),
        ("a_pod_changes", KEA, pod),
        ("a_lost_record", KEA, lost_record),
    ];
    all.map(|(name, needs, run)| Test::new(format!("dhcp_odd::{name}"), needs, run).in_one()).into()
}

/// They are left out, and the container starts.
fn routes() {
    let bed = bed("");
    let mut server = Server::start(&bed, Kind::Kea, Options::default());
    let (on_link, elsewhere) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 1));
    let cases: [(_, &[(&str, _)], _, _); 6] = [
        ("to the subnet", &[("10.77.0.0/24", on_link), ("0.0.0.0/0", lan(1))], lan(1), Some(lan(1))),
        ("twice", &[("0.0.0.0/0", lan(3)), ("0.0.0.0/0", lan(4))], lan(1), Some(lan(3))),
        ("by all hosts", &[("10.9.0.0/16", lan(255)), ("0.0.0.0/0", lan(4))], lan(1), Some(lan(4))),
        ("by the subnet", &[("0.0.0.0/0", lan(0))], lan(1), None),
        (
            "by the router of a route",
            &[("192.0.2.1/32", on_link), ("0.0.0.0/0", elsewhere)],
            lan(1),
            Some(elsewhere),
        ),
        ("no routes", &[], lan(255), None),
    ];
    for (what, routes, router, by) in cases {
        server.change(|options| {
            options.routes = routes.iter().map(|&(to, router)| (to.parse().unwrap(), router)).collect();
            options.router = Some(router);
        });
        let web = bed.container(Bare, "web").networks("lan").start().unwrap();
        let there = web.routes("-4");
        let defaults: Vec<_> = there.iter().filter(|route| route.starts_with("default")).collect();
        assert_eq!(defaults.len(), by.iter().count(), "{what}: {there:?}");
        assert!(
            by.is_none_or(|by| defaults[0].starts_with(&format!("default via {by} "))),
            "{what}: {there:?}"
        );
        assert_eq!(bed.run("check"), "", "{what}");
    }
}

fn two_networks() {
    let bed = bed("");
    bed.create("--ipam-driver dhcp -o parent=eth0 other");
    let routes = vec![("10.9.0.0/16".parse().unwrap(), lan(1))];
    let _server = Server::start(&bed, Kind::Kea, Options { routes, ..Options::default() });
    let web = bed.container(Bare, "web").networks("lan;other").start().unwrap();
    let there = web.routes("-4").into_iter().filter(|route| route.starts_with("10.9.0.0/16"));
    assert_eq!(there.count(), 1);
    assert_eq!(bed.run("check"), "");
}

/// The server gives another one when the lease is renewed.
fn another_router() {
    let bed = bed("");
    let mut server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    server.change(|options| options.router = Some(lan(2)));
    let begin = events(&bed, "renewed").len();
    wait(|| events(&bed, "renewed").len() > begin + 1);
    let routes = web.routes("-4").into_iter().filter(|route| route.starts_with("default"));
    let routes: Vec<_> = routes.collect();
    assert!(routes.len() == 1 && routes[0].starts_with("default via 10.77.0.2 "), "{routes:?}");
    assert_eq!(bed.run("check"), "");
}

/// The kernel would take all of IPv6 from the link.
fn small_mtu() {
    let bed = bed("--subnet 2001:db8:77::/64");
    let _server = Server::start(&bed, Kind::Kea, Options { mtu: Some(1000), ..Options::default() });
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(web.link("eth0")["mtu"], 1500);
    assert_eq!(bed.run("check"), "");
}

/// No macvlan link reaches the host, which could not answer that it has the address.
fn address_of_host() {
    let bed = bed("");
    bed.host.ip("addr add 10.77.0.60/24 dev eth0");
    let _server = Server::start(&bed, Kind::Kea, Options::default().range(60, 61));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(address(&web), lan(61));
    let refused = bed.container(Bare, "other").networks("lan").start().map(drop);
    refused.unwrap_err();
}

/// No agent has taken it from its container, and the server gives its address to another one.
fn over() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options { lease: 3, ..Options::default().range(60, 60) });
    let first = bed.container(Bare, "first").networks("lan").start().unwrap();
    wait(|| first.addresses("eth0").is_empty());
    thread::sleep(Duration::from_secs(1));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(address(&web), lan(60));
    assert_eq!((bed.leases().len(), events(&bed, "lost").len()), (1, 1));
    let _agent = Agent::start(&bed);
    thread::sleep(Duration::from_secs(4));
    assert_eq!((address(&web), first.addresses("eth0").len()), (lan(60), 0));
}

/// The agent goes on with the lease for the container that has the link now.
fn pod() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let pod = Netns::new("pod");
    let member = |id: &str| bed.container(Bare, id).networks("lan").in_netns(pod.path()).start().unwrap();
    let [web, log] = ["web", "log"].map(member);
    let own = address(&log);
    web.stop();
    thread::sleep(Duration::from_secs(9));
    assert_eq!(address(&log), own);
    log.stop();
    bed.assert_nothing_held();
}

/// It is rebuilt, and the agent, which has missed it, goes on with the lease.
fn lost_record() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let own = address(&web);
    fs::remove_file(bed.path(&format!("run/containers/{}.json", web.id))).unwrap();
    thread::sleep(Duration::from_secs(4));
    bed.run("gc");
    thread::sleep(Duration::from_secs(8));
    assert_eq!(address(&web), own);
    assert_eq!(bed.run("check"), "");
}
