//! Addresses by DHCP in networks of Docker: `--ipam-driver null -o dhcp=true`. The plugin is called in Docker's order by a client of the
//! tests.

use std::time::Duration;

use serde_json::{Value, json};

use crate::addresses::dhcp::lan;
use crate::engines::docker_plugin::age;
use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Watched};
use crate::harness::container::wait;
use crate::harness::dhcp::{Kind, Options, Server, beside};
use crate::harness::fake_docker::{Endpoint, FakeDocker};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const KEA: &[Need] = &[Need::Macvlan, Kind::Kea.need()];
    const DNSMASQ: &[Need] = &[Need::Macvlan, Kind::Dnsmasq.need()];
    const IPVLAN: &[Need] = &[Need::Ipvlan, Kind::Dnsmasq.need()];
    let all: [Named; 9] = [
        ("a_lease", KEA, a_lease),
        ("ipvlan", IPVLAN, ipvlan),
        ("identities", KEA, identities),
        ("renewed_by_the_agent", KEA, renewed),
        ("another_lease_while_it_runs", KEA, another),
        ("taken_by_another_host", KEA, taken),
        ("no_server", DNSMASQ, no_server),
        ("killed_in_each_call", DNSMASQ, killed),
        ("what_is_refused", &[Need::Macvlan], refused),
    ];
    all.map(|(name, needs, run)| Test::new(format!("docker_dhcp::{name}"), needs, run).in_one()).into()
}

fn dhcp() -> Value {
    json!({"parent": "eth0", "dhcp": "true"})
}

/// The IPv4 address of the link of a container, its prefix length and lifetime, and the link's MAC address.
fn shown(endpoint: &Endpoint) -> (String, Option<u64>, String) {
    let shown: Value = serde_json::from_str(&endpoint.netns.ip("-j addr show dev eth0")).unwrap();
    let mut addresses = shown[0]["addr_info"].as_array().unwrap().iter();
    let v4 = addresses.find(|address| address["family"] == "inet");
    let text = |v4: &Value| format!("{}/{}", v4["local"].as_str().unwrap(), v4["prefixlen"]);
    let lifetime = v4.and_then(|v4| v4["valid_life_time"].as_u64());
    (v4.map(text).unwrap_or_default(), lifetime, shown[0]["address"].as_str().unwrap().to_owned())
}

/// The address and the MAC address of the link of a container.
fn has(endpoint: &Endpoint) -> (String, String) {
    let (address, _, mac) = shown(endpoint);
    (address, mac)
}

/// For how many seconds the kernel keeps the address of a container.
fn seconds_left(endpoint: &Endpoint) -> Option<u64> {
    shown(endpoint).1
}

fn leased(bed: &Bed) -> Value {
    bed.ps()[0]["attachments"][0]["dhcp"]["lease"].clone()
}

fn a_lease() {
    let bed = Watched::new();
    let options = Options {
        mtu: Some(1400),
        routes: vec![("10.9.0.0/16".parse().unwrap(), lan(3))],
        ..Options::default()
    };
    let server = Server::start(&bed, Kind::Kea, options);
    let docker = FakeDocker::start(&bed);
    let network = docker.create_without_addresses(dhcp()).unwrap();
    let web = docker.run_by_dhcp(&network, "", json!({})).unwrap();
    let (address, mac) = has(&web);
    assert_eq!((&address, &*bed.macs()[0]), (&web.address, &*mac));
    assert_eq!(format!("{}/24", server.leases()[0].address), address);
    assert!(web.netns.try_run("busybox", "ping -c 1 -W 5 10.77.0.1").is_ok());
    let routes = web.netns.ip("route");
    assert!(routes.contains("10.9.0.0/16 via 10.77.0.3 dev eth0"), "{routes}");
    assert_eq!(web.netns.link("eth0").unwrap()["mtu"], 1400);
    assert_eq!(leased(&bed)["address"], address);
    // Docker says the MAC address itself.
    let other = docker.run_by_dhcp(&network, "02:00:00:00:00:77", json!({})).unwrap();
    assert_eq!(has(&other).1, "02:00:00:00:00:77");
    assert_ne!(has(&other).0, address);
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    docker.stop(&network, &web);
    docker.stop(&network, &other);
    assert!(server.leased().is_empty(), "given back");
    docker.remove(&network);
    bed.assert_nothing_held();
}

