//! IPv6 addresses of the LAN's own DHCPv6 server, beside those of IPv4: how a container gets one, and gives it back.

use std::fs;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::addresses::dhcp::bed;
use crate::addresses::dhcp_renewal;
use crate::addresses::identity::{have, start};
use crate::harness::agent::Agent;
use crate::harness::bed::Bed;
use crate::harness::container::{Container, Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Server, beside};
use crate::harness::dhcp6::{KEA6, KINDS, Options6, RADVD, Router6, Server6, ip6, need};
use crate::harness::frames::{Dhcp6, Ear, MessageType6};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

const LAN: u16 = 0x77;

pub fn tests() -> Vec<Test> {
    const V4: Need = Kind::Kea.need();
    const BOTH: &[Need] = &[Need::Macvlan, V4, KEA6];
    const ROUTED: &[Need] = &[Need::Macvlan, V4, KEA6, RADVD];
    let mut tests = Vec::new();
    let each: [(_, fn(Kind)); 2] = [("a_lease", a_lease), ("release", release)];
    for kind in KINDS {
        for (name, run) in each {
            let name = format!("dhcp6::{name}::{kind}");
            tests.push(Test::new(name, &[Need::Macvlan, V4, RADVD, need(kind)], move || run(kind)));
        }
    }
    let all: [Named; 15] = [
        ("rapid_commit", BOTH, rapid_commit),
        ("without_a_router", BOTH, without_a_router),
        ("beside_slaac", ROUTED, beside_slaac),
        ("identities", BOTH, identities),
        ("taken_by_another_host", BOTH, taken),
        ("all_are_taken", BOTH, all_taken),
        ("the_range_is_used_up", BOTH, used_up),
        ("an_attach_does_not_wait", &[Need::Macvlan, V4], no_wait),
        ("the_agent_finishes", BOTH, finished),
        ("the_agent_finishes_once", BOTH, finished_once),
        ("on_ipvlan", &[Need::Ipvlan, V4, KEA6], on_ipvlan),
        ("no_server", &[Need::Macvlan, V4], no_server),
        ("addresses_of_the_ledger", BOTH, of_the_ledger),
        ("a_lost_ledger", BOTH, lost_ledger),
        ("plan", &[Need::Macvlan], plan),
    ];
    tests.extend(all.map(|(name, needs, run)| Test::new(format!("dhcp6::{name}"), needs, run).in_one()));
    tests
}

/// The IPv4 server of the LAN.
pub fn v4(bed: &Bed) -> Server<'_> {
    Server::start(bed, Kind::Kea, Options::default())
}

/// The DHCPv6 part of what the ledger has of a container.
pub fn client(bed: &Bed, container: &Container<'_>) -> Value {
    let all = bed.ps();
    let record = all.iter().find(|record| record["container"] == container.id.as_str()).unwrap();
    record["attachments"][0]["dhcp6"].clone()
}

/// What the kernel has of the only address of a container that is of DHCPv6.
pub fn address_of(container: &Container<'_>) -> Option<Value> {
    let link = container.link("eth0");
    let all = link["addr_info"].as_array().unwrap().iter();
    let mut found = all.filter(|address| address["family"] == "inet6" && address["prefixlen"] == 128);
    let address = found.next().cloned();
    assert!(found.next().is_none(), "{link}");
    address
}

/// That address.
pub fn address(container: &Container<'_>) -> Option<Ipv6Addr> {
    address_of(container).map(|address| address["local"].as_str().unwrap().parse().unwrap())
}

/// The events of one kind that are about IPv6.
pub fn events(bed: &Bed, kind: &str) -> Vec<Value> {
    let mut all = dhcp_renewal::events(bed, kind);
    let is_v6 = |event: &Value| event["address"].as_str().is_some_and(|address| address.contains(':'));
    all.retain(is_v6);
    all
}

/// What clients have said.
pub fn sent(ear: &Ear) -> Vec<Dhcp6> {
    ear.dhcp6().into_iter().filter(Dhcp6::is_of_client).collect()
}

