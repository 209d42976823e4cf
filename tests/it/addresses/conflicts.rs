//! Conflicts with other hosts: an address that somebody else on the LAN has is not used, and neighbours hear at once
//! where a container is.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::addresses::dhcp_conflicts;
use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine, Engine::Bare, wait};
use crate::harness::frames::Ear;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 16] = [
        ("picked", &[Need::Macvlan], || picked("macvlan")),
        ("picked_ipvlan", &[Need::Ipvlan], || picked("ipvlan")),
        ("asked_for", &[Need::Macvlan], || asked_for("macvlan")),
        ("asked_for_ipvlan", &[Need::Ipvlan], || asked_for("ipvlan")),
        ("one_of_several", &[Need::Macvlan], one_of_several),
        ("too_many", &[Need::Macvlan], too_many),
        ("behind_a_switch", &[Need::Macvlan], behind_a_switch),
        ("two_hosts_at_once", &[Need::Macvlan], two_hosts),
        ("neighbours_that_are_known", &[Need::Macvlan], neighbours),
        ("a_container_that_is_gone", &[Need::Macvlan], gone),
        ("two_links_on_one_lan", &[Need::Macvlan], || two_links("lan;lan2", None)),
        ("two_links_of_one_namespace", &[Need::Macvlan], || two_links("lan", Some("lan2"))),
        ("off", &[Need::Macvlan], off),
        ("the_parent_is_down", &[Need::Macvlan], parent_down),
        ("the_time_is_honoured", &[Need::Macvlan], time),
        ("quarantine_ends", &[Need::Macvlan], quarantine_ends),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("conflicts::{name}"), needs, run)).into();
    for (driver, need) in [("macvlan", Need::Macvlan), ("ipvlan", Need::Ipvlan)] {
        let name = format!("conflicts::probes_and_announcements::{driver}");
        tests.push(Test::new(name, &[need], move || probes_and_announcements(driver)));
    }
    for engine in Engine::REAL {
        let name = format!("conflicts::an_engine_waits_for_nobody::{engine}");
        tests.push(Test::new(name, &[Need::Macvlan, Need::Engine(engine)], move || engines(engine)));
    }
    tests
}

const V6: &str = "--subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10";

/// Links of one namespace that answer for each other: of one container, or one of another container.
fn two_links(networks: &str, of_other: Option<&str>) {
    let bed = Bed::new();
    bed.create("--subnet 10.77.0.0/24 -o parent=eth0 lan");
    bed.create("--subnet 10.77.0.0/24 -o parent=eth0 lan2");
    let kept = Netns::new("kept");
    let start =
        |id, networks| bed.container(Bare, id).networks(networks).in_netns(kept.path()).start().unwrap();
    let web = start("web", networks);
    let _other = of_other.map(|networks| start("other", networks));
    dhcp_conflicts::two_links(&bed, &web, "duplicate");
}

/// The MAC address of a link of a namespace.
fn mac(netns: &Netns, link: &str) -> String {
    netns.link(link).unwrap()["address"].as_str().unwrap().to_owned()
}

fn mac_of(container: &Container<'_>) -> String {
    container.link("eth0")["address"].as_str().unwrap().to_owned()
}

/// What is set aside in `pub_net`: address and MAC address.
fn quarantined(bed: &Bed) -> Vec<(String, String)> {
    let inspected: Value = serde_json::from_str(&bed.run("network inspect pub_net")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all = inspected[0]["quarantine"].as_array().unwrap().iter();
    all.map(|entry| (text(&entry["address"]), text(&entry["mac"]))).collect()
}

fn picked(driver: &str) {
    let bed = Bed::with_pub_net(driver, V6);
    bed.lan.ip_batch(&[
        "addr add 172.16.86.2/32 dev lan0",
        "addr add 2001:db8:abc8::1/128 dev lan0 nodad",
        "addr add 2001:db8:abc8::2/128 dev lan0 nodad",
    ]);
    let other = mac(&bed.lan, "lan0");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["172.16.86.3/24", "2001:db8:abc8::3/64"]);
    assert!(web.reaches("172.16.86.1"));
    let leases: Vec<_> =
        bed.leases().iter().map(|lease| lease.split_once('/').unwrap().1.to_owned()).collect();
    assert_eq!(leases, ["172.16.86.3", "2001:db8:abc8::3"]);
    let expected = ["172.16.86.2", "2001:db8:abc8::1", "2001:db8:abc8::2"];
    let expected = expected.map(|address| (address.to_owned(), other.clone()));
    assert_eq!(quarantined(&bed), expected);
    assert!(bed.log().contains(&format!("172.16.86.2 of network pub_net is in use on the LAN, by {other}")));
    assert_eq!(bed.run("check"), "");

    // Nobody asks for them again.
    let ear = Ear::on(&bed.lan);
    let next = bed.container(Bare, "next").networks("pub_net").start().unwrap();
    assert_eq!(next.addresses("eth0"), ["172.16.86.4/24", "2001:db8:abc8::4/64"]);
    assert!(ear.about("172.16.86.2").is_empty());
    next.stop();
    web.stop();
    bed.assert_nothing_held();
    assert_eq!(bed.gc(), "");
}

