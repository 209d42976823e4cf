//! Leases of the LAN's DHCP server over time: the agent renews them, and the kernel ends what is not renewed.

use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::addresses::dhcp::{address, bed, lan, lease, seconds_left, sent_by};
use crate::addresses::identity::{have, start};
use crate::harness::agent::Agent;
use crate::harness::bed::Bed;
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Reply, Scripted, Server};
use crate::harness::frames::{Dhcp, Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const KEA: &[Need] = &[Need::Macvlan, Kind::Kea.need()];
    let all: [Named; 9] = [
        ("renewed", KEA, || renewed("macvlan")),
        ("rebound", KEA, rebound),
        ("expired", KEA, || expired(true)),
        ("expired_without_an_agent", KEA, || expired(false)),
        ("expired_beside_another_address", KEA, expired_beside),
        ("another_address", &[Need::Macvlan], another_address),
        ("other_options", KEA, other_options),
        ("the_port_is_taken", KEA, port_taken),
        ("a_dead_container_leaves_its_mac_address", KEA, dead),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("dhcp_renewal::{name}"), needs, run).in_one()).into();
    let each: [(_, fn(Kind)); 3] =
        [("another_range", another_range), ("plugged_in_again", again), ("another_subnet", another_subnet)];
    for kind in Kind::ALL {
        for (name, run) in each {
            let name = format!("dhcp_renewal::{name}::{kind}");
            let test = Test::new(name, &[Need::Macvlan, kind.need()], move || run(kind));
            tests.push(test.of(kind.debians()));
        }
    }
    tests
}

/// The events of one kind.
pub fn events(bed: &Bed, kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(&bed.run("events --format json")).unwrap();
    all.into_iter().filter(|event| event["event"] == kind).collect()
}

/// Lets the only lease be due now, of `dhcp` or `dhcp6`, and returns when it was obtained.
pub fn make_due(bed: &Bed, key: &str) -> u64 {
    let mut all = Vec::new();
    for file in fs::read_dir(bed.path("run/containers")).unwrap() {
        let path = file.unwrap().path();
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        // Of a pod's members one has the link.
        if let Some(obtained) = record["attachments"][0][key]["lease"]["times"]["obtained"].as_u64() {
            record["attachments"][0][key]["lease"]["times"]["limits"]["t1"] = obtained.into();
            fs::write(path, record.to_string()).unwrap();
            all.push(obtained);
        }
    }
    let [obtained] = all[..] else { panic!("leases: {all:?}") };
    obtained
}

/// The MAC address of a container that was killed is free for another link.
pub fn assert_soon_free(bed: &Bed, mac: &str) {
    let start = Instant::now();
    bed.host.ip("link add link eth0 name other0 type macvlan mode bridge");
    wait(|| bed.host.try_run("ip", &format!("link set other0 address {mac} up")).is_ok());
    // 200 ms, on a machine with nothing else to do.
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    bed.host.ip("link del other0");
}

/// Whether it asks for more time for a lease.
fn renews(message: &Dhcp) -> bool {
    message.kind == MessageType::Request && !message.ciaddr.is_unspecified()
}