pub fn kinds(messages: &[Dhcp6]) -> Vec<MessageType6> {
    messages.iter().map(|message| message.kind).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn a_lease(kind: Kind) {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let server = Server6::start(&bed, kind, Options6::default());
    let _router = Router6::start(&bed, LAN, false);
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let own = address(&web).unwrap();
    assert!((ip6(LAN, 0x100)..=ip6(LAN, 0x1ff)).contains(&own), "{own}");
    let (addresses, mac) = have(&web);
    assert!(addresses.len() == 2 && addresses[0].starts_with("10.77.0."), "{addresses:?}");
    let found = address_of(&web).unwrap();
    let seconds = |key: &str| found[key].as_u64().unwrap();
    assert!((3500..=3600).contains(&seconds("valid_life_time")), "{found}");
    let preferred = if kind == Kind::Kea { 3000 } else { 3600 };
    assert!((preferred - 100..=preferred).contains(&seconds("preferred_life_time")), "{found}");
    assert_eq!((&found["noprefixroute"], &found["nodad"]), (&true.into(), &true.into()), "{found}");

    // What else is on the link, and the way out, is the router's word.
    let has = |start: &str| web.routes("-6").iter().any(|route| route.starts_with(start));
    wait(|| has("2001:db8:77::/64 dev eth0 proto kernel") && has("default via fe80::"));
    assert!(web.reaches(&ip6(LAN, 1).to_string()));
    assert_eq!(web.addresses("eth0"), addresses, "no address is made of the prefix");

    let known = server.leases();
    assert_eq!((known.len(), known[0].address), (1, own));
    let sent = sent(&ear);
    let id = sent[0].client();
    // RFC 6355: a DUID of a UUID.
    assert_eq!((&id[..2], id.len()), (&[0, 4][..], 18));
    let client = client(&bed, &web);
    assert_eq!((&known[0].duid, &client["duid"]), (&hex(&id), &hex(&id).into()));
    assert_eq!(
        (u64::from(known[0].iaid), client["iaid"].as_u64()),
        (sent[0].link().0.into(), Some(known[0].iaid.into()))
    );
    assert_eq!(known[0].host_name, "test");
    for message in &sent {
        assert_eq!((&message.mac, message.client()), (&mac, id.clone()));
        assert!(message.from.is_unicast_link_local());
        assert_eq!(message.to, "ff02::1:2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(message.name().as_deref(), Some("test"));
    }
    let all = match kind {
        Kind::Dnsmasq => vec![MessageType6::Solicit],
        _ => vec![MessageType6::Solicit, MessageType6::Request],
    };
    assert!(sent[0].has_rapid_commit());
    let mut said = kinds(&sent);
    said.dedup();
    assert_eq!(said, all);

    assert_eq!(client["lease"]["address"], own.to_string());
    assert_eq!(client["lease"]["dns"][0], ip6(LAN, 1).to_string());
    let resolver = fs::read_to_string(bed.path(&format!("run/dns/{}/resolv.conf", web.id))).unwrap();
    assert!(resolver.contains(&format!("nameserver {}\n", ip6(LAN, 1))), "{resolver}");
    assert!(client["lease"]["times"]["limits"]["expiry"].is_u64(), "{client}");
    assert!(bed.leases().iter().any(|lease| lease.ends_with(&format!("/{own}"))), "{:?}", bed.leases());
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.assert_nothing_held();
}

/// Of a single address: the next client gets it at once.
fn release(kind: Kind) {
    for with_agent in [false, true] {
        let bed = bed("-o dhcp6=required");
        let _v4 = v4(&bed);
        let server = Server6::start(&bed, kind, Options6 { range: [0x100, 0x100], ..Options6::default() });
        let _agent = with_agent.then(|| Agent::start(&bed));
        for id in ["a", "b", "c"] {
            let container = bed.container(Bare, id).networks("lan").start().unwrap();
            assert_eq!(address(&container), Some(ip6(LAN, 0x100)));
            let ear = Ear::on(&bed.lan);
            container.stop();
            bed.assert_nothing_held();
            wait(|| server.leases().is_empty());
            let sent = sent(&ear);
            let [released] = &sent[..] else { panic!("{sent:?}") };
            assert_eq!(released.kind, MessageType6::Release);
            assert_eq!(released.link().1, [ip6(LAN, 0x100)]);
            assert!(released.server().is_some());
        }
    }
}

fn rapid_commit() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let _server = Server6::start(&bed, Kind::Kea, Options6 { rapid_commit: true, ..Options6::default() });
    let ear = Ear::on(&bed.lan);
    let _web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let said = ear.dhcp6();
    assert_eq!(kinds(&said), [MessageType6::Solicit, MessageType6::Reply], "{said:?}");
}

/// The address is there, and nothing else.
fn without_a_router() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let _server = Server6::start(&bed, Kind::Kea, Options6::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert!(address(&web).is_some() && web.addresses("eth0").len() == 2, "{}", web.link("eth0"));
    assert_eq!(web.routes("-6"), [] as [&str; 0]);
    assert_eq!(bed.run("check"), "");
}

fn beside_slaac() {
    let bed = bed("-o dhcp6=required --ipv6=slaac");
    let _v4 = v4(&bed);
    let _server = Server6::start(&bed, Kind::Kea, Options6::default());
    let _router = Router6::start(&bed, LAN, true);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let own = address(&web).unwrap();
    wait(|| {
        web.addresses("eth0").iter().any(|net| net.starts_with("2001:db8:77:0:") && net.ends_with("/64"))
    });
    assert_eq!(address(&web), Some(own));
    assert_eq!(bed.run("check"), "");
}

/// An identity has its address when it is created again, and no other has it. One client has one DUID on all its links.
fn identities() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let _server = Server6::start(&bed, Kind::Kea, Options6::default());
    bed.create("-o dhcp6=required -o parent=eth0 other");
    let ear = Ear::on(&bed.lan);
    let db = start(&bed, "a", "db", "lan;other");
    let had = address(&db).unwrap();
    let (first, second) = {
        let sent = sent(&ear);
        let second = sent.iter().find(|message| message.mac != sent[0].mac).unwrap();
        assert_eq!(sent[0].client(), second.client());
        (sent[0].link().0, second.link().0)
    };
    assert_ne!(first, second);
    db.stop();
    let cache = start(&bed, "x", "cache", "lan");
    assert_ne!(address(&cache), Some(had));
    let ear = Ear::on(&bed.lan);
    let again = start(&bed, "b", "db", "lan");
    assert_eq!(address(&again), Some(had));
    assert_eq!(sent(&ear)[0].link(), (first, vec![had]), "it is asked for");
}