fn asked_for(driver: &str) {
    let bed = Bed::with_pub_net(driver, V6);
    let other = mac(&bed.lan, "lan0");
    for (address, held) in
        [("172.16.86.9", "172.16.86.9/32"), ("2001:db8:abc8::9", "2001:db8:abc8::9/128 nodad")]
    {
        bed.lan.ip(&format!("addr add {held} dev lan0"));
        let ask = || bed.container(Bare, "web").networks(&format!("pub_net:ip={address}")).start();
        let refused = ask().map(drop).unwrap_err();
        let expected = format!("address {address} of network pub_net is in use on the LAN, by {other}");
        assert!(refused.contains(&expected), "{refused}");
        bed.assert_nothing_held();
        // As soon as it is given up, it can be had.
        bed.lan.ip(&format!("addr del {} dev lan0", held.trim_end_matches(" nodad")));
        ask().unwrap().stop();
    }
}

/// Of several networks one has a conflict; the default route moves with the address.
fn one_of_several() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.create("--subnet=10.7.0.0/30 --subnet=10.8.0.0/24 --gateway=10.8.0.1 -o parent=eth0 other");
    bed.create("--subnet=10.9.0.0/24 -o parent=eth0 -o conflict_detection=off blind");
    for address in ["10.7.0.1", "10.7.0.2", "10.9.0.1"] {
        bed.lan.ip(&format!("addr add {address}/32 dev lan0"));
    }
    let asked = "blind;other:gw-priority=5;pub_net";
    let web = bed.container(Bare, "web").networks(asked).start().unwrap();
    assert_eq!(web.addresses("eth0"), ["10.9.0.1/24"]);
    assert_eq!(web.addresses("eth1"), ["10.8.0.1/24"].map(|_| "10.8.0.2/24"));
    assert_eq!(web.addresses("eth2"), ["172.16.86.2/24"]);
    assert_eq!(web.routes("-4")[0], "default via 10.8.0.1 dev eth1");
    assert_eq!(bed.run("check"), "");
}

fn too_many() {
    let bed = Bed::with_pub_net("macvlan", "");
    let taken: Vec<_> = (2..14).map(|last| format!("addr add 172.16.86.{last}/32 dev lan0")).collect();
    bed.lan.ip_batch(&taken.iter().map(String::as_str).collect::<Vec<_>>());
    let refused = bed.container(Bare, "web").networks("pub_net").start().map(drop).unwrap_err();
    let other = mac(&bed.lan, "lan0");
    let expected = format!(
        "10 addresses of network pub_net were in use on the LAN, and 172.16.86.12 is too, by {other}"
    );
    assert!(refused.contains(&expected), "{refused}");
    bed.assert_nothing_held();
    assert_eq!(quarantined(&bed).len(), 10);
    // The next one begins where this one gave up.
    let next = bed.container(Bare, "next").networks("pub_net").start().unwrap();
    assert_eq!(next.addresses("eth0"), ["172.16.86.14/24"]);
}

/// A LAN with more than one other host: `lan0` becomes a port of a bridge.
fn switch(bed: &Bed) {
    bed.lan.ip_batch(&["link add br0 type bridge", "link set lan0 master br0", "link set br0 up"]);
}

fn behind_a_switch() {
    let bed = Bed::with_pub_net("macvlan", V6);
    switch(&bed);
    let printer = Netns::new("printer");
    bed.lan.ip_batch(&[
        &format!("link add port1 type veth peer name eth0 netns {}", printer.name),
        "link set port1 master br0 up",
    ]);
    printer.ip_batch(&[
        "addr add 172.16.86.2/24 dev eth0",
        "addr add 2001:db8:abc8::1/64 dev eth0 nodad",
        "link set eth0 up",
    ]);
    wait(|| printer.ip("link show eth0").contains("LOWER_UP"));
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["172.16.86.3/24", "2001:db8:abc8::2/64"]);
    assert!(web.reaches("172.16.86.2"));
    let other = mac(&printer, "eth0");
    assert_eq!(quarantined(&bed)[0], ("172.16.86.2".to_owned(), other));
}

