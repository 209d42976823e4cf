//! DHCP servers that give what makes little sense, and containers that end or come at an odd moment.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
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
    const KEA: Need = Kind::Kea.need();
    let all: [Named; 15] = [
        ("routes", &[Need::Macvlan, KEA], routes),
        ("the_hosts_address", &[Need::Macvlan, KEA], hosts_address),
        ("small_mtu", &[Need::Macvlan, KEA], small_mtu),
        ("one_second", &[Need::Macvlan, KEA], one_second),
        ("what_is_over", &[Need::Macvlan, KEA], over),
        ("stopped_while_it_asks", &[Need::Macvlan, KEA], stopped),
        ("another_router", &[Need::Macvlan, KEA], another_router),
        ("two_networks", &[Need::Macvlan, KEA], two_networks),
        ("pod_with_agent", &[Need::Macvlan, KEA], pod_with_agent),
        ("a_lost_record", &[Need::Macvlan, KEA], lost_record),
        ("parent_gone", &[Need::Macvlan, KEA], parent_gone),
        ("unreachable", &[Need::Macvlan, KEA], unreachable),
        ("renamed", &[Need::Macvlan, KEA], renamed),
        ("gc_meanwhile", &[Need::Macvlan, KEA], gc_meanwhile),
        ("twice_one_client", &[Need::Macvlan, KEA], twice),
    ];
    all.map(|(name, needs, run)| Test::new(format!("dhcp_odd::{name}"), needs, run)).into()
}

fn routes() {
    let bed = bed("");
    let route = |to: &str, router| (to.parse().unwrap(), router);
    let none = Ipv4Addr::UNSPECIFIED;
    let mut server = Server::start(&bed, Kind::Kea, Options::default());
    let mut failed = Vec::new();
    for (what, routes, router) in [
        ("connected", vec![route("10.77.0.0/24", none), route("0.0.0.0/0", lan(1))], None),
        ("twice", vec![route("0.0.0.0/0", lan(1)), route("0.0.0.0/0", lan(2))], None),
        ("via broadcast", vec![route("10.9.0.0/16", lan(255))], None),
        ("via network", vec![route("10.9.0.0/16", lan(0))], None),
        ("to loopback", vec![route("127.0.0.0/8", lan(1)), route("224.0.0.0/4", lan(1))], None),
        ("via elsewhere", vec![route("0.0.0.0/0", Ipv4Addr::new(192, 0, 2, 1))], None),
        (
            "elsewhere by a route",
            vec![route("192.0.2.1/32", none), route("0.0.0.0/0", Ipv4Addr::new(192, 0, 2, 1))],
            None,
        ),
        ("router broadcast", vec![], Some(lan(255))),
        ("many", (0..60).map(|n| route(&format!("10.{}.0.0/16", n + 100), lan(1))).collect(), None),
    ] {
        server.change(|options| {
            options.routes = routes.clone();
            options.router = router.or(Some(lan(1)));
        });
        match bed.container(Bare, "web").networks("lan").start() {
            Ok(web) => {
                let is_there = |end: &str| web.routes("-4").iter().any(|route| route.starts_with(end));
                assert!(
                    bed.run("check").is_empty() && is_there("10.77.0.0/24"),
                    "{what}: {:?}",
                    web.routes("-4")
                );
            }
            Err(error) => failed.push(format!("{what}: {error}")),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn hosts_address() {
    let bed = bed("");
    bed.host.ip("addr add 10.77.0.60/24 dev eth0");
    let _server = Server::start(&bed, Kind::Kea, Options::default().range(60, 61));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let other = bed.container(Bare, "other").networks("lan").start().map(|it| address(&it));
    assert_ne!(address(&web), lan(60));
    assert_ne!(other, Ok(lan(60)));
}

fn small_mtu() {
    let bed = bed("--subnet 2001:db8:77::/64");
    let _server = Server::start(&bed, Kind::Kea, Options { mtu: Some(1000), ..Options::default() });
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(bed.run("check"), "");
    assert_eq!(web.addresses("eth0").iter().filter(|it| it.starts_with("2001")).count(), 1);
}

fn one_second() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options { lease: 1, ..Options::default() });
    let agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start();
    thread::sleep(Duration::from_secs(10));
    let web = web.unwrap();
    wait(|| !web.addresses("eth0").is_empty());
    eprintln!("{} {}", events(&bed, "lost").len(), events(&bed, "renewed").len());
    drop(agent);
}

fn over() {
    let bed = bed("-o dhcp_timeout=5");
    let _server = Server::start(&bed, Kind::Kea, Options { lease: 3, ..Options::default().range(60, 60) });
    let first = bed.container(Bare, "first").networks("lan").start().unwrap();
    wait(|| first.addresses("eth0").is_empty());
    thread::sleep(Duration::from_secs(1));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(address(&web), lan(60));
    assert_eq!(bed.leases().len(), 1);
    let _agent = Agent::start(&bed);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(address(&web), lan(60));
    assert!(first.addresses("eth0").is_empty());
}

fn stopped() {
    let bed = bed("-o dhcp_timeout=10");
    let mut web = bed.container(Bare, "web").networks("lan").without_hooks().start().unwrap();
    let mut hook = bed.underlay("hook createRuntime");
    let mut hook = hook.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    hook.stdin.take().unwrap().write_all(web.state_at("createRuntime").as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(1500));
    web.kill();
    let stop = web.hook("poststop");
    assert_eq!(stop.code, 0, "{stop:?}");
    bed.assert_nothing_held();
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let out = hook.wait_with_output().unwrap();
    assert!(!out.status.success(), "{out:?}");
    bed.assert_nothing_held();
    wait(|| server.leased().is_empty());
}

fn another_router() {
    let bed = bed("");
    let mut server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    server.change(|options| options.router = Some(lan(2)));
    let count = events(&bed, "renewed").len();
    wait(|| events(&bed, "renewed").len() > count + 1);
    let after = web.routes("-4");
    assert_eq!(bed.run("check"), "");
    let defaults: Vec<_> = after.iter().filter(|route| route.starts_with("default")).collect();
    assert!(defaults.len() == 1 && defaults[0].starts_with("default via 10.77.0.2"), "{after:?}");
}

/// The servers of two networks give a route to the same destination.
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

/// By one client id.
fn twice() {
    let bed = bed("-o dhcp_client_id=same -o dhcp_timeout=5");
    bed.create("--ipam-driver dhcp -o parent=eth0 -o dhcp_client_id=same -o dhcp_timeout=5 other");
    let _server = Server::start(&bed, Kind::Kea, Options::default());
    match bed.container(Bare, "web").networks("lan;other").start() {
        Ok(web) => {
            eprintln!("{:?} {:?} {:?}", web.addresses("eth0"), web.addresses("eth1"), bed.leases());
            assert_ne!(web.addresses("eth0"), web.addresses("eth1"));
        }
        Err(error) => eprintln!("{error}"),
    }
}

/// The agent renews the lease of whichever container has the link.
fn pod_with_agent() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let pod = Netns::new("pod");
    let member = |id: &str| bed.container(Bare, id).networks("lan").in_netns(pod.path()).start().unwrap();
    let [web, log] = ["web", "log"].map(member);
    let own = address(&log);
    thread::sleep(Duration::from_secs(1));
    web.stop();
    thread::sleep(Duration::from_secs(9));
    assert_eq!(log.addresses("eth0"), [format!("{own}/24")]);
    log.stop();
    bed.assert_nothing_held();
}

