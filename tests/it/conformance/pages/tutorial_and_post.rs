//! Docker's macvlan page with its tutorial (`b`), and the blog post (`c`).

use std::fs;

use serde_json::Value;

use super::{PUB_NET, assert_shows, assert_vlan, refused, router, routing, run, silent};
use crate::harness::bed::{Bed, Watched};
use crate::harness::container::Engine;

/// An address that somebody has already is left out, both of the range and on request.
pub fn b_macnet32() {
    let bed = Watched::new();
    router(&bed, None, &["192.168.32.254/24", "192.168.32.129/24"]);
    let line = "-d macvlan --subnet=192.168.32.0/24 --ip-range=192.168.32.128/25 --gateway=192.168.32.254 \
                --aux-address=my-router=192.168.32.129 -o parent=eth0 macnet32";
    bed.create(line);
    let first = run(&bed, "first", "macnet32");
    let second = run(&bed, "second", "macnet32");
    assert_eq!(first.addresses("eth0"), ["192.168.32.128/24"]);
    assert_eq!(second.addresses("eth0"), ["192.168.32.130/24"], "not the router's");
    assert!(second.reaches("192.168.32.129") && second.reaches("192.168.32.128"));
    let error = refused(&bed, "macnet32:ip=192.168.32.129");
    assert!(error.contains("192.168.32.129"), "{error}");
    assert_eq!(bed.leases().len(), 2);

    // The page calls the option --aux-addresses in its text.
    bed.create(&line.replace("--aux-address", "--aux-addresses").replace("macnet32", "again"));
    let subnets = |name: &str| {
        let text = fs::read(bed.path(&format!("etc/networks/{name}.json"))).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["subnets"].clone()
    };
    assert_eq!(subnets("again"), subnets("macnet32"));
}

/// The page's way around the kernel's rule: a macvlan link of the host's own.
pub fn b_host_shim() {
    let bed = Bed::new();
    bed.host.ip_batch(&[
        "link add shim link eth0 type macvlan mode bridge",
        "addr add 172.16.86.2/32 dev shim",
        "link set shim up",
        "route add 172.16.86.10 dev shim",
    ]);
    bed.create(PUB_NET);
    let container = run(&bed, "web", "pub_net:ip=172.16.86.10");
    assert!(container.reaches("172.16.86.2"), "the host, by its own macvlan link");
    let next = run(&bed, "next", "pub_net");
    assert_eq!(next.addresses("eth0"), ["172.16.86.3/24"], "an address of the host like any other");
}

/// ipvlan instead of macvlan: the parent's MAC address for all.
pub fn b_ipvlan210() {
    let bed = Watched::new();
    router(&bed, None, &["192.168.210.254/24"]);
    bed.create(
        "-d ipvlan --subnet=192.168.210.0/24 --gateway=192.168.210.254 -o ipvlan_mode=l2 -o parent=eth0 ipvlan210",
    );
    let first = run(&bed, "first", "ipvlan210");
    let second = run(&bed, "second", "ipvlan210");
    let macs = [
        assert_shows(&bed, &first, "eth0", &["192.168.210.1/24"]),
        assert_shows(&bed, &second, "eth0", &["192.168.210.2/24"]),
    ];
    assert_eq!(macs[0], macs[1]);
    assert!(second.reaches("192.168.210.1") && second.reaches("192.168.210.254"));
    assert_eq!(second.routes("-4")[0], "default via 192.168.210.254 dev eth0");
    // What the LAN sees of both.
    bed.lan.try_run("busybox", "ping -c 1 -W 5 192.168.210.1").unwrap();
    let known = bed.lan.ip("neigh show dev lan0");
    let of = |address: &str| {
        let line = known.lines().find(|line| line.starts_with(&format!("{address} ")));
        line.unwrap_or_else(|| panic!("{address} is not in\n{known}")).contains(&macs[0])
    };
    assert!(of("192.168.210.1") && of("192.168.210.2"), "{known}");
}

/// The tutorial's first half, step by step.
pub fn b_my_macvlan_net(engine: Engine) {
    let bed = Watched::new();
    bed.create("-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 my-macvlan-net");
    tutorial(&bed, engine, "my-macvlan-net", "my-macvlan-alpine", "eth0");
}

/// The tutorial's second half, where eth0.10 comes and goes by itself.
pub fn b_8021q() {
    let bed = Watched::new();
    router(&bed, Some(10), &["172.16.86.1/25"]);
    bed.create(
        "-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0.10 my-8021q-macvlan-net",
    );
    assert_vlan(&bed, "eth0.10", "eth0", 10);
    tutorial(&bed, Engine::Podman, "my-8021q-macvlan-net", "my-second-macvlan-alpine", "eth0.10");
    assert!(bed.host.link("eth0.10").is_none(), "it went with the network");
}

