//! Links with the MAC address of their parent: a server that gives by MAC address takes the host and its containers for one
//! client, and gives a container what another one has.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use crate::addresses::dhcp::{address, bed, lan, lease};
use crate::addresses::dhcp_renewal::events;
use crate::addresses::identity::start;
use crate::harness::agent::Agent;
use crate::harness::bed::Bed;
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Server, ask};
use crate::harness::frames::{Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::Test;

const PASSTHRU: &str = "-o macvlan_mode=passthru";
const IPVLAN: &str = "-d ipvlan";

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    let on = [("passthru", PASSTHRU, Need::Macvlan), ("ipvlan", IPVLAN, Need::Ipvlan)];
    for (link, options, need) in on {
        for kind in Kind::ALL {
            let name = format!("dhcp_shared_mac::of_the_host::{link}::{kind}");
            let run = move || of_the_host(options, kind);
            let test = Test::new(name, &[need, kind.need(), Need::Tool("busybox")], run);
            tests.push(test.of(kind.debians()));
        }
        let name = format!("dhcp_shared_mac::the_host_gets_it_later::{link}");
        tests.push(Test::new(name, &[need, Kind::Kea.need()], move || later(options)));
        let name = format!("dhcp_shared_mac::the_host_gets_it_before_the_end::{link}");
        tests.push(Test::new(name, &[need, Kind::Kea.need()], move || before_the_end(options)));
    }
    let needs = [Need::Ipvlan, Kind::Udhcpd.need()];
    tests.push(Test::new("dhcp_shared_mac::of_another_container", &needs, of_another));
    tests.push(Test::new("dhcp_shared_mac::two_at_once", &needs, two_at_once));
    tests.push(Test::new("dhcp_shared_mac::of_one_that_has_ended", &needs, of_the_dead));
    let needs = [Need::Ipvlan, Kind::Kea.need()];
    tests.push(Test::new("dhcp_shared_mac::of_the_ledger", &needs, of_the_ledger));
    tests
}

/// What was heard of all clients since `ear` listens, servers' answers aside.
fn asked(ear: &Ear) -> Vec<MessageType> {
    use MessageType::{Ack, Nak, Offer};
    let kinds = ear.all_dhcp().into_iter().map(|message| message.kind);
    kinds.filter(|kind| !matches!(kind, Ack | Nak | Offer)).collect()
}

/// The lease of a host whose client sends no client id.
fn of_host(bed: &Bed) -> Ipv4Addr {
    let address = ask(&bed.host, "-C").unwrap();
    bed.host.ip(&format!("addr add {address}/24 dev eth0"));
    address
}

fn of_the_host(options: &str, kind: Kind) {
    let bed = bed(options);
    let server = Server::start(&bed, kind, Options::default());
    let own = of_host(&bed);
    let ear = Ear::on(&bed.lan);
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    let sentence =
        format!("DHCP server 10.77.0.1 offers {own}, which this host has: it gives by MAC address");
    assert!(
        refused.contains(&sentence) && refused.contains("use macvlan, or let the host's own"),
        "{refused}"
    );
    let asked = asked(&ear);
    assert!(!asked.is_empty() && asked.iter().all(|kind| *kind == MessageType::Discover), "{asked:?}");
    assert_eq!(server.leased(), [own]);
    bed.assert_nothing_held();
}

/// The host has the address of the container when that is to be renewed, and loses it again.
fn later(options: &str) {
    let bed = bed(options);
    let _server = Server::start(&bed, Kind::Kea, Options::short().range(60, 60));
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    assert_eq!(address(&web), lan(60));
    let ear = Ear::on(&bed.lan);
    bed.host.ip("addr add 10.77.0.60/24 dev eth0");
    wait(|| web.addresses("eth0").is_empty());
    wait(|| !events(&bed, "lost").is_empty());
    assert_eq!(events(&bed, "lost")[0]["reason"], "this host has the address of the DHCP lease, too");
    let ends =
        || asked(&ear).iter().any(|kind| !matches!(kind, MessageType::Discover | MessageType::Request));
    assert!(!ends());
    bed.host.ip("addr del 10.77.0.60/24 dev eth0");
    wait(|| !events(&bed, "leased").is_empty());
    assert_eq!(address(&web), lan(60));
    assert!(!ends());
}

