//! IPv6 as routers make it: addresses and default routes from the advertisements of a radvd on the LAN.

use std::fs;
use std::process::{Child, Stdio};

use crate::harness::bed::Bed;
use crate::harness::container::{
    Container,
    Engine::{self, Bare},
    wait,
};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

const RADVD: Need = Need::Tool("radvd");
/// What the router advertises.
const PREFIX: &str = "2001:db8:77:";

pub fn tests() -> Vec<Test> {
    let all: [Named; 7] = [
        ("instead_of_leases", &[Need::Macvlan, RADVD], instead_of_leases),
        ("beside_leases", &[Need::Macvlan, RADVD], beside_leases),
        ("a_static_address_and_the_routers_route", &[Need::Macvlan, RADVD], the_routers_route),
        ("off_is_off", &[Need::Macvlan, RADVD], off),
        ("stable_addresses", &[Need::Macvlan, RADVD], stable),
        ("temporary_addresses", &[Need::Macvlan, RADVD], temporary),
        ("one_default_route", &[Need::Macvlan, RADVD], one_default_route),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("ipv6::{name}"), needs, run)).into();
    // Engines and kernels each have their part in the sysctls of a namespace; the driver has none in the engines'.
    for (driver, need, engines) in
        [("macvlan", Need::Macvlan, &Engine::REAL[..]), ("ipvlan", Need::Ipvlan, &[Engine::Crun])]
    {
        for &engine in engines {
            let name = format!("ipv6::by_engine::{driver}::{engine}");
            tests.push(Test::new(name, &[need, RADVD, Need::Engine(engine)], move || {
                by_engine(driver, engine)
            }));
        }
    }
    tests
}

/// A router on the LAN, which advertises [`PREFIX`] and itself.
struct Router(Child);