fn ipvlan() {
    let bed = Watched::new();
    let server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let docker = FakeDocker::start(&bed);
    let options = json!({"parent": "eth0", "dhcp": "true", "ipvlan_mode": "l2"});
    let network = docker.create_without_addresses(options).unwrap();
    let both =
        ["one", "two"].map(|name| docker.run_by_dhcp(&network, "", json!({"identity": name})).unwrap());
    let addresses = both.each_ref().map(|endpoint| has(endpoint).0);
    assert_ne!(addresses[0], addresses[1]);
    assert_eq!(addresses, both.each_ref().map(|endpoint| endpoint.address.clone()));
    assert!(both[0].netns.try_run("busybox", "ping -c 1 -W 5 10.77.0.1").is_ok());
    assert_eq!(server.leases().len(), 2);
    both.iter().for_each(|endpoint| docker.stop(&network, endpoint));
    assert!(server.leased().is_empty());
    docker.remove(&network);
    bed.assert_nothing_held();
}

/// The server knows a container by its identity, which is its name there, too.
fn identities() {
    let bed = Watched::new();
    bed.create("--ipam-driver dhcp -o parent=eth0 lan");
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let docker = FakeDocker::start(&bed);
    for options in [dhcp(), json!({"network": "lan"})] {
        let network = docker.create_without_addresses(options).unwrap();
        let start = |name: &str| docker.run_by_dhcp(&network, "", json!({"identity": name})).unwrap();
        let (web, db) = (start("web"), start("db"));
        let before = [has(&web), has(&db)];
        let names: Vec<_> = server.leases().into_iter().filter_map(|lease| lease.host_name).collect();
        assert!(names.contains(&"web".to_owned()) && names.contains(&"db".to_owned()), "{names:?}");
        docker.stop(&network, &web);
        docker.stop(&network, &db);
        let (db, web) = (start("db"), start("web"));
        assert_eq!([has(&web), has(&db)], before);
        docker.stop(&network, &web);
        docker.stop(&network, &db);
        docker.remove(&network);
        assert_eq!(bed.records(), Vec::<String>::new());
    }
}

fn renewed() {
    let bed = Watched::new();
    let _server = Server::start(&bed, Kind::Kea, Options::short());
    let agent = Agent::start(&bed);
    let docker = FakeDocker::start(&bed);
    let network = docker.create_without_addresses(dhcp()).unwrap();
    let web = docker.run_by_dhcp(&network, "", json!({})).unwrap();
    // Docker has set it for ever; the agent has the kernel end it with the lease.
    wait(|| seconds_left(&web).is_some_and(|left| left <= 6));
    let first = leased(&bed)["times"]["obtained"].as_u64().unwrap();
    wait(|| leased(&bed)["times"]["obtained"].as_u64().unwrap() >= first + 6_000);
    assert_eq!(has(&web).0, web.address);
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    docker.stop(&network, &web);
    docker.remove(&network);
    drop(agent);
    bed.assert_nothing_held();
}

/// Docker is not told: it shows the former address until the container is started again.
fn another() {
    let bed = Watched::new();
    let mut server = Server::start(&bed, Kind::Kea, Options::short());
    let agent = Agent::start(&bed);
    let docker = FakeDocker::start(&bed);
    let network = docker.create_without_addresses(dhcp()).unwrap();
    let web = docker.run_by_dhcp(&network, "", json!({})).unwrap();
    wait(|| seconds_left(&web).is_some_and(|left| left <= 6));
    server.change(|options| options.range = [lan(150), lan(199)]);
    wait(|| has(&web).0.starts_with("10.77.0.1"));
    assert!(web.netns.ip("route").contains("default via 10.77.0.1 dev eth0"));
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    docker.stop(&network, &web);
    docker.remove(&network);
    drop(agent);
    bed.assert_nothing_held();
}

