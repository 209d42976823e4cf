//! What links are given besides type, name and addresses: queues, sysctls, source addresses; and what of the parent
//! stays as it is.

use serde_json::Value;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("queues", &[Need::Macvlan], queues),
        ("sysctls", &[Need::Macvlan], sysctls),
        ("whose_frames_come_in", &[Need::Macvlan], sources),
        ("several_modes_on_one_parent", &[Need::Macvlan], modes),
        ("a_parent_whose_mtu_shrinks", &[Need::Macvlan], shrunk),
        ("offloads_of_the_parent_stay", &[Need::Macvlan], offloads),
    ];
    all.map(|(name, needs, run)| Test::new(format!("properties::{name}"), needs, run)).into()
}

const SUBNET: &str = "--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0";

/// What `check` finds: `EXPECTED / FOUND`.
fn found(bed: &Bed) -> Vec<String> {
    let outcome = bed.outcome("check --format json", "");
    let all: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    all.iter().map(|one| format!("{} / {}", text(&one["expected"]), text(&one["found"]))).collect()
}

fn queues() {
    let bed = Bed::new();
    bed.create(&format!("{SUBNET} -o txqueuelen=500 -o bcqueuelen=2000 lan"));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let link = web.link("eth0");
    assert_eq!((&link["txqlen"], &link["linkinfo"]["info_data"]["bcqueuelen"]), (&500.into(), &2000.into()));
    assert_eq!(found(&bed), [""; 0]);
    web.run("ip", "link set eth0 txqueuelen 9");
    assert_eq!(found(&bed), ["txqueuelen 500 / txqueuelen 9"]);
    web.run("ip", "link set eth0 txqueuelen 500 type macvlan bcqueuelen 1500");
    assert_eq!(found(&bed), ["bcqueuelen 2000 / bcqueuelen 1500"]);
    let outcome = bed.outcome("network create -d ipvlan -o parent=eth0 -o bcqueuelen=5 wrong", "");
    assert!(outcome.stderr.contains("bcqueuelen: is not an option of driver ipvlan"), "{outcome:?}");
}

fn sysctls() {
    let bed = Bed::new();
    bed.create(&format!(
        "{SUBNET} --sysctl ipv4.arp_ignore=8 --sysctl ipv4.rp_filter=2 --sysctl ipv6.accept_ra=0 -o announcements=0 quiet"
    ));
    bed.create(&format!("{SUBNET} lan"));
    // A link's name may have a dot.
    let web = bed.container(Bare, "web").networks("quiet:ifname=a.b;lan").start().unwrap();
    let of = |link: &str, name: &str| {
        let path = format!("/proc/sys/net/{}", name.replace("LINK", link));
        web.run("cat", &path).trim().to_owned()
    };
    for (name, value) in [
        ("ipv4/conf/LINK/arp_ignore", "8"),
        ("ipv4/conf/LINK/rp_filter", "2"),
        ("ipv6/conf/LINK/accept_ra", "0"),
    ] {
        assert_eq!(of("a.b", name), value, "{name}");
    }
    assert_eq!(of("eth0", "ipv4/conf/LINK/arp_ignore"), "0", "of the one link alone");
    assert_eq!(found(&bed), [""; 0]);
    // Who ignores all questions is not found.
    let asks = |address: &str| bed.lan.try_run("busybox", &format!("ping -c 1 -W 2 {address}")).is_ok();
    let _quiet = bed.container(Bare, "quiet").networks("quiet:ip=172.16.86.88").start().unwrap();
    assert!(!asks("172.16.86.88"));
    let plain = bed.container(Bare, "plain").networks("lan:ip=172.16.86.89").start().unwrap();
    assert!(asks("172.16.86.89"));
    drop(plain);
    for (sysctl, said) in [
        (
            "ipv4.proxy_arp=1",
            "sysctl \"ipv4.proxy_arp\" cannot be set per link\nhint: use one of: ipv4.accept_redirects ",
        ),
        ("ipv4.rp_filter=x", "sysctl ipv4.rp_filter: \"x\" is not a sysctl value"),
        ("ipv4.rp_filter", "sysctl \"ipv4.rp_filter\" has no value"),
    ] {
        let outcome = bed.outcome(&format!("network create -o parent=eth0 --sysctl {sysctl} wrong"), "");
        assert!(outcome.code != 0 && outcome.stderr.contains(said), "{outcome:?}");
    }
    // What the kernel does not take is an error, and leaves nothing.
    bed.create(&format!("{SUBNET} --sysctl ipv6.addr_gen_mode=77 odd"));
    let before = bed.records();
    let error = bed.container(Bare, "odd").networks("odd").start().map(drop).unwrap_err();
    assert!(
        error.contains("cannot write /proc/sys/net/ipv6/conf/eth0/addr_gen_mode: Invalid argument"),
        "{error}"
    );
    assert_eq!(bed.records(), before);
}

/// A peer on the LAN with another MAC address than the router.
fn peer(bed: &Bed) -> Netns {
    let peer = Netns::new("peer");
    bed.lan.ip(&format!(
        "link add p0 link lan0 address 02:00:00:00:00:05 netns {} type macvlan mode bridge",
        peer.name
    ));
    peer.ip_batch(&["addr add 172.16.86.5/24 dev p0", "link set p0 up"]);
    peer
}