fn taken() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let server = Server6::start(&bed, Kind::Kea, Options6 { range: [0x100, 0x101], ..Options6::default() });
    let printer = beside(&bed, "printer");
    printer.ip(&format!("addr add {}/64 dev lan0 nodad", ip6(LAN, 0x100)));
    let ear = Ear::on(&bed.lan);
    // One of the two comes to the printer's address first.
    let [one, other] = ["a", "b"].map(|id| bed.container(Bare, id).networks("lan").start());
    let got: Vec<_> = [&one, &other].into_iter().flatten().map(|web| address(web).unwrap()).collect();
    assert_eq!(got, [ip6(LAN, 0x101)], "{:?} {:?}", one.as_ref().err(), other.as_ref().err());
    let mut declined = sent(&ear);
    declined.retain(|message| message.kind == MessageType6::Decline);
    let [message] = &declined[..] else { panic!("{declined:?}") };
    assert_eq!(message.link().1, [ip6(LAN, 0x100)]);
    assert!(message.server().is_some());
    assert_eq!(server.leased(), [ip6(LAN, 0x101)]);
}

fn all_taken() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let _server = Server6::start(&bed, Kind::Kea, Options6 { range: [0x100, 0x103], ..Options6::default() });
    let printer = beside(&bed, "printer");
    for last in 0x100..=0x103 {
        printer.ip(&format!("addr add {}/64 dev lan0 nodad", ip6(LAN, last)));
    }
    let mac = printer.link("lan0").unwrap()["address"].as_str().unwrap().to_owned();
    let ear = Ear::on(&bed.lan);
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    assert!(refused.contains("the DHCPv6 server gives 2001:db8:77::10"), "{refused}");
    assert!(refused.contains(&format!("which another host ({mac}) has")), "{refused}");
    let declined = sent(&ear).iter().filter(|message| message.kind == MessageType6::Decline).count();
    assert_eq!(declined, 3);
    bed.assert_nothing_held();
}

/// The server says so (NoAddrsAvail).
fn used_up() {
    let bed = bed("-o dhcp6=required -o dhcp_timeout=3");
    let _v4 = v4(&bed);
    let _server = Server6::start(&bed, Kind::Kea, Options6 { range: [0x100, 0x100], ..Options6::default() });
    let _first = bed.container(Bare, "a").networks("lan").start().unwrap();
    let refused = bed.container(Bare, "b").networks("lan").start().map(drop).unwrap_err();
    assert!(refused.contains("answers and gives no lease: no address is free"), "{refused}");
}

/// On a LAN that has IPv4 only.
fn no_wait() {
    let bed = bed("-o dhcp6=yes");
    let _v4 = v4(&bed);
    bed.create("--ipam-driver dhcp -o parent=eth0 alone");
    let ear = Ear::on(&bed.lan);
    let timed = |id: &str, network: &str| {
        let before = Instant::now();
        let container = bed.container(Bare, id).networks(network).start().unwrap();
        (container, before.elapsed())
    };
    let (other, alone) = timed("alone", "alone");
    let (web, both) = timed("web", "lan");
    assert!(both < alone + Duration::from_millis(500), "{both:?}, and {alone:?} with IPv4 alone");
    assert!(address(&web).is_none() && web.addresses("eth0").len() == 1);
    assert_eq!(bed.run("check"), "");
    let agent = Agent::start(&bed);
    wait(|| sent(&ear).len() >= 2);
    assert!(sent(&ear).iter().all(|message| message.kind == MessageType6::Solicit));
    drop(agent);
    other.stop();
    web.stop();
    bed.assert_nothing_held();
}

