//! The DHCP servers of the harness: each gives addresses to a client that is not ours, and tells what it knows of them.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::bed::{Bed, finish};
use crate::harness::container::wait;
use crate::harness::dhcp::{By, Client, Kind, Options, Server, beside};
use crate::harness::frames::{Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let each: [(_, fn(Kind)); 5] = [
        ("a_lease", a_lease),
        ("options", options),
        ("another_range", another_range),
        ("reservations", reservations),
        ("ping_check", ping_check),
    ];
    let mut tests = Vec::new();
    for kind in Kind::ALL {
        for (name, run) in each {
            let name = format!("dhcp_servers::{name}::{kind}");
            let test = Test::new(name, &[Need::Macvlan, kind.need()], move || run(kind));
            tests.push(test.of(kind.debians()));
        }
    }
    let kea = [Need::Macvlan, Kind::Kea.need()];
    tests.push(Test::new("dhcp_servers::short_leases", &kea, short_leases));
    let two = [Need::Macvlan, Kind::Kea.need(), Kind::Dnsmasq.need()];
    tests.push(Test::new("dhcp_servers::two_of_them", &two, two_of_them));
    let dnsmasq = [Need::Macvlan, Kind::Dnsmasq.need()];
    tests.push(Test::new("dhcp_servers::times_of_dnsmasq", &dnsmasq, times_of_dnsmasq));
    tests.push(Test::new("dhcp_servers::no_client", &[Need::Macvlan], no_client));
    tests
}

const ID: [u8; 4] = [0, b'w', b'e', b'b'];
const WITH_ID: &str = "-x 0x3d:00776562";

fn lan(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// What a server knows of a client survives it, and is gone after a release.
fn a_lease(kind: Kind) {
    let bed = Bed::new();
    let mut server = Server::start(&bed, kind, Options::default());
    let ear = Ear::on(&bed.lan);
    let client = Client::new(&bed);
    assert_eq!(server.leases(), []);
    let address = client.ask(&format!("{WITH_ID} -x hostname:web")).unwrap();
    assert!((lan(50)..=lan(99)).contains(&address), "{address}");

    use MessageType::{Ack, Discover, Offer, Request};
    let said = ear.dhcp(&client.mac);
    let kinds: Vec<_> = said.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [Discover, Offer, Request, Ack]);
    assert!(said.iter().all(|message| message.xid == said[0].xid && message.ciaddr.is_unspecified()));
    for (asked, answer) in [(&said[0], &said[1]), (&said[2], &said[3])] {
        assert_eq!((asked.host_name().as_deref(), asked.client_id()), (Some("web"), Some(ID.into())));
        assert_eq!(
            (asked.from, asked.to, asked.broadcast),
            (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, true)
        );
        assert_eq!((answer.yiaddr, answer.from, answer.server()), (address, lan(1), Some(lan(1))));
        // Before 1.38 udhcpd answers to all.
        assert!(!answer.flag && (!answer.broadcast || kind == Kind::Udhcpd), "{answer:?}");
    }
    assert_eq!(
        (said[0].server(), said[2].server(), said[2].requested()),
        (None, Some(lan(1)), Some(address))
    );

    let known = || {
        let leases = server.leases();
        let [lease] = &leases[..] else { panic!("{leases:?}") };
        assert_eq!(
            (lease.address, &lease.mac, lease.host_name.as_deref()),
            (address, &client.mac, Some("web"))
        );
        assert_eq!(lease.client_id, (kind != Kind::Udhcpd).then(|| ID.into()));
    };
    known();
    server.restart();
    assert_eq!(server.leased(), [address]);
    server.kill();
    assert_eq!(server.leased(), [address]);
    server.restart();
    client.release(address, WITH_ID);
    wait(|| ear.dhcp(&client.mac).last().unwrap().kind == MessageType::Release);
    wait(|| server.leases().is_empty());
}

fn options(kind: Kind) {
    let bed = Bed::new();
    let options = Options {
        routes: vec![("10.9.0.0/16".parse().unwrap(), lan(3)), ("0.0.0.0/0".parse().unwrap(), lan(4))],
        mtu: Some(1400),
        dns: vec![lan(1), lan(2)],
        domain: Some("example.com"),
        search: vec!["eng.example.com", "lab.example.com"],
        t1_t2: Some((900, 1800)),
        ..Options::default()
    };
    let _server = Server::start(&bed, kind, options);
    let ear = Ear::on(&bed.lan);
    let client = Client::new(&bed);
    client.ask("-O staticroutes -O mtu -O search -O 0x3a -O 0x3b").unwrap();
    let said = ear.dhcp(&client.mac);
    let ack = said.last().unwrap();
    assert_eq!(ack.kind, MessageType::Ack);
    for code in [1, 3, 6, 15, 26, 51, 54, 119, 121] {
        assert!(ack.has(code), "option {code}: {ack:?}");
    }
    assert_eq!(ack.t1_t2(), Some((900, 1800)));
    drop(said);

    // What is not said is not there.
    let bed = Bed::new();
    let _server = Server::start(&bed, kind, Options { router: None, ..Options::default() });
    let ear = Ear::on(&bed.lan);
    let client = Client::new(&bed);
    client.ask("-O staticroutes -O mtu -O search").unwrap();
    let said = ear.dhcp(&client.mac);
    for code in [3, 6, 26, 119, 121] {
        assert!(!said.last().unwrap().has(code), "option {code}: {said:?}");
    }
}