/// What is the host's by now is not given back.
fn before_the_end(options: &str) {
    let bed = bed(options);
    let server = Server::start(&bed, Kind::Kea, Options::default().range(60, 60));
    for is_of_host in [false, true] {
        let web = bed.container(Bare, "web").networks("lan").start().unwrap();
        let ear = Ear::on(&bed.lan);
        if is_of_host {
            bed.host.ip("addr add 10.77.0.60/24 dev eth0");
        }
        web.stop();
        bed.assert_nothing_held();
        if is_of_host {
            // What has been sent is heard a little later.
            thread::sleep(Duration::from_millis(200));
            assert!(!asked(&ear).contains(&MessageType::Release));
        } else {
            wait(|| server.leases().is_empty());
        }
        assert_eq!(server.leases().len(), usize::from(is_of_host));
    }
}

fn of_another() {
    let bed = bed(IPVLAN);
    let server = Server::start(&bed, Kind::Udhcpd, Options::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let own = address(&web);
    let ear = Ear::on(&bed.lan);
    let refused = bed.container(Bare, "other").networks("lan").start().map(drop).unwrap_err();
    let sentence = format!(
        "DHCP server 10.77.0.1 offers {own}, which another container of this host has: it gives by MAC address"
    );
    assert!(refused.contains(&sentence), "{refused}");
    assert!(refused.contains("use macvlan, or a server that tells clients by client id"), "{refused}");
    let asked = asked(&ear);
    assert!(!asked.is_empty() && asked.iter().all(|kind| *kind == MessageType::Discover), "{asked:?}");
    assert_eq!((server.leased(), address(&web)), (vec![own], own));
    assert!(web.reaches("10.77.0.1"));
    web.stop();
    bed.assert_nothing_held();
}

/// Both may be offered the address before one has it. Neither declines it, nor gives it back.
fn two_at_once() {
    let bed = bed(IPVLAN);
    let server = Server::start(&bed, Kind::Udhcpd, Options::default());
    let ear = Ear::on(&bed.lan);
    let both = thread::scope(|scope| {
        let start = |id| {
            let bed = &bed;
            scope.spawn(move || bed.container(Bare, id).networks("lan").start())
        };
        ["a", "b"].map(start).map(|one| one.join().unwrap())
    });
    let got: Vec<_> = both.iter().flatten().map(address).collect();
    assert_eq!((got.len(), server.leased()), (1, got.clone()), "{:?}", both.map(Result::err));
    let ends =
        asked(&ear).into_iter().filter(|kind| !matches!(kind, MessageType::Discover | MessageType::Request));
    assert_eq!(ends.count(), 0);
}

/// Another container comes while the agent keeps the lease of one that has ended.
fn of_the_dead() {
    let bed = bed(IPVLAN);
    let server = Server::start(&bed, Kind::Udhcpd, Options::default());
    let _agent = Agent::start(&bed);
    let first = bed.container(Bare, "first").networks("lan").start().unwrap();
    first.stop();
    assert_eq!(server.leases().len(), 1);
    let next = bed.container(Bare, "next").networks("lan").start().unwrap();
    assert_eq!(server.leased(), [address(&next)]);
    assert!(next.reaches("10.77.0.1"));
}

/// An address that the ledger gave, out of the range of the server, is declined: the server gives another one.
fn of_the_ledger() {
    let bed = bed("-d ipvlan --subnet 10.77.0.0/24");
    let _server = Server::start(&bed, Kind::Kea, Options::default().range(50, 51));
    let all = [50, 51].map(lan);
    let by_ledger = bed.container(Bare, "fixed").networks("lan:ip=10.77.0.50").start().unwrap();
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!([address(&by_ledger), address(&web)], all);
    assert_eq!(lease(&bed, &web)["address"], "10.77.0.51/24");
    // If it was the first to be offered.
    let declined = ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Decline);
    assert!(declined.count() <= 1);
}