fn parent_gone() {
    for with_agent in [true, false] {
        let bed = bed("");
        let _server = Server::start(&bed, Kind::Kea, Options::short());
        let _agent = with_agent.then(|| Agent::start(&bed));
        let web = bed.container(Bare, "web").networks("lan").start().unwrap();
        bed.host.ip("link del eth0");
        thread::sleep(Duration::from_secs(3));
        let begin = std::time::Instant::now();
        web.stop();
        eprintln!("parent gone, {with_agent}: {:?}", begin.elapsed());
        bed.assert_nothing_held();
    }
}

fn unreachable() {
    for with_agent in [true, false] {
        let bed = bed("");
        bed.create("--ipam-driver dhcp -o parent=eth0 other");
        let _server = Server::start(&bed, Kind::Kea, Options::default());
        let _agent = with_agent.then(|| Agent::start(&bed));
        let web = bed.container(Bare, "web").networks("lan;other").start().unwrap();
        bed.lan.ip("addr flush dev lan0");
        let begin = std::time::Instant::now();
        web.stop();
        eprintln!("unreachable, {with_agent}: {:?}", begin.elapsed());
        bed.assert_nothing_held();
    }
}

fn renamed() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options::short());
    let agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let had = address(&web);
    web.run("ip", "link set eth0 down");
    web.run("ip", "link set eth0 name x");
    thread::sleep(Duration::from_secs(3));
    web.run("ip", "link set x up");
    thread::sleep(Duration::from_secs(9));
    eprintln!(
        "{:?} {had} {}",
        web.addresses("x"),
        agent.log().lines().rev().take(5).collect::<Vec<_>>().join("\n")
    );
    assert_eq!(web.addresses("x").len(), 1);
}

fn gc_meanwhile() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let _agent = Agent::start(&bed);
    thread::scope(|scope| {
        let over = std::sync::atomic::AtomicBool::new(false);
        let collector = scope.spawn(|| {});
        let bed = &bed;
        let over = &over;
        thread::scope(|inner| {
            inner.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    bed.run("gc");
                }
            });
            for n in 0..15 {
                let web = bed.container(Bare, if n % 2 == 0 { "web" } else { "db" }).networks("lan").start();
                match web {
                    Ok(web) => {
                        address(&web);
                        web.stop();
                    }
                    Err(error) => {
                        over.store(true, std::sync::atomic::Ordering::Relaxed);
                        panic!("{error}");
                    }
                }
            }
            over.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        collector.join().unwrap();
    });
    thread::sleep(Duration::from_secs(8));
    bed.assert_nothing_held();
    wait(|| server.leased().is_empty());
}

/// The record is lost for longer than the lease, and then found again.
fn lost_record() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    std::fs::remove_file(bed.path(&format!("run/containers/{}.json", web.id))).unwrap();
    thread::sleep(Duration::from_secs(5));
    bed.run("gc");
    thread::sleep(Duration::from_secs(6));
    assert_eq!(web.addresses("eth0").len(), 1);
}