/// A range is given while it is the server's, and an address of the range before is refused.
fn another_range(kind: Kind) {
    let bed = Bed::new();
    let mut server = Server::start(&bed, kind, Options::default().range(60, 60));
    let [one, other] = [Client::new(&bed), Client::new(&bed)];
    assert_eq!(one.ask(""), Ok(lan(60)));
    other.ask("-t 2").unwrap_err();
    server.change(|options| options.range = [lan(70), lan(79)]);
    for client in [&one, &other] {
        let address = client.ask("-r 10.77.0.60").unwrap();
        assert!((lan(70)..=lan(79)).contains(&address), "{address}");
    }
}

fn reservations(kind: Kind) {
    let bed = Bed::new();
    let [one, other] = [Client::new(&bed), Client::new(&bed)];
    let mut reserved = vec![(By::Mac(one.mac.clone()), lan(7))];
    if kind != Kind::Udhcpd {
        reserved.push((By::ClientId(ID.into()), lan(8)));
    }
    let _server = Server::start(&bed, kind, Options { reserved, ..Options::default() });
    assert_eq!(one.ask(""), Ok(lan(7)));
    if kind != Kind::Udhcpd {
        assert_eq!(other.ask(WITH_ID), Ok(lan(8)));
    }
}

fn ping_check(kind: Kind) {
    let bed = Bed::new();
    for ping in [false, true] {
        // What one was given need not be pinged again.
        let client = Client::new(&bed);
        let options = Options { ping: ping && kind != Kind::Kea, ..Options::default() };
        let mut server = Server::start(&bed, kind, options);
        let before = Instant::now();
        client.ask("").unwrap();
        let is_slow = before.elapsed() > Duration::from_millis(900);
        assert_eq!(is_slow, ping && kind != Kind::Kea, "{:?}", before.elapsed());
        server.stop();
    }
}

fn short_leases() {
    let bed = Bed::new();
    let server = Server::start(&bed, Kind::Kea, Options::short());
    let address = Client::new(&bed).ask("").unwrap();
    assert_eq!(server.leased(), [address]);
    thread::sleep(Duration::from_secs(7));
    assert_eq!(server.leased(), [] as [Ipv4Addr; 0]);
}

/// It passes over a T1 of less than three seconds, and puts one that is not before T2 there.
fn times_of_dnsmasq() {
    let bed = Bed::new();
    let options = Options { lease: 120, ..Options::default() };
    let mut server = Server::start(&bed, Kind::Dnsmasq, options);
    let client = Client::new(&bed);
    for (told, given) in [((20, 30), (20, 30)), ((2, 4), (3, 4)), ((9, 4), (3, 4))] {
        server.change(|options| options.t1_t2 = Some(told));
        let ear = Ear::on(&bed.lan);
        client.ask("-O 0x3a -O 0x3b").unwrap();
        assert_eq!(ear.dhcp(&client.mac).last().unwrap().t1_t2(), Some(given), "{told:?}");
    }
}

/// A second one is on a host of its own; both hear and are heard.
fn two_of_them() {
    let bed = Bed::new();
    let netns = beside(&bed, "second");
    let one = Server::start(&bed, Kind::Kea, Options::default());
    let options = Options { address: "10.77.0.2/24".parse().unwrap(), ..Options::default() };
    let mut other = Server::start_in(&bed, &netns, Kind::Dnsmasq, options.range(150, 199));
    let ear = Ear::on(&bed.lan);
    let client = Client::new(&bed);
    let address = client.ask("").unwrap();
    let known = [one.leased(), other.leased()].concat();
    assert_eq!(known, [address]);
    let offers = || ear.dhcp(&client.mac).into_iter().filter(|message| message.kind == MessageType::Offer);
    wait(|| offers().count() == 2);
    let mut servers: Vec<_> = offers().map(|offer| offer.server().unwrap()).collect();
    servers.sort();
    assert_eq!(servers, [lan(1), lan(2)]);
    drop(one);
    other.change(|options| options.lease = 7200);
    assert!(client.ask("").unwrap() >= lan(150));
}

/// The ear hears that a host has no DHCP client.
fn no_client() {
    let bed = Bed::new();
    let ear = Ear::on(&bed.lan);
    let send = |port: u16| {
        let script = format!("echo hello > /dev/udp/172.16.86.250/{port}");
        finish(bed.lan.command("bash").args(["-c", &script])).unwrap();
    };
    send(69);
    assert!(ear.unreachable().is_empty());
    send(68);
    wait(|| ear.unreachable() == [Ipv4Addr::new(172, 16, 86, 250)]);
}