fn taken() {
    let bed = Watched::new();
    let _server = Server::start(&bed, Kind::Kea, Options::default().range(50, 51));
    let printer = beside(&bed, "printer");
    printer.ip(&format!("addr add {}/24 dev lan0", lan(50)));
    let docker = FakeDocker::start(&bed);
    let network = docker.create_without_addresses(dhcp()).unwrap();
    let web = docker.run_by_dhcp(&network, "", json!({})).unwrap();
    assert_eq!(has(&web).0, format!("{}/24", lan(51)));
    docker.stop(&network, &web);
    docker.remove(&network);
    bed.assert_nothing_held();
}

fn no_server() {
    let bed = Watched::new();
    let docker = FakeDocker::start(&bed);
    let options = json!({"parent": "eth0", "dhcp_timeout": "1"});
    let network = docker.create_without_addresses(options).unwrap();
    let error = docker.run_by_dhcp(&network, "", json!({})).map(drop).unwrap_err();
    assert!(error.contains("no DHCP server answers on eth0 within 1 s"), "{error}");
    assert_eq!((bed.records(), bed.host.ip("-o link").lines().count()), (Vec::new(), 2));
    docker.remove(&network);
    // With or without: it starts, and the agent goes on asking.
    let options = json!({"parent": "eth0", "dhcp_timeout": "1", "dhcp_optional": "true"});
    let network = docker.create_without_addresses(options).unwrap();
    let web = docker.run_by_dhcp(&network, "", json!({})).unwrap();
    assert_eq!((&*web.address, has(&web).0), ("", String::new()));
    let agent = Agent::start(&bed);
    let server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    wait(|| has(&web).0.starts_with("10.77.0."));
    assert!(web.netns.ip("route").contains("default via 10.77.0.1 dev eth0"));
    docker.stop(&network, &web);
    docker.remove(&network);
    drop((agent, server));
    bed.assert_nothing_held();
}

/// With SIGKILL, some time after each call was sent. Docker calls again.
fn killed() {
    let bed = Watched::new();
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let docker = FakeDocker::start(&bed);
    for micros in [0, 500, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000] {
        docker.plugin.killed_after.set(Some(Duration::from_micros(micros)));
        let network = docker.create_without_addresses(dhcp()).unwrap();
        let web = docker.run_by_dhcp(&network, "", json!({"identity": "web"})).unwrap();
        assert_eq!(has(&web).0, web.address);
        bed.gc();
        assert_eq!((bed.gc(), bed.records().len()), (String::new(), 1), "{micros}");
        docker.stop(&network, &web);
        docker.remove(&network);
        age(&bed);
        bed.gc();
        bed.assert_nothing_held();
    }
}

fn refused() {
    let bed = Watched::new();
    bed.create("--ipam-driver dhcp -o parent=eth0 lan");
    let docker = FakeDocker::start(&bed);
    let said = |options: Value| docker.create_without_addresses(options).map(drop).unwrap_err();
    assert!(said(json!({"parent": "eth0"})).contains("-o dhcp=true"));
    assert!(said(json!({"parent": "eth0", "dhcp": "maybe"})).contains("option dhcp: \"maybe\""));
    assert!(said(json!({"parent": "eth0", "dhcp6": "required"})).contains("addresses by DHCPv6"));
    assert!(said(json!({"parent": "eth0", "dhcp_timeout": "26"})).contains("more than 20 seconds"));
    assert!(said(json!({"parent": "eth0", "dhcp": "true", "ipvlan_mode": "l3"})).contains("no broadcasts"));
    let with_subnet =
        |options: Value, ipam: Value| docker.create("10.77.0.0/24", "", options, ipam).map(drop).unwrap_err();
    let error = with_subnet(dhcp(), json!({}));
    assert!(error.contains("by DHCP and of a subnet") && error.contains("--ipam-driver null"), "{error}");
    let error = with_subnet(json!({"network": "lan"}), json!({"network": "lan"}));
    assert!(error.contains("--ipam-driver null"), "{error}");
    assert!(docker.create("", "", dhcp(), json!({})).map(drop).unwrap_err().contains("--ipam-driver null"));
    assert_eq!(bed.records(), Vec::<String>::new());
}