/// The tutorial's steps after the network is made.
#[track_caller]
fn tutorial(bed: &Bed, engine: Engine, network: &str, name: &str, parent: &str) {
    // 1. The network can be seen.
    let listed = bed.run("network ls");
    let line = listed.lines().find(|line| line.starts_with(network)).unwrap_or_default();
    assert!(["macvlan", parent].iter().all(|word| line.contains(word)), "{listed}");
    let inspected = bed.run(&format!("network inspect {network}"));
    for word in [network, "macvlan", parent, "172.16.86.0/24", "172.16.86.1"] {
        assert!(inspected.contains(&format!("\"{word}\"")), "{word} is not in {inspected}");
    }
    // 2. and 3. The container, and what is known of it.
    let container = bed.container(engine, name).networks(network).start().unwrap();
    let shown: Value = serde_json::from_str(&bed.run(&format!("inspect {}", container.id))).unwrap();
    let attached = &shown["attachments"][0];
    assert_eq!(attached["network"], network);
    assert_eq!(attached["routes"][0]["via"], "172.16.86.1");
    assert_eq!(attached["addresses"], serde_json::json!(["172.16.86.2/24"]));
    // 4. What the container sees.
    let mac = assert_shows(bed, &container, parent, &["172.16.86.2/24"]);
    assert_eq!(attached["mac"], mac);
    assert_eq!(container.link("eth0")["addr_info"][0]["broadcast"], "172.16.86.255");
    // As alpine's ip prints it, which is busybox.
    let routes = container.run("busybox", "ip route");
    assert_eq!(
        routes.lines().map(str::trim).collect::<Vec<_>>(),
        ["default via 172.16.86.1 dev eth0", "172.16.86.0/24 dev eth0 scope link  src 172.16.86.2"]
    );
    assert!(container.reaches("172.16.86.1"), "the router");
    let inspected = bed.run(&format!("network inspect {network}"));
    assert!(inspected.contains(&container.id) && inspected.contains(&mac), "{inspected}");
    // 5. Both go.
    container.stop();
    bed.assert_nothing_held();
    assert_eq!(bed.run(&format!("network rm {network}")), format!("{network}\n"));
    assert_eq!(bed.run("network ls -q"), "");
}

/// "Without an IP given, can it be the host's?" Not here: neither by chance nor on request.
pub fn c_hosts_address() {
    let bed = Watched::new();
    bed.create(&PUB_NET.replace("pub_net", "my-macvlan-net"));
    let error = refused(&bed, "my-macvlan-net:ip=172.16.86.250");
    assert!(error.contains("held by this host itself"), "{error}");
    bed.create(&PUB_NET.replace("-o", "--ip-range=172.16.86.250/31 -o"));
    let container = run(&bed, "my-macvlan-alpine", "pub_net");
    assert_eq!(
        container.addresses("eth0"),
        ["172.16.86.251/24"],
        "the host's comes first, and is passed over"
    );
}

/// The same two subnets of ipvlan as on the first page, but on the LAN.
pub fn c_ipvlan210() {
    let bed = Watched::new();
    router(&bed, None, &["192.168.210.254/24", "192.168.212.254/24"]);
    bed.create(
        "-d ipvlan --subnet=192.168.210.0/24 --subnet=192.168.212.0/24 --gateway=192.168.210.254 \
         --gateway=192.168.212.254 -o ipvlan_mode=l2 -o parent=eth0 ipvlan210",
    );
    let first = run(&bed, "first", "ipvlan210");
    let second = run(&bed, "second", "ipvlan210:ip=192.168.212.9");
    assert_shows(&bed, &first, "eth0", &["192.168.210.1/24"]);
    assert_shows(&bed, &second, "eth0", &["192.168.212.9/24"]);
    for (container, gateway) in [(&first, "192.168.210.254"), (&second, "192.168.212.254")] {
        assert_eq!(container.routes("-4")[0], format!("default via {gateway} dev eth0"));
        assert!(container.reaches(gateway));
    }
    assert!(silent(&first, "192.168.212.9"), "nothing routes between the subnets");
    routing(&bed, 1);
    assert!(first.reaches("192.168.212.9"), "the router does");
}

/// A network the page uses and never makes.
pub fn c_mynet() {
    let bed = Watched::new();
    let error = refused(&bed, "mynet:ip=192.168.209.152");
    assert!(error.contains("network mynet does not exist"), "{error}");
    router(&bed, None, &["192.168.209.1/24"]);
    bed.create("-d macvlan --subnet=192.168.209.0/24 --gateway=192.168.209.1 -o parent=eth0 mynet");
    let container = run(&bed, "centos", "mynet:ip=192.168.209.152");
    assert_shows(&bed, &container, "eth0", &["192.168.209.152/24"]);
    assert!(container.reaches("192.168.209.1"));
}