/// Two hosts that hand out the same range at the same time.
fn two_hosts() {
    let bed = Bed::with_pub_net("macvlan", "");
    switch(&bed);
    let second = Bed::with_pub_net("macvlan", "");
    // Its cable goes into the switch of the first.
    second.lan.ip(&format!("link set lan0 netns {} name port1", bed.lan.name));
    bed.lan.ip("link set port1 master br0 up");
    second.host.ip("addr del 172.16.86.250/24 dev eth0");
    let start = |bed: &Bed, id: String| -> Vec<String> {
        let web = bed.container(Bare, &id).networks("pub_net").start().unwrap();
        let addresses = web.addresses("eth0");
        // It lives until the bed is gone.
        std::mem::forget(web);
        addresses
    };
    for round in 0..4 {
        let (one, other) = thread::scope(|scope| {
            let one = scope.spawn(|| start(&bed, format!("a{round}")));
            let other = scope.spawn(|| start(&second, format!("b{round}")));
            (one.join().unwrap(), other.join().unwrap())
        });
        assert_ne!(one, other);
    }
    let pids = [&bed, &second].map(|bed| bed.ps());
    let held = |records: &[Value]| -> Vec<String> {
        let of = |record: &Value| record["attachments"][0]["addresses"][0].as_str().unwrap().to_owned();
        records.iter().map(of).collect()
    };
    let mut all: Vec<_> = pids.iter().flat_map(|records| held(records)).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 8, "{pids:?}");
    for record in pids.iter().flatten() {
        crate::harness::bed::run("kill", &["-9", &record["holder"]["pid"].to_string()]).unwrap();
    }
}

fn neighbours() {
    let bed = Bed::with_pub_net("macvlan", "");
    let fixed = "02:00:00:00:00:99";
    bed.host.ip_batch(&[
        &format!("neigh add 172.16.86.2 lladdr {fixed} dev eth0 nud permanent"),
        &format!("neigh add 172.16.86.3 lladdr {fixed} dev eth0 nud reachable"),
        &format!("neigh add 172.16.86.4 lladdr {fixed} dev eth0 nud stale"),
        "neigh add 172.16.86.5 dev eth0 nud failed",
    ]);
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["172.16.86.4/24"], "what is stale is nobody's until it answers");
    assert!(ear.about("172.16.86.2").is_empty() && quarantined(&bed).is_empty());

    let ask = |what: &str| bed.container(Bare, "asks").networks(&format!("pub_net:{what}")).start();
    let refused = ask("ip=172.16.86.2").map(drop).unwrap_err();
    assert!(
        refused.contains(&format!("is held by {fixed}, as the host's neighbour table says")),
        "{refused}"
    );
    // It is meant for this very container; and who was there a moment ago may be gone.
    ask(&format!("ip=172.16.86.2,mac={fixed}")).unwrap().stop();
    ask("ip=172.16.86.3").unwrap().stop();
    bed.create("--subnet=172.16.86.0/24 -o parent=eth0 -o conflict_detection=off blind");
    bed.container(Bare, "blind").networks("blind:ip=172.16.86.2").start().unwrap().stop();
}

/// The kernel takes a link apart some time after its container is gone: what that answers is no conflict.
fn gone() {
    let bed = Bed::with_pub_net("macvlan", "--ip-range 172.16.86.77/32");
    for asked in ["pub_net:ip=172.16.86.9", "pub_net"] {
        for _ in 0..10 {
            bed.container(Bare, "web").networks(asked).start().unwrap().stop();
        }
    }
    assert!(quarantined(&bed).is_empty());
}

fn probes_and_announcements(driver: &str) {
    let bed = Bed::with_pub_net(driver, V6);
    let _agent = Agent::start(&bed);
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let mac = mac_of(&web);
    for address in ["172.16.86.2", "2001:db8:abc8::1"] {
        wait(|| ear.times("announcement", &mac, address).len() == 3);
        let probes = ear.times("probe", &mac, address);
        let announcements = ear.times("announcement", &mac, address);
        assert_eq!(probes.len(), 3, "{:?}", ear.heard(&mac, address));
        assert!(probes[2] < announcements[0], "first it is asked, then told");
        for pair in announcements.windows(2) {
            // But for what the ear is late.
            assert!(pair[1] - pair[0] > Duration::from_millis(950), "{announcements:?}");
        }
    }
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(ear.times("announcement", &mac, "172.16.86.2").len(), 3, "and no more");
}

