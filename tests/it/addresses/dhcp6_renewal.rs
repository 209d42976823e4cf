//! Leases of the LAN's own DHCPv6 server over time.

use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::dhcp::bed;
use crate::addresses::dhcp_renewal::{assert_soon_free, make_due};
use crate::addresses::dhcp6::{address, address_of, client, events, kinds, sent, v4};
use crate::addresses::identity::start;
use crate::harness::agent::Agent;
use crate::harness::bed::Bed;
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::dhcp::{Kind, beside};
use crate::harness::dhcp6::{KEA6, KINDS, Options6, RADVD, Router6, Server6, ip6, need};
use crate::harness::frames::{Ear, MessageType6, Status};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

const LAN: u16 = 0x77;

pub fn tests() -> Vec<Test> {
    const V4: Need = Kind::Kea.need();
    const BOTH: &[Need] = &[Need::Macvlan, V4, KEA6];
    const DNSMASQ: &[Need] = &[Need::Macvlan, V4, Kind::Dnsmasq.need()];
    let all: [Named; 8] = [
        ("renewed", BOTH, renewed),
        ("rebound", BOTH, rebound),
        ("forgotten", BOTH, forgotten),
        ("taken_by_another_host", BOTH, taken),
        ("no_binding", DNSMASQ, no_binding),
        ("expired", BOTH, || expired(true)),
        ("expired_without_an_agent", BOTH, || expired(false)),
        ("a_dead_container_leaves_its_mac_address", BOTH, dead),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("dhcp6_renewal::{name}"), needs, run).in_one()).into();
    for kind in KINDS {
        let name = format!("dhcp6_renewal::another_network::{kind}");
        let needs = [Need::Macvlan, V4, RADVD, need(kind)];
        tests.push(Test::new(name, &needs, move || another_network(kind)));
    }
    tests
}

/// At T1, as often as it takes.
fn renewed() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let server = Server6::start(&bed, Kind::Kea, Options6::short());
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web).unwrap();
    let obtained = |bed: &Bed| client(bed, &web)["lease"]["times"]["obtained"].as_u64().unwrap();
    let before = obtained(&bed);
    let ear = Ear::on(&bed.lan);
    thread::sleep(Duration::from_secs(10));
    assert_eq!((address(&web), server.leased()), (Some(own), vec![own]));
    let found = address_of(&web).unwrap();
    assert!((1..=6).contains(&found["valid_life_time"].as_u64().unwrap()), "{found}");
    let sent = sent(&ear);
    assert!((3..=6).contains(&sent.len()), "{sent:?}");
    for message in &sent {
        assert_eq!((message.kind, message.link().1), (MessageType6::Renew, vec![own]));
        assert!(message.server().is_some());
        assert_eq!(message.name().as_deref(), Some("test"));
    }
    assert!(sent.windows(2).all(|two| two[0].xid != two[1].xid));
    assert!(obtained(&bed) > before);
    assert!(!events(&bed, "renewed").is_empty());
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

/// The server does not answer at T1, and does at T2.
fn rebound() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let options = Options6 { preferred: 30, valid: 40, t1_t2: Some((2, 9)), ..Options6::default() };
    let mut server = Server6::start(&bed, Kind::Kea, options);
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web).unwrap();
    server.stop();
    let ear = Ear::on(&bed.lan);
    wait(|| sent(&ear).len() == 1);
    server.restart();
    wait(|| !events(&bed, "renewed").is_empty());
    let sent = sent(&ear);
    let rebind = sent.iter().find(|message| message.kind == MessageType6::Rebind).unwrap();
    assert_eq!((rebind.server(), rebind.link().1), (None, vec![own]));
    assert_eq!((address(&web), server.leased()), (Some(own), vec![own]));
}

/// A server that has lost its leases gives the same one again.
fn forgotten() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let mut server = Server6::start(&bed, Kind::Kea, Options6 { valid: 60, ..Options6::short() });
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web).unwrap();
    server.stop();
    server.forget();
    server.restart();
    wait(|| server.leased() == [own]);
    wait(|| !events(&bed, "renewed").is_empty());
    assert_eq!(address(&web), Some(own));
    assert!(events(&bed, "lost").is_empty());
}