/// At T1, from its address to its server, as often as it takes.
pub fn renewed(driver: &str) {
    let bed = bed(&format!("-d {driver}"));
    let server = Server::start(&bed, Kind::Kea, Options::short());
    let ear = Ear::on(&bed.lan);
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let (own, id) = (address(&web), sent_by(&ear, &web)[0].client_id());
    let obtained = lease(&bed, &web)["times"]["obtained"].as_u64().unwrap();
    thread::sleep(Duration::from_secs(10));
    assert_eq!(address(&web), own);
    assert!((1..=6).contains(&seconds_left(&web)), "{}", web.link("eth0"));
    assert_eq!(server.leased(), [own]);
    let sent = sent_by(&ear, &web);
    let renewals: Vec<_> = sent.iter().filter(|message| renews(message)).collect();
    // How many depends on how long the rest has taken; the pauses are looked at below.
    assert!(renewals.len() >= 3, "{renewals:?}");
    for message in &renewals {
        assert_eq!((message.from, message.to, message.broadcast), (own, lan(1), false));
        assert_eq!((message.ciaddr, message.requested(), message.server()), (own, None, None));
        assert_eq!(message.client_id(), id);
    }
    assert!(sent.iter().all(|message| message.host_name().as_deref() == Some("test")), "{sent:?}");
    for two in renewals.windows(2) {
        assert_ne!(two[0].xid, two[1].xid);
        let pause = (two[1].at - two[0].at).as_secs_f32();
        assert!((1.5..=4.0).contains(&pause), "{pause}");
    }
    assert_eq!(ear.unreachable(), [] as [Ipv4Addr; 0], "the answers reach a socket");
    assert!(lease(&bed, &web)["times"]["obtained"].as_u64().unwrap() > obtained);
    assert!(!events(&bed, "renewed").is_empty());
    web.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

/// The server does not answer at T1, and does at T2.
fn rebound() {
    let bed = bed("");
    let options = Options { lease: 16, t1_t2: Some((2, 9)), ..Options::default() };
    let mut server = Server::start(&bed, Kind::Kea, options);
    let ear = Ear::on(&bed.lan);
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web);
    server.stop();
    let renewals = || sent_by(&ear, &web).into_iter().filter(renews);
    wait(|| renewals().count() == 1);
    server.restart();
    wait(|| !events(&bed, "renewed").is_empty());
    let rebinds: Vec<_> = renewals().filter(|message| message.broadcast).collect();
    let [rebind] = &rebinds[..] else { panic!("{rebinds:?}") };
    assert_eq!((rebind.from, rebind.to), (own, Ipv4Addr::BROADCAST));
    assert_eq!((rebind.ciaddr, rebind.requested(), rebind.server()), (own, None, None));
    assert!(rebind.secs > 0, "since it began to renew");
    assert_eq!((address(&web), server.leased()), (own, vec![own]));
    assert!(seconds_left(&web) > 10);
}

/// The address goes when the lease is over, even if there is no agent. An agent gets it back as soon as there is a server.
fn expired(with_agent: bool) {
    let bed = bed("");
    let mut server = Server::start(&bed, Kind::Kea, Options::short());
    let ear = Ear::on(&bed.lan);
    let agent = with_agent.then(|| Agent::start(&bed));
    let web = start(&bed, "a", "web", "lan");
    let had = have(&web);
    server.stop();
    let sent = sent_by(&ear, &web);
    let asked = sent.iter().rfind(|message| message.kind == MessageType::Request).unwrap().at;
    wait(|| web.addresses("eth0").is_empty());
    let after = asked.elapsed().as_secs_f32();
    assert!((4.9..=7.2).contains(&after), "{after}");
    wait(|| web.routes("-4").is_empty());
    if agent.is_some() {
        wait(|| events(&bed, "lost").len() == 1);
        assert!(web.links().contains(&"eth0".to_owned()));
        server.restart();
        wait(|| have(&web) == had);
        wait(|| web.routes("-4")[0].starts_with("default via 10.77.0.1 "));
        assert!(web.reaches("10.77.0.1"));
    }
    web.stop();
    bed.assert_nothing_held();
}

/// Its routes end with it, though the kernel keeps them as long as the link has any address.
fn expired_beside() {
    let bed = bed("");
    let mut server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    web.run("ip", "addr add 10.99.0.5/24 dev eth0");
    server.stop();
    wait(|| web.addresses("eth0") == ["10.99.0.5/24"]);
    wait(|| !web.routes("-4").iter().any(|route| route.starts_with("default")));
    server.restart();
    wait(|| web.routes("-4").iter().any(|route| route.starts_with("default via 10.77.0.1 ")));
}