fn off() {
    let bed = Bed::with_pub_net("macvlan", &format!("{V6} -o conflict_detection=off -o announcements=0"));
    bed.lan.ip("addr add 172.16.86.2/32 dev lan0");
    let _agent = Agent::start(&bed);
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["172.16.86.2/24", "2001:db8:abc8::1/64"], "nobody was asked");
    thread::sleep(Duration::from_millis(1500));
    for address in ["172.16.86.2", "2001:db8:abc8::1"] {
        assert_eq!(ear.heard(&mac_of(&web), address), [], "not a word");
    }
    // The settings speak for networks that say nothing themselves.
    bed.configure("underlay.json", r#"{"version": 1, "conflict_detection": "off"}"#);
    bed.create("--subnet=10.7.0.0/24 --subnet=2001:db8:7::/64 -o parent=eth0 told");
    let told = bed.container(Bare, "told").networks("told").start().unwrap();
    let mac = mac_of(&told);
    for address in ["10.7.0.1", "2001:db8:7::1"] {
        wait(|| ear.times("announcement", &mac, address).len() == 3);
        assert_eq!(ear.times("probe", &mac, address), []);
    }
}

fn parent_down() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=10000");
    bed.host.ip("link set eth0 down");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(bed.ps()[0]["attachments"][0]["asked"], "no", "nobody could answer");
    assert_eq!(web.addresses("eth0"), ["172.16.86.2/24"]);
    bed.host.ip("link set eth0 up");
    wait(|| web.reaches("172.16.86.1"));
}

fn time() {
    let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=700");
    bed.create("--subnet=10.7.0.0/24 -o parent=eth0 -o conflict_detection=rfc thorough");
    bed.create("--subnet=10.8.0.0/24 -o parent=eth0 -o conflict_detection=10000 patient");
    for (networks, least) in [("pub_net", 700), ("pub_net;thorough", 4000)] {
        let before = Instant::now();
        let web = bed.container(Bare, "web").networks(networks).start().unwrap();
        assert!(before.elapsed() >= Duration::from_millis(least), "{networks}");
        web.stop();
    }
    // Who hears an answer waits no longer.
    bed.lan.ip("addr add 10.8.0.9/32 dev lan0");
    let ear = Ear::on(&bed.lan);
    bed.container(Bare, "web").networks("patient:ip=10.8.0.9").start().map(drop).unwrap_err();
    let probes = || ear.about("10.8.0.9").into_iter().filter(|heard| heard.what == "probe").count();
    wait(|| probes() > 0);
    assert_eq!(probes(), 1, "the second would come after three seconds");
}

fn quarantine_ends() {
    let bed = Bed::with_pub_net("macvlan", "--ip-range 172.16.86.2-172.16.86.3");
    bed.lan.ip("addr add 172.16.86.2/32 dev lan0");
    bed.container(Bare, "web").networks("pub_net").start().unwrap().stop();
    assert_eq!(quarantined(&bed).len(), 1);
    let folder = fs::read_dir(bed.path("run/segments")).unwrap().next().unwrap().unwrap();
    let file = folder.path().join("segment.json");
    let mut segment: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    segment["quarantine"]["172.16.86.2"]["until"] = 1000.into();
    fs::write(&file, segment.to_string()).unwrap();
    assert_eq!(quarantined(&bed), []);
    let line = format!(
        "# the quarantine of 172.16.86.2 on link number {} is over\n",
        folder.file_name().to_str().unwrap()
    );
    assert_eq!(bed.run("gc --dry-run"), line);
    assert_eq!(bed.gc(), line);
    assert_eq!(bed.gc(), "");
    bed.lan.ip("addr del 172.16.86.2/32 dev lan0");
    let other = bed.container(Bare, "other").networks("pub_net").start().unwrap();
    assert_eq!(other.addresses("eth0"), ["172.16.86.2/24"]);
}

fn engines(engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", V6);
    let _agent = Agent::start(&bed);
    bed.lan.ip_batch(&["addr add 172.16.86.2/32 dev lan0", "addr add 2001:db8:abc8::1/128 dev lan0 nodad"]);
    let ear = Ear::on(&bed.lan);
    let web = bed.container(engine, "web").networks("pub_net").start().unwrap();
    assert_eq!(web.addresses("eth0"), ["172.16.86.3/24", "2001:db8:abc8::2/64"]);
    // It came back before the last announcement: it waited for nobody.
    let mac = mac_of(&web);
    wait(|| ear.times("announcement", &mac, "172.16.86.3").len() == 3);
    web.stop();
    let again = bed.container(engine, "again").networks("pub_net:ip=172.16.86.3").start().unwrap();
    // The agent is at work on it: stopping does not wait for that either.
    again.stop();
    bed.assert_nothing_held();
}