impl Router {
    fn new(bed: &Bed) -> Self {
        bed.lan.ip(&format!("addr add {PREFIX}:1/64 dev lan0 nodad"));
        let (config, pid) = (bed.path("radvd.conf"), bed.path("radvd.pid"));
        let text = format!(
            "interface lan0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n\
             prefix {PREFIX}:/64 {{ AdvOnLink on; AdvAutonomous on; }}; }};\n"
        );
        fs::write(&config, text).unwrap();
        let mut radvd = bed.lan.command("radvd");
        radvd.arg("--nodaemon").arg("--config").arg(config).arg("--pidfile").arg(pid);
        radvd.args(["--logmethod", "stderr"]);
        Self(radvd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The addresses of `eth0` that are made of the router's prefix.
fn made(container: &Container<'_>) -> Vec<String> {
    container.addresses("eth0").into_iter().filter(|address| address.starts_with(PREFIX)).collect()
}

/// The default routes of IPv6.
fn ways_out(container: &Container<'_>) -> Vec<String> {
    container.routes("-6").into_iter().filter(|route| route.starts_with("default")).collect()
}

/// Waits until there is one default route of IPv6, which contains `text`. Some kernels make it anew with each
/// advertisement.
#[track_caller]
fn await_only_way(container: &Container<'_>, text: &str) {
    wait(|| matches!(ways_out(container).as_slice(), [only] if only.contains(text)));
}

/// What RFC 4291 makes of a MAC address.
fn eui64(container: &Container<'_>) -> String {
    let mac = container.link("eth0")["address"].as_str().unwrap().to_owned();
    let bytes: Vec<_> = mac.split(':').map(|byte| u16::from_str_radix(byte, 16).unwrap()).collect();
    let group = |high: u16, low: u16| format!("{:x}", (high << 8) | low);
    let groups = [
        group(bytes[0] ^ 2, bytes[1]),
        group(bytes[2], 0xff),
        group(0xfe, bytes[3]),
        group(bytes[4], bytes[5]),
    ];
    let address: std::net::Ipv6Addr = format!("{PREFIX}0:{}", groups.join(":")).parse().unwrap();
    format!("{address}/64")
}

/// A container on another network of the same parent has heard the router: who has not by now, will not.
fn heard(bed: &Bed) -> Container<'_> {
    bed.create("-o parent=eth0 --ipv6=slaac witness");
    let witness = bed.container(Bare, "witness").networks("witness").start().unwrap();
    wait(|| !made(&witness).is_empty() && !ways_out(&witness).is_empty());
    witness
}

fn by_engine(driver: &str, engine: Engine) {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create(&format!("-d {driver} --subnet 172.16.86.0/24 -o parent=eth0 --ipv6=slaac lan"));
    let web = bed.container(engine, "web").networks("lan").start().unwrap();
    assert_eq!(web.addresses("eth0")[0], "172.16.86.2/24");
    wait(|| !made(&web).is_empty() && !ways_out(&web).is_empty());
    if driver == "macvlan" {
        assert_eq!(made(&web), [eui64(&web)]);
    }
    wait(|| web.reaches(&format!("{PREFIX}:1")));
    assert_eq!(bed.run("check"), "", "what routers give is no difference");
    web.stop();
    assert_eq!(bed.gc(), "");
}

/// Without a subnet there is nothing in the ledger but the MAC address.
fn instead_of_leases() {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create("-o parent=eth0 --ipv6=slaac lan");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    wait(|| !made(&web).is_empty());
    assert_eq!(made(&web), [eui64(&web)]);
    assert_eq!(bed.leases(), [""; 0]);
    await_only_way(&web, "proto ra");
    web.stop();
}

/// The configured default route is the only one.
fn beside_leases() {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create("-o parent=eth0 --subnet 2001:db8:abc8::/64 --gateway 2001:db8:abc8::10 --ipv6=slaac lan");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["2001:db8:abc8::1/64"]);
    wait(|| !made(&web).is_empty());
    let witness = heard(&bed);
    assert_eq!(ways_out(&web), ["default via 2001:db8:abc8::10 dev eth0 metric 1024 pref medium"]);
    assert!(web.reaches("2001:db8:abc8::10") && web.reaches(&format!("{PREFIX}:1")));
    assert_eq!(bed.run("check"), "");
    // What is lost is written anew with what was leased, and nothing else.
    let leases = bed.leases();
    fs::remove_dir_all(bed.path("run")).unwrap();
    bed.gc();
    assert_eq!(bed.leases(), leases);
    drop(witness);
    web.stop();
}

/// A subnet without a gateway: the address is leased, the way out is the router's.
fn the_routers_route() {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create(&format!("-o parent=eth0 --subnet {PREFIX}:/64 --ip-range {PREFIX}:100/120 -o metric=7 lan"));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    await_only_way(&web, "proto ra metric 7");
    assert_eq!(made(&web), [format!("{PREFIX}:100/64")], "one address, and it is ours");
    assert_eq!(bed.run("check"), "");
}

fn off() {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create("-o parent=eth0 --subnet 172.16.86.0/24 plain");
    bed.create("-o parent=eth0 --subnet 172.16.86.0/24 --ipv6=off without");
    bed.create("-o parent=eth0 --subnet 2001:db8:abc8::/64 --gateway 2001:db8:abc8::10 six");
    bed.create("-o parent=eth0 --subnet 2001:db8:abc8::/64 --internal inside");
    let start = |network: &str| bed.container(Bare, network).networks(network).start().unwrap();
    let [plain, without, six, inside] = ["plain", "without", "six", "inside"].map(start);
    let _witness = heard(&bed);
    for container in [&plain, &without] {
        assert_eq!(container.run("ip", "-6 addr show dev eth0"), "");
        assert_eq!(container.addresses("eth0").len(), 1);
    }
    assert_eq!(six.addresses("eth0"), ["2001:db8:abc8::1/64"]);
    assert_eq!(ways_out(&six), ["default via 2001:db8:abc8::10 dev eth0 metric 1024 pref medium"]);
    assert_eq!(inside.addresses("eth0"), ["2001:db8:abc8::2/64"]);
    assert_eq!(ways_out(&inside), [""; 0]);
    for (options, said) in [
        ("--ipv6=off --subnet 2001:db8::/64", "ipv6: off, and subnet 2001:db8::/64 is an IPv6 subnet"),
        ("--ipv6=on", "--ipv6: unknown kind of IPv6 \"on\""),
        (
            "-d ipvlan -o mode=l3 -o ipv6=slaac",
            "ipv6: ipvlan mode l3 bridge receives no router advertisements",
        ),
    ] {
        let outcome = bed.outcome(&format!("network create -o parent=eth0 {options} wrong"), "");
        assert!(outcome.code != 0 && outcome.stderr.contains(said), "{outcome:?}");
    }
}

/// By its identity a container has the same address again, which tells nothing of its MAC address.
fn stable() {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create("-o parent=eth0 --ipv6=slaac-stable lan");
    let start = |id: &str, identity: &str| {
        let container = bed.container(Bare, id).annotation("io.underlay.identity", identity);
        let container = container.networks("lan").start().unwrap();
        wait(|| !made(&container).is_empty());
        container
    };
    let first = start("first", "db");
    let had = made(&first);
    assert_ne!(had, [eui64(&first)]);
    first.stop();
    let other = start("other", "web");
    assert_ne!(made(&other), had);
    // Whatever the MAC address.
    fs::remove_dir_all(bed.path("data")).unwrap();
    let again = start("again", "db");
    assert_eq!(made(&again), had);
}

fn temporary() {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create("-o parent=eth0 --ipv6=slaac-privacy lan");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    wait(|| made(&web).len() == 2);
    assert!(!made(&web).contains(&eui64(&web)));
    assert!(web.run("ip", "-6 addr show dev eth0").contains(" temporary "));
    wait(|| web.reaches(&format!("{PREFIX}:1")));
    assert_eq!(bed.run("check"), "");
}

/// Of two attachments that hear routers one takes the default route: the first, unless priorities say otherwise.
fn one_default_route() {
    let bed = Bed::new();
    let _router = Router::new(&bed);
    bed.create("-o parent=eth0 --ipv6=slaac one");
    bed.create("-o parent=eth0 --ipv6=slaac two");
    let both = bed.container(Bare, "both").networks("one;two").start().unwrap();
    let chosen = bed.container(Bare, "chosen").networks("one;two:gw-priority=5").start().unwrap();
    let neither = bed.container(Bare, "neither").networks("one:default-route=no").start().unwrap();
    wait(|| !made(&neither).is_empty());
    let _witness = heard(&bed);
    await_only_way(&both, "dev eth0");
    await_only_way(&chosen, "dev eth1");
    assert_eq!(ways_out(&neither), [""; 0]);
}