/// The server gives another address when it is asked to renew one: that is probed for, announced, and replaces the one before.
fn another_address() {
    let bed = bed("");
    let ear = Ear::on(&bed.lan);
    let _server = Scripted::start(&bed, |message| {
        let last = if message.ciaddr.is_unspecified() { 50 } else { 51 };
        match message.kind {
            MessageType::Discover | MessageType::Request => {
                vec![Reply::to(message, lan(last)).with(51, Some(&6_u32.to_be_bytes())).frame()]
            }
            _ => Vec::new(),
        }
    });
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    assert_eq!(address(&web), lan(50));
    let (mac, next) = (have(&web).1, lan(51).to_string());
    wait(|| web.addresses("eth0") == ["10.77.0.51/24"]);
    wait(|| events(&bed, "moved").len() == 1);
    assert!(web.routes("-4")[0].starts_with("default via 10.77.0.1 "), "{:?}", web.routes("-4"));
    let [probes, announcements] = ["probe", "announcement"].map(|what| ear.times(what, &mac, &next));
    assert!(!probes.is_empty() && probes[0] < announcements[0], "{probes:?} {announcements:?}");
    wait(|| bed.leases().len() == 1);
    assert!(bed.leases()[0].ends_with("/10.77.0.51"), "{:?}", bed.leases());
}

/// The lease says something else than before: the container gets that, and its address stays.
fn other_options() {
    let bed = bed("");
    let mut server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let had = have(&web);
    server.change(|options| {
        options.router = Some(lan(9));
        options.routes =
            vec![("10.9.0.0/16".parse().unwrap(), lan(3)), ("0.0.0.0/0".parse().unwrap(), lan(4))];
    });
    let has = |start: &str| web.routes("-4").iter().any(|route| route.starts_with(start));
    wait(|| has("default via 10.77.0.4 ") && has("10.9.0.0/16 via 10.77.0.3 "));
    assert!(!has("default via 10.77.0.1 "), "{:?}", web.routes("-4"));
    server.change(|options| options.routes.clear());
    wait(|| has("default via 10.77.0.9 ") && !has("10.9.0.0/16"));
    assert!(!has("default via 10.77.0.4 "), "{:?}", web.routes("-4"));
    assert_eq!(have(&web), had);
    assert!(events(&bed, "lost").is_empty());
}

/// A DHCP client of the container has the port: renewals go by the packet socket.
fn port_taken() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Kea, Options::short());
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web);
    let netns = File::open(format!("/proc/{}/ns/net", web.pid)).unwrap();
    let inside = move || {
        setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap()
    };
    let other = thread::spawn(inside).join().unwrap();
    let agent = Agent::start(&bed);
    wait(|| events(&bed, "renewed").len() >= 2);
    assert!(agent.log().contains(&format!("cannot use port 68 of {own}")), "{}", agent.log());
    assert_eq!((address(&web), server.leased()), (own, vec![own]));
    drop(other);
}

/// The server has other addresses by now. dnsmasq refuses to renew; the others do not answer, so the lease ends.
fn another_range(kind: Kind) {
    let bed = bed("");
    let options = match kind {
        // It passes over a T1 of less than three seconds.
        Kind::Dnsmasq => Options { lease: 120, t1_t2: Some((3, 4)), ..Options::default() },
        _ => Options::short(),
    };
    let mut server = Server::start(&bed, kind, options);
    let ear = Ear::on(&bed.lan);
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let before = address(&web);
    server.change(|options| options.range = [lan(150), lan(199)]);
    wait(|| web.addresses("eth0").first().is_some_and(|address| address.starts_with("10.77.0.1")));
    let after = address(&web);
    assert!((lan(150)..=lan(199)).contains(&after), "{after}");
    assert!(web.routes("-4")[0].starts_with("default via 10.77.0.1 dev eth0"), "{:?}", web.routes("-4"));
    let refused = ear.dhcp(&have(&web).1).iter().any(|message| message.kind == MessageType::Nak);
    assert_eq!(refused, kind == Kind::Dnsmasq);
    wait(|| !events(&bed, "lost").is_empty() && !events(&bed, "leased").is_empty());
    assert_eq!(lease(&bed, &web)["address"], format!("{after}/24"));
    let leases = bed.leases();
    assert!(leases.len() == 1 && leases[0].ends_with(&format!("/{after}")), "{leases:?}");
    assert!(!bed.answers(&before.to_string()) && web.reaches("10.77.0.1"));
    assert_eq!(bed.run("check"), "");
}

