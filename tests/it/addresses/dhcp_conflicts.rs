//! Another host takes the address that a server has given to a container that runs.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::addresses::dhcp::{address, bed, lan, lease, printer};
use crate::addresses::dhcp_renewal::events;
use crate::harness::agent::Agent;
use crate::harness::bed::Bed;
use crate::harness::container::{Container, Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::frames::{Dhcp, Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    let on = [("macvlan", Need::Macvlan, Kind::Kea), ("ipvlan", Need::Ipvlan, Kind::Kea)];
    for (driver, need, kind) in on.into_iter().chain([("macvlan", Need::Macvlan, Kind::Dnsmasq)]) {
        let name = format!("dhcp_conflicts::late::{driver}::{kind}");
        tests.push(Test::new(name, &[need, kind.need()], move || late(driver, kind)).in_one());
    }
    let needs = [Need::Macvlan, Kind::Kea.need()];
    tests.push(Test::new("dhcp_conflicts::on_another_lan", &needs, on_another_lan).in_one());
    let needs = [Need::Macvlan, Kind::Dnsmasq.need()];
    tests.push(Test::new("dhcp_conflicts::again_and_again", &needs, again).in_one());
    let needs = [Need::Macvlan, Kind::Kea.need()];
    tests.push(Test::new("dhcp_conflicts::two_links_on_one_lan::dhcp", &needs, two_links_by_dhcp).in_one());
    tests.push(Test::new("dhcp_conflicts::given_again", &needs, given_again).in_one());
    tests
}

fn declined(ear: &Ear) -> Vec<Dhcp> {
    ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Decline).collect()
}

/// The agent finds it, the server is told, and the container gets another address.
fn late(driver: &str, kind: Kind) {
    let bed = bed(&format!("-d {driver}"));
    // dnsmasq offers the same again, unless it looks.
    let options = Options { ping: kind == Kind::Dnsmasq, ..Options::default() };
    let _server = Server::start(&bed, kind, options);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let before = address(&web);
    let id = lease(&bed, &web)["client_id"].clone();
    let (_printer, mac) = printer(&bed, &[before.octets()[3]]);
    let ear = Ear::on(&bed.lan);
    // It asks when it begins.
    let _agent = Agent::start(&bed);
    wait(|| !events(&bed, "leased").is_empty());
    let after = address(&web);
    assert_ne!(after, before);
    assert!(web.reaches("10.77.0.1"));

    let told = declined(&ear);
    let [message] = &told[..] else { panic!("{told:?}") };
    assert_eq!((message.requested(), message.server()), (Some(before), Some(lan(1))));
    assert_eq!((message.broadcast, message.ciaddr), (true, Ipv4Addr::UNSPECIFIED));
    // RFC 2131, 3.1: it waits.
    let mut asked = ear.all_dhcp().into_iter().filter(|asked| asked.kind == MessageType::Discover);
    let pause = asked.next().unwrap().at - message.at;
    assert!((9.5..=12.0).contains(&pause.as_secs_f32()), "{pause:?}");

    let [duplicate, lost, leased] = ["duplicate", "lost", "leased"].map(|kind| events(&bed, kind));
    assert_eq!([duplicate.len(), lost.len(), leased.len()], [1, 1, 1]);
    let text = before.to_string();
    assert_eq!((&duplicate[0]["address"], &duplicate[0]["mac"]), (&text.clone().into(), &mac.clone().into()));
    assert_eq!(lost[0]["address"], text);
    assert_eq!(lost[0]["reason"], format!("another host has the address of the DHCP lease: {mac}"));
    assert_eq!(leased[0]["address"], format!("{after}/24"));
    assert_eq!(lease(&bed, &web)["client_id"], id);
    let leases = bed.leases();
    assert!(leases.len() == 1 && leases[0].ends_with(&format!("/{after}")), "{leases:?}");
    assert_eq!(bed.run("check"), "");
    web.stop();
}