/// The agent finds it, the server is told, and the container gets another address.
fn taken() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let server = Server6::start(&bed, Kind::Kea, Options6::default());
    let web = start(&bed, "a", "web", "lan");
    let before = address(&web).unwrap();
    let printer = beside(&bed, "printer");
    printer.ip(&format!("addr add {before}/64 dev lan0 nodad"));
    let mac = printer.link("lan0").unwrap()["address"].as_str().unwrap().to_owned();
    let ear = Ear::on(&bed.lan);
    // It asks when it begins.
    let _agent = Agent::start(&bed);
    wait(|| !events(&bed, "leased").is_empty());
    let after = address(&web).unwrap();
    assert_ne!(after, before);
    let mut declined = sent(&ear);
    declined.retain(|message| message.kind == MessageType6::Decline);
    let [message] = &declined[..] else { panic!("{declined:?}") };
    assert_eq!(message.link().1, [before]);
    assert!(server.leased().contains(&after));
    let [duplicate, lost] = ["duplicate", "lost"].map(|kind| events(&bed, kind));
    assert_eq!((&duplicate[0]["address"], &duplicate[0]["mac"]), (&before.to_string().into(), &mac.into()));
    assert_eq!((lost.len(), &lost[0]["address"]), (1, &before.to_string().into()));
    assert_eq!(bed.run("check"), "");
}

/// A server that has lost its leases says so (NoBinding), and is asked to give the same one again.
fn no_binding() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let options = Options6 { authoritative: false, ..Options6::default() };
    let mut server = Server6::start(&bed, Kind::Dnsmasq, options);
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web).unwrap();
    server.stop();
    server.forget();
    server.restart();
    make_due(&bed, "dhcp6");
    let ear = Ear::on(&bed.lan);
    bed.run("agent --once");
    let said = || -> Vec<_> { ear.dhcp6().iter().map(|message| (message.kind, message.status())).collect() };
    assert_eq!((address(&web), server.leased()), (Some(own), vec![own]));
    // What is heard is read by and by.
    wait(|| said().contains(&(MessageType6::Reply, Some(Status::NoBinding))));
    wait(|| kinds(&sent(&ear)) == [MessageType6::Renew, MessageType6::Request]);
    assert_eq!(bed.run("check"), "");
}

/// The address goes when the lease is over, even if there is no agent. An agent gets it back as soon as there is a server.
fn expired(with_agent: bool) {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let mut server = Server6::start(&bed, Kind::Kea, Options6::short());
    let agent = with_agent.then(|| Agent::start(&bed));
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web);
    let before = Instant::now();
    server.stop();
    wait(|| address(&web).is_none());
    assert!(before.elapsed() < Duration::from_secs(8), "{:?}", before.elapsed());
    assert_eq!(web.addresses("eth0").len(), 1, "that of IPv4 stays");
    if agent.is_some() {
        wait(|| events(&bed, "lost").len() == 1);
        server.restart();
        wait(|| address(&web) == own);
        wait(|| events(&bed, "leased").len() == 1);
        assert_eq!(bed.run("check"), "");
    }
    web.stop();
    bed.assert_nothing_held();
}

/// The parent was unplugged: the agent asks whether the address belongs to where it is now.
fn another_network(kind: Kind) {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let mut server = Server6::start(&bed, kind, Options6::default());
    let router = Router6::start(&bed, LAN, false);
    let agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web).unwrap();
    let ear = Ear::on(&bed.lan);
    let confirmed = |ear: &Ear| sent(ear).iter().any(|message| message.kind == MessageType6::Confirm);
    let replug = || {
        bed.lan.ip("link set lan0 down");
        wait(|| !bed.host.link("eth0").unwrap()["flags"].to_string().contains("LOWER_UP"));
        thread::sleep(Duration::from_millis(100));
    };
    replug();
    bed.lan.ip("link set lan0 up");
    server.restart();
    wait(|| confirmed(&ear));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(address(&web), Some(own), "{}", agent.log());
    assert!(events(&bed, "lost").is_empty());

    server.stop();
    drop(router);
    replug();
    bed.lan.ip(&format!("addr flush dev lan0 to {}/64", ip6(LAN, 0)));
    bed.lan.ip("link set lan0 up");
    server.change(|options| options.lan = 0x88);
    wait(|| address(&web).is_some_and(|address| address.segments()[2] == 0x88));
    wait(|| !events(&bed, "lost").is_empty() && !events(&bed, "leased").is_empty());
    assert!(ear.dhcp6().iter().any(|message| message.status() == Some(Status::NotOnLink)));
    let now = address(&web).unwrap();
    assert_eq!(client(&bed, &web)["lease"]["address"], now.to_string());
    assert!(bed.leases().iter().all(|lease| !lease.ends_with(&format!("/{own}"))), "{:?}", bed.leases());
    assert_eq!(bed.run("check"), "");
}

/// The agent has nothing open that keeps its namespace, and the link in it, alive.
fn dead() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let _server = Server6::start(&bed, Kind::Kea, Options6::short());
    let _agent = Agent::start(&bed);
    let mut web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let mac = web.link("eth0")["address"].as_str().unwrap().to_owned();
    wait(|| !events(&bed, "renewed").is_empty());
    web.kill();
    assert_soon_free(&bed, &mac);
}