/// Unplugs the parent, and plugs it in again.
fn replug(bed: &Bed) {
    bed.lan.ip("link set lan0 down");
    wait(|| !bed.host.link("eth0").unwrap()["flags"].to_string().contains("LOWER_UP"));
    bed.lan.ip("link set lan0 up");
}

/// INIT-REBOOT (RFC 2131, 4.3.2): what the agent asks for when the parent was unplugged.
fn asked_again(ear: &Ear, own: Ipv4Addr) -> Option<Dhcp> {
    let mut requests = ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Request);
    requests.find(|message| message.requested() == Some(own))
}

/// The server confirms the lease.
fn again(kind: Kind) {
    let bed = bed("");
    let server = Server::start(&bed, kind, Options::default());
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let (own, mac) = (address(&web), have(&web).1);
    let obtained = lease(&bed, &web)["times"]["obtained"].as_u64().unwrap();
    let ear = Ear::on(&bed.lan);
    replug(&bed);
    wait(|| lease(&bed, &web)["times"]["obtained"].as_u64().unwrap() > obtained);
    let said = ear.dhcp(&mac);
    let [asked, answer] = &said[..] else { panic!("{said:?}") };
    assert_eq!((asked.kind, asked.broadcast), (MessageType::Request, true));
    assert_eq!((asked.from, asked.to), (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
    assert_eq!((asked.requested(), asked.server()), (Some(own), None));
    assert!(asked.ciaddr.is_unspecified() && asked.client_id().is_some() && !asked.flag);
    assert_eq!((answer.kind, answer.yiaddr), (MessageType::Ack, own));
    assert_eq!((address(&web), server.leased()), (own, vec![own]));
    assert!(events(&bed, "lost").is_empty());
}

/// The parent is plugged in again where the addresses are others.
fn another_subnet(kind: Kind) {
    let bed = bed("");
    let mut server = Server::start(&bed, kind, Options::default());
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let (own, mac) = (address(&web), have(&web).1);
    server.stop();
    bed.lan.ip("addr flush dev lan0 to 10.77.0.0/24");
    let of = |last| Ipv4Addr::new(10, 78, 0, last);
    server.change(|options| {
        options.address = "10.78.0.1/24".parse().unwrap();
        (options.range, options.router) = ([of(50), of(99)], Some(of(1)));
    });
    let ear = Ear::on(&bed.lan);
    replug(&bed);
    wait(|| web.addresses("eth0").first().is_some_and(|address| address.starts_with("10.78.0.")));
    assert!(asked_again(&ear, own).is_some());
    let refused = ear.dhcp(&mac).iter().any(|message| message.kind == MessageType::Nak);
    // Kea has the lease still, does not answer for it, and offers another one.
    assert_eq!(refused, kind != Kind::Kea);
    wait(|| events(&bed, if refused { "lost" } else { "moved" }).len() == 1);
    assert_eq!(web.addresses("eth0").len(), 1);
    let routes = web.routes("-4");
    assert!(routes[0].starts_with("default via 10.78.0.1 "), "{routes:?}");
    wait(|| bed.leases().len() == 1);
    assert!(!bed.leases()[0].ends_with(&format!("/{own}")), "{:?}", bed.leases());
    assert_eq!(bed.run("check"), "");
}

/// The agent has nothing open that keeps its namespace, and the link in it, alive.
fn dead() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let mut web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let mac = have(&web).1;
    wait(|| !events(&bed, "renewed").is_empty());
    web.kill();
    assert_soon_free(&bed, &mac);
}