fn finished() {
    let bed = bed("-o dhcp6=yes");
    let _v4 = v4(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(address(&web), None);
    let server = Server6::start(&bed, Kind::Kea, Options6::default());
    let _agent = Agent::start(&bed);
    wait(|| address(&web).is_some());
    assert_eq!(server.leased(), [address(&web).unwrap()]);
    wait(|| events(&bed, "leased").len() == 1);
    let leased = &events(&bed, "leased")[0];
    assert_eq!(leased["address"], format!("{}/128", server.leased()[0]));
    assert_eq!(leased["server"], client(&bed, &web)["lease"]["server"]);
    assert_eq!(web.addresses("eth0").len(), 2);
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

/// On a host without systemd.
fn finished_once() {
    let bed = bed("-o dhcp6=yes");
    let _v4 = v4(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let _server = Server6::start(&bed, Kind::Kea, Options6::default());
    bed.run("agent --once");
    assert!(address(&web).is_some());
    assert_eq!(bed.run("check"), "");
}

/// Containers with one MAC address are clients of their own.
fn on_ipvlan() {
    let bed = Bed::new();
    bed.create("-d ipvlan --ipam-driver dhcp -o dhcp6=required -o parent=eth0 lan");
    let _v4 = v4(&bed);
    let server = Server6::start(&bed, Kind::Kea, Options6::default());
    let _agent = Agent::start(&bed);
    let [one, other] = ["a", "b"].map(|id| bed.container(Bare, id).networks("lan").start().unwrap());
    let mut both = [&one, &other].map(|container| address(container).unwrap());
    both.sort();
    assert_eq!(server.leased(), both);
    one.stop();
    other.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

fn no_server() {
    let bed = bed("-o dhcp6=required -o dhcp_timeout=3");
    let v4 = v4(&bed);
    let start = Instant::now();
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    let elapsed = start.elapsed().as_secs_f32();
    assert!(refused.contains("network lan: no DHCPv6 server answers"), "{refused}");
    assert!((2.5..=3.8).contains(&elapsed), "{elapsed}");
    bed.assert_nothing_held();
    wait(|| v4.leases().is_empty());
    bed.create("-o dhcp6=required -o dhcp_timeout=1 -o dhcp_optional=true -o parent=eth0 optional");
    let web = bed.container(Bare, "web").networks("optional").start().unwrap();
    assert_eq!((address(&web), web.addresses("eth0").len()), (None, 1));
}

/// A container that asks for an address of a subnet gets that one.
fn of_the_ledger() {
    let bed = bed("-o dhcp6=required --subnet 2001:db8:77::/64");
    let _v4 = v4(&bed);
    let server = Server6::start(&bed, Kind::Kea, Options6::default());
    let fixed = bed.container(Bare, "a").networks("lan:ip=2001:db8:77::5").start().unwrap();
    assert_eq!((address(&fixed), server.leases().len()), (None, 0));
    assert_eq!(fixed.addresses("eth0")[1], "2001:db8:77::5/64");
    let other = bed.container(Bare, "b").networks("lan").start().unwrap();
    assert_eq!(server.leased(), [address(&other).unwrap()]);
}

/// The container keeps its address, and the agent asks for the same one.
fn lost_ledger() {
    let bed = bed("-o dhcp6=required");
    let _v4 = v4(&bed);
    let server = Server6::start(&bed, Kind::Kea, Options6::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let own = address(&web).unwrap();
    fs::remove_dir_all(bed.path("run")).unwrap();
    bed.gc();
    let _agent = Agent::start(&bed);
    wait(|| client(&bed, &web)["lease"]["address"] == own.to_string());
    assert_eq!((address(&web), server.leased()), (Some(own), vec![own]));
    wait(|| bed.run("check").is_empty());
}

fn plan() {
    let bed = bed("-o dhcp6=yes");
    let plan = bed.run("plan --annotation io.underlay.networks=lan");
    assert!(plan.contains("# eth0 in network lan, on eth0: by DHCP by DHCPv6"), "{plan}");
    assert!(plan.contains("# eth0 gets an IPv6 address from a DHCPv6 server, as client 0004"), "{plan}");
    assert!(plan.contains("accept_ra=2 net/ipv6/conf/eth0/autoconf=0"), "{plan}");
}