fn sources() {
    let bed = Bed::new();
    let _peer = peer(&bed);
    let router = bed.lan.link("lan0").unwrap()["address"].as_str().unwrap().to_owned();
    bed.create(&format!("{SUBNET} -o macvlan_mode=source -o source_macs={router} lan"));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert!(web.reaches("172.16.86.1"));
    let hears_peer = |container: &crate::harness::container::Container<'_>| {
        container.try_run("busybox", "ping -c 1 -W 2 172.16.86.5").is_ok()
    };
    assert!(!hears_peer(&web), "not among them");
    for asked in
        ["lan:source-mac=02:00:00:00:00:05", r#"[{"name": "lan", "source-macs": ["02:00:00:00:00:05"]}]"#]
    {
        let both = bed.container(Bare, "both").networks(asked).start().unwrap();
        assert!(hears_peer(&both) && both.reaches("172.16.86.1"), "{asked}");
        assert_eq!(found(&bed), [""; 0]);
    }
    web.run("ip", "link set eth0 type macvlan macaddr flush");
    assert_eq!(found(&bed), [format!("source_macs {router} / source_macs ")]);
    bed.create(&format!("{SUBNET} bridged"));
    for (asked, said) in [
        (
            "bridged:source-mac=02:00:00:00:00:05",
            "network bridged: source_macs: macvlan mode bridge takes frames from all hosts",
        ),
        ("lan:source-mac=x", "option source-mac of network lan: MAC address \"x\" is not usable"),
    ] {
        let error = bed.container(Bare, "wrong").networks(asked).start().map(drop).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
}

/// The mode is a link's own: who is private is so whatever its neighbours are.
fn modes() {
    let bed = Bed::new();
    let router = bed.lan.link("lan0").unwrap()["address"].as_str().unwrap().to_owned();
    for mode in ["bridge", "private", "vepa"] {
        bed.create(&format!("{SUBNET} -o macvlan_mode={mode} {mode}"));
    }
    bed.create(&format!("{SUBNET} -o macvlan_mode=source -o source_macs={router} source"));
    let start = |id: &str, network: &str| bed.container(Bare, id).networks(network).start().unwrap();
    let all = [
        start("a", "bridge"),
        start("b", "bridge"),
        start("c", "private"),
        start("d", "vepa"),
        start("e", "source"),
    ];
    for (container, mode) in all.iter().zip(["bridge", "bridge", "private", "vepa", "source"]) {
        assert_eq!(container.link("eth0")["linkinfo"]["info_data"]["mode"], mode);
        assert!(container.reaches("172.16.86.1"), "{mode}");
    }
    let [a, b, c, ..] = &all;
    let address = |container: &crate::harness::container::Container<'_>| {
        container.addresses("eth0")[0].replace("/24", "")
    };
    assert!(a.reaches(&address(b)));
    assert!(a.try_run("busybox", &format!("ping -c 1 -W 2 {}", address(c))).is_err());
    assert_eq!(found(&bed), [""; 0]);
}

fn shrunk() {
    let bed = Bed::new();
    bed.create(&format!("{SUBNET} -o mtu=1400 lan"));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    bed.host.ip("link set eth0 mtu 1300");
    assert_eq!(web.link("eth0")["mtu"], 1300, "the kernel's doing");
    assert_eq!(found(&bed), ["1400 / 1300", "1400 / 1300"], "of the container, and of the network");
    let outcome = bed.outcome("check", "");
    let hint = "parent eth0 has mtu 1300 now: `ip link set eth0 mtu 1400`, then restart the container";
    assert_eq!(outcome.stderr.matches(hint).count(), 1, "{outcome:?}");
    let shown: Value = serde_json::from_str(&bed.run("network inspect lan")).unwrap();
    assert_eq!(shown[0]["problem"], "mtu 1400 of network lan is above the 1300 of parent eth0");
    bed.host.ip("link set eth0 mtu 1500");
    let shown: Value = serde_json::from_str(&bed.run("network inspect lan")).unwrap();
    assert_eq!(shown[0]["problem"], Value::Null);
    assert_eq!(found(&bed), ["1400 / 1300"], "smaller with its parent, and larger never");
    web.stop();
    assert_eq!(found(&bed), [""; 0]);
}

/// Neither features nor anything else of the parent changes but for the promiscuity that the kernel counts.
fn offloads() {
    let bed = Bed::new();
    let state = || {
        let features = bed.host.try_run("ethtool", "-k eth0").unwrap_or_default();
        let mut link = bed.host.link("eth0").unwrap();
        for key in ["promiscuity", "allmulti", "operstate", "flags"] {
            link.as_object_mut().unwrap().remove(key);
        }
        (features, link)
    };
    let before = state();
    bed.create(&format!("{SUBNET} -o txqueuelen=500 -o mtu=1400 lan"));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(state(), before);
    web.stop();
    assert_eq!(state(), before);
}