/// The parent is plugged in again, where another host has the address. The server confirms the lease.
fn on_another_lan() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let before = address(&web);
    let ear = Ear::on(&bed.lan);
    bed.lan.ip("link set lan0 down");
    let (_printer, _) = printer(&bed, &[before.octets()[3]]);
    bed.lan.ip("link set lan0 up");
    wait(|| !events(&bed, "leased").is_empty());
    let after = address(&web);
    assert_ne!(after, before);
    assert_eq!(declined(&ear).len(), 1);
    assert!(server.leased().contains(&after) && web.reaches("10.77.0.1"));
    let hints = ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Discover);
    assert!(hints.into_iter().all(|message| message.requested().is_none()));
}

/// A server that has no other address gives the same one again. The container has none until the other host is gone.
fn again() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default().range(60, 60));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let (printer, mac) = printer(&bed, &[60]);
    let ear = Ear::on(&bed.lan);
    let agent = Agent::start(&bed);
    wait(|| declined(&ear).len() == 3);
    let told = declined(&ear);
    assert!(told.windows(2).all(|two| two[1].at - two[0].at > Duration::from_millis(9500)), "{told:?}");
    let sentence = format!("the DHCP server offers 10.77.0.60, which another host has: {mac}");
    wait(|| agent.log().contains(&sentence));
    assert_eq!(web.addresses("eth0"), [] as [String; 0]);
    assert_eq!((events(&bed, "lost").len(), events(&bed, "conflict").len()), (1, 2));
    drop(printer);
    wait(|| web.addresses("eth0") == ["10.77.0.60/24"]);
}

/// With `arp_ignore` 0 each of two links on one LAN answers for the other: that is no conflict. One with another host is.
fn two_links_by_dhcp() {
    let bed = bed("");
    bed.create("--ipam-driver dhcp -o parent=eth0 lan2");
    let _server = Server::start(&bed, Kind::Kea, Options::default());
    let web = bed.container(Bare, "web").networks("lan;lan2").start().unwrap();
    two_links(&bed, &web, "lost");
}

/// Asks the LAN for the addresses of eth0 and eth1 in `web`, which answer for each other: when the agent starts, and when the parent is
/// connected again. Then another host takes the address of the second one, and the event `told` says it.
pub fn two_links(bed: &Bed, web: &Container<'_>, told: &str) {
    let links = ["eth0", "eth1"];
    let had = links.map(|link| web.addresses(link));
    let [_, [second]] = [&had[0][..], &had[1][..]] else { panic!("{had:?}") };
    let second = second.strip_suffix("/24").unwrap();
    let ear = Ear::on(&bed.lan);
    let probes = || ear.about(second).iter().filter(|heard| heard.what == "probe").count();
    let agent = Agent::start(bed);
    wait(|| probes() >= 3);
    bed.lan.ip("link set lan0 down");
    bed.lan.ip("link set lan0 up");
    wait(|| probes() >= 9);
    let quiet = ["duplicate", "lost", "conflict", "moved"].map(|kind| events(bed, kind).len());
    assert_eq!((quiet, links.map(|link| web.addresses(link))), ([0; 4], had.clone()), "{}", agent.log());
    let (_printer, mac) = printer(bed, &[second.rsplit('.').next().unwrap().parse().unwrap()]);
    bed.lan.ip("link set lan0 down");
    bed.lan.ip("link set lan0 up");
    wait(|| !events(bed, told).is_empty());
    let duplicate = events(bed, "duplicate");
    assert_eq!((duplicate.len(), &duplicate[0]["mac"]), (1, &mac.into()), "{duplicate:?}");
}

/// What another host had is given to a container when that host is gone: it is in quarantine no more.
fn given_again() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default().range(60, 60));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let (printer, _) = printer(&bed, &[60]);
    let agent = Agent::start(&bed);
    wait(|| !events(&bed, "lost").is_empty());
    drop((agent, printer));
    web.stop();
    let next = bed.container(Bare, "next").networks("lan").start().unwrap();
    assert_eq!((address(&next), bed.run("check").as_str()), (lan(60), ""));
}
