//! What DHCP servers answer that is wrong, late or rare.

use std::fs;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::thread;

use serde_json::{Value, json};

use crate::addresses::dhcp::{address, bed, lan, lease, seconds_left, sent_by};
use crate::addresses::dhcp_renewal::events;
use crate::addresses::identity::{have, start};
use crate::harness::agent::Agent;
use crate::harness::bed::Bed;
use crate::harness::container::{Container, Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Reply, Scripted, Server, beside, set_header_sum};
use crate::harness::frames::{Dhcp, Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const NONE: &[Need] = &[Need::Macvlan];
    const KEA: &[Need] = &[Need::Macvlan, Kind::Kea.need()];
    const DNSMASQ: &[Need] = &[Need::Macvlan, Kind::Dnsmasq.need()];
    const UDHCPD: &[Need] = &[Need::Macvlan, Kind::Udhcpd.need()];
    let all: [Named; 10] = [
        ("wrong", NONE, wrong),
        ("another_address_than_offered", NONE, another_address),
        ("what_is_not_the_servers_to_decide", NONE, not_decided),
        ("in_parts_and_in_other_fields", NONE, in_parts),
        ("at_once", DNSMASQ, at_once),
        ("t1_behind_t2", UDHCPD, t1_behind_t2),
        ("a_default_route_without_a_router", KEA, on_link),
        ("a_router_outside_the_subnet", KEA, outside),
        ("probed_for_and_announced", KEA, probed),
        ("killed_when_it_has_been_answered", KEA, killed),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("dhcp_answers::{name}"), needs, run).in_one()).into();
    for kind in [Kind::Dnsmasq, Kind::Kea] {
        let needs = [Need::Macvlan, Kind::Kea.need(), kind.need()];
        tests.push(Test::new(format!("dhcp_answers::late::{kind}"), &needs, move || late(kind)));
    }
    for kind in [Kind::Kea, Kind::Isc] {
        let name = format!("dhcp_answers::long_lists::{kind}");
        let test = Test::new(name, &[Need::Macvlan, kind.need()], move || long_lists(kind));
        tests.push(test.of(kind.debians()));
    }
    tests
}

/// What a client has asked for: the addresses of its requests.
fn requested(ear: &Ear) -> Vec<Ipv4Addr> {
    let all = ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Request);
    all.filter_map(|message| message.requested()).collect()
}

/// How an answer is made wrong.
type Spoil = fn(&mut Reply) -> Vec<u8>;

/// RFC 2131, 4.4.1, RFC 1542, 2.1, RFC 768, RFC 791, RFC 6842: each of these is no answer.
const WRONG: [(&str, Spoil); 15] = [
    ("op", |reply| {
        reply.op = 1;
        reply.frame()
    }),
    ("xid", |reply| {
        reply.xid ^= 1;
        reply.frame()
    }),
    ("chaddr", |reply| {
        reply.chaddr[5] ^= 1;
        reply.frame()
    }),
    ("cookie", |reply| {
        reply.cookie[3] ^= 1;
        reply.frame()
    }),
    ("client id", |reply| reply.clone().with(61, Some(&[1, 2, 0, 0, 0, 0, 1])).frame()),
    ("no server", |reply| reply.clone().with(54, None).frame()),
    ("no lease time", |reply| reply.clone().with(51, None).frame()),
    ("no subnet mask", |reply| reply.clone().with(1, None).frame()),
    ("no message type", |reply| reply.clone().with(53, None).frame()),
    ("no address", |reply| {
        reply.yiaddr = Ipv4Addr::UNSPECIFIED;
        reply.frame()
    }),
    ("last option cut short", |reply| {
        reply.tail = vec![6, 8, 10, 77, 0, 1];
        reply.frame()
    }),
    ("checksum of UDP", |reply| {
        let mut frame = reply.frame();
        frame[40] ^= 1;
        frame
    }),
    ("checksum of the header", |reply| {
        let mut frame = reply.frame();
        frame[24] ^= 1;
        frame
    }),
    ("first fragment", |reply| {
        let mut frame = reply.frame();
        frame[20] = 0x20;
        set_header_sum(&mut frame);
        frame
    }),
    ("later fragment", |reply| {
        let mut frame = reply.frame();
        frame[21] = 1;
        set_header_sum(&mut frame);
        frame
    }),
];

/// The number of an answer that is wrong, as the last part of its address, and as the time that it gives.
fn number(at: usize) -> u8 {
    101 + at as u8
}

/// Whatever comes first, only the right offer is asked for, and only the right acknowledgement is taken.
fn wrong() {
    let bed = bed("-o dhcp_timeout=10");
    let ear = Ear::on(&bed.lan);
    let mut seen = [0; 2];
    let _server = Scripted::start(&bed, move |message| {
        let is_offer = message.kind == MessageType::Discover;
        let seen = &mut seen[usize::from(!is_offer)];
        *seen += 1;
        let all = WRONG.iter().enumerate().map(|(at, (_, spoil))| {
            let given = if is_offer { lan(number(at)) } else { lan(50) };
            let time = u32::from(number(at)).to_be_bytes();
            spoil(&mut Reply::to(message, given).with(51, Some(&time)))
        });
        match (message.kind, *seen) {
            (MessageType::Discover | MessageType::Request, 1) => all.collect(),
            (MessageType::Discover | MessageType::Request, _) => vec![Reply::to(message, lan(50)).frame()],
            _ => Vec::new(),
        }
    });
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let asked = requested(&ear);
    let names: Vec<_> = (0..WRONG.len()).map(|at| (lan(number(at)), WRONG[at].0)).collect();
    assert!(asked.len() >= 2 && asked.iter().all(|asked| *asked == lan(50)), "{asked:?}: {names:?}");
    assert_eq!(address(&web), lan(50));
    let left = seconds_left(&web);
    assert!((3500..=3600).contains(&left), "{left}: {names:?}");
}

/// It is not what was asked for: the address may be another client's.
fn another_address() {
    let bed = bed("-o dhcp_timeout=3");
    let ear = Ear::on(&bed.lan);
    let _server = Scripted::start(&bed, |message| {
        let last = if message.kind == MessageType::Discover { 50 } else { 51 };
        vec![Reply::to(message, lan(last)).frame()]
    });
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    let sentence = "DHCP server 10.77.0.1 has offered an address and does not confirm it";
    assert!(refused.contains(sentence), "{refused}");
    bed.assert_nothing_held();
    let released: Vec<_> =
        ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Release).collect();
    let [released] = &released[..] else { panic!("{released:?}") };
    assert_eq!((released.ciaddr, released.server()), (lan(50), Some(lan(1))));
}

/// The host name of the container and the host, and where renewals go: to option 54, not to the host that diskless clients boot from.
fn not_decided() {
    let bed = bed("");
    let ear = Ear::on(&bed.lan);
    let host_name = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let before = host_name();
    let _server = Scripted::start(&bed, |message| match message.kind {
        MessageType::Discover | MessageType::Request => {
            let reply = Reply { siaddr: lan(9), ..Reply::to(message, lan(50)) };
            let reply = reply.with(12, Some(b"intruder")).with(51, Some(&6_u32.to_be_bytes()));
            vec![reply.frame()]
        }
        _ => Vec::new(),
    });
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(host_name(), before);
    let shown: Value = serde_json::from_str(&bed.run(&format!("inspect {}", web.id))).unwrap();
    assert!(shown["leases"][0]["host_name"] == "test" && !shown.to_string().contains("intruder"), "{shown}");
    wait(|| sent_by(&ear, &web).iter().any(|message| message.ciaddr == lan(50)));
    let sent = sent_by(&ear, &web);
    let renewal = sent.iter().find(|message| message.ciaddr == lan(50)).unwrap();
    assert_eq!((renewal.to, renewal.broadcast), (lan(1), false));
    assert!(sent.iter().all(|message| message.host_name().as_deref() == Some("test")), "{sent:?}");
}

/// RFC 3396 and RFC 2132, 9.3: one option in two parts, the second of which is in the field `file`, and refers to the first one; others
/// in the field `sname`.
fn in_parts() {
    let bed = bed("");
    let _server = Scripted::start(&bed, |message| match message.kind {
        MessageType::Discover | MessageType::Request => {
            let mut reply = Reply::to(message, lan(50)).with(52, Some(&[3]));
            reply.options.push((119, b"\x03eng\x07exa".to_vec()));
            // "mple", the end of the name, then "lab" and a pointer to "example".
            reply.file = [&[119, 11][..], b"mple\x00\x03lab\xc0\x04", &[26, 2, 0x05, 0x78, 255]].concat();
            reply.sname = [&[6, 4][..], &lan(2).octets(), &[255]].concat();
            vec![reply.frame()]
        }
        _ => Vec::new(),
    });
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let lease = lease(&bed, &web);
    assert_eq!(lease["search"], json!(["eng.example", "lab.example"]));
    assert_eq!((&lease["mtu"], &lease["dns"]), (&1400.into(), &json!(["10.77.0.2"])));
    assert_eq!(web.link("eth0")["mtu"], 1400);
}

/// RFC 4039: two messages instead of four.
fn at_once() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Dnsmasq, Options { rapid_commit: true, ..Options::default() });
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let said = ear.dhcp(&have(&web).1);
    let kinds: Vec<_> = said.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [MessageType::Discover, MessageType::Ack]);
    assert!(said.iter().all(|message| message.has(80)), "{said:?}");
    assert_eq!(server.leased(), [address(&web)]);
    web.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

/// udhcpd says whatever it is told. It is asked for more time in time.
fn t1_behind_t2() {
    let bed = bed("");
    let options = Options { lease: 16, t1_t2: Some((9, 4)), ..Options::default() };
    let server = Server::start(&bed, Kind::Udhcpd, options);
    let ear = Ear::on(&bed.lan);
    let _agent = Agent::start(&bed);
    let web = start(&bed, "a", "web", "lan");
    let own = address(&web);
    wait(|| !events(&bed, "renewed").is_empty());
    let said = ear.dhcp(&have(&web).1);
    assert!(said.iter().any(|message| message.t1_t2() == Some((9, 4))), "{said:?}");
    let mut asked = said.iter().filter(|message| message.kind == MessageType::Request);
    let (first, renewal) = (asked.next().unwrap(), asked.rfind(|message| message.ciaddr == own).unwrap());
    let after = (renewal.at - first.at).as_secs_f32();
    assert!((1.5..=3.9).contains(&after) && !renewal.broadcast, "{after}: {renewal:?}");
    assert_eq!(server.leased(), [own]);
}

/// RFC 3442: 0.0.0.0 is the link itself, for all destinations too.
fn on_link() {
    let bed = bed("");
    let routes = vec![("0.0.0.0/0".parse().unwrap(), Ipv4Addr::UNSPECIFIED)];
    let _server = Server::start(&bed, Kind::Kea, Options { routes, ..Options::default() });
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let routes = web.routes("-4");
    assert!(routes[0].starts_with("default dev eth0 "), "{routes:?}");
    assert!(!routes.iter().any(|route| route.contains("via")), "option 3 is ignored: {routes:?}");
    assert!(web.reaches("172.16.86.1"), "which only the default route leads to");
    assert_eq!(bed.run("check"), "");
}

/// It is on the link, as clouds and providers have it.
fn outside() {
    let bed = bed("");
    let router = Ipv4Addr::new(198, 51, 100, 1);
    let _server = Server::start(&bed, Kind::Kea, Options { router: Some(router), ..Options::default() });
    bed.lan.ip(&format!("addr add {router}/32 dev lan0"));
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let routes = web.routes("-4");
    assert!(
        routes[0].starts_with("default via 198.51.100.1 dev eth0 ") && routes[0].contains("onlink"),
        "{routes:?}"
    );
    assert!(web.reaches("198.51.100.1"));
    assert_eq!(bed.run("check"), "");
}

/// RFC 2131, 4.4.1, RFC 5227: first the LAN is asked for the address, from 0.0.0.0; then it is used, and announced.
fn probed() {
    let bed = bed("-o announcements=1");
    let _server = Server::start(&bed, Kind::Kea, Options::default());
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let (own, mac) = (address(&web).to_string(), have(&web).1);
    wait(|| !ear.times("announcement", &mac, &own).is_empty());
    let acknowledged =
        ear.dhcp(&mac).into_iter().find(|message| message.kind == MessageType::Ack).unwrap().at;
    let [probes, announcements] = ["probe", "announcement"].map(|what| ear.times(what, &mac, &own));
    assert!(!probes.is_empty() && acknowledged < probes[0], "{probes:?}");
    assert!(probes.iter().all(|probe| *probe < announcements[0]), "{probes:?} {announcements:?}");
}

/// An engine kills the hook while the LAN is asked for the address. Nothing is left here; the server keeps the lease until it ends, for
/// the same client.
fn killed() {
    let bed = bed("-o conflict_detection=3000");
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let ear = Ear::on(&bed.lan);
    let new = || bed.container(Bare, "web").annotation("io.underlay.identity", "web").networks("lan");
    let mut web = new().without_hooks().start().unwrap();
    let mut hook = bed.underlay("hook createRuntime");
    let mut hook = hook.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    hook.stdin.take().unwrap().write_all(web.state_at("createRuntime").as_bytes()).unwrap();
    wait(|| ear.all_dhcp().iter().any(|message| message.kind == MessageType::Ack));
    wait(|| !bed.leases().is_empty());
    hook.kill().unwrap();
    hook.wait().unwrap();
    let given = server.leased();
    assert!(bed.run("ps").contains("asking"), "{}", bed.run("ps"));
    web.kill();
    bed.gc();
    bed.assert_nothing_held();
    let again = new().start().unwrap();
    assert_eq!((vec![address(&again)], server.leased()), (given.clone(), given));
}

/// Whether `message` is of the server 10.77.0.2.
fn is_of_second(message: &Dhcp, kind: MessageType) -> bool {
    message.kind == kind && message.server() == Some(lan(2))
}

/// RFC 2131, 4.4.6: a server acknowledges when the hook has no time left. The lease is given back, and nothing of it is used.
fn late(kind: Kind) {
    let bed = bed("-o dhcp_timeout=2");
    let netns = beside(&bed, "second");
    let first = Server::start(&bed, Kind::Kea, Options::default());
    start(&bed, "a", "web", "lan").stop();
    drop(first);
    let options = Options { address: "10.77.0.2/24".parse().unwrap(), ..Options::default() };
    let server = Server::start_in(&bed, &netns, kind, options.range(150, 199));
    let ear = Ear::on(&bed.lan);
    let refused = thread::scope(|scope| {
        let start = scope.spawn(|| {
            let builder = bed.container(Bare, "b").annotation("io.underlay.identity", "web");
            builder.networks("lan").start().map(drop).unwrap_err()
        });
        // The client waits for the server that it knows, for a moment.
        wait(|| ear.all_dhcp().iter().any(|message| is_of_second(message, MessageType::Offer)));
        server.pause();
        start.join().unwrap()
    });
    let sentence = "DHCP server 10.77.0.2 has offered an address and does not confirm it";
    assert!(refused.contains(sentence), "{refused}");
    bed.assert_nothing_held();
    let released: Vec<_> =
        ear.all_dhcp().into_iter().filter(|message| is_of_second(message, MessageType::Release)).collect();
    let [released] = &released[..] else { panic!("{released:?}") };
    assert_eq!((released.from, released.to, released.requested()), (released.ciaddr, lan(2), None));
    assert!(released.client_id().is_some());
    server.go_on();
    wait(|| ear.all_dhcp().iter().any(|message| is_of_second(message, MessageType::Ack)));
    wait(|| server.leases().is_empty());
    assert!(released.ciaddr >= lan(150), "{released:?}");
}

/// The lease as far as it comes from long lists.
fn lists(bed: &Bed, container: &Container<'_>) -> [usize; 3] {
    let lease = lease(bed, container);
    ["routes", "search", "dns"].map(|key| lease[key].as_array().map_or(0, Vec::len))
}

/// Options of more than 255 bytes come in parts (RFC 3396). ISC's server has what finds no place among the options in the fields `file`
/// and `sname` (option 52).
fn long_lists(kind: Kind) {
    let bed = bed("");
    // Kea 2.6 cannot send more than 255 bytes of them.
    let count = if kind == Kind::Kea { 30 } else { 40 };
    let routes = (0..count).map(|last| (format!("10.9.{last}.0/24").parse().unwrap(), lan(3))).collect();
    let search: Vec<&'static str> = vec![
        "alpha-of-the-names.example.com",
        "bravo-of-the-names.example.org",
        "charlie-of-the-names.example.net",
        "delta-of-the-names.example.edu",
        "echo-of-the-names.example.info",
        "foxtrot-of-the-names.example.name",
        "golf-of-the-names.example.biz",
        "hotel-of-the-names.example.aero",
        "india-of-the-names.example.coop",
        "juliett-of-the-names.example.museum",
        "kilo-of-the-names.example.pro",
    ];
    // Kea has no longer lists of addresses.
    let dns = (1..=if kind == Kind::Kea { 60 } else { 160 }).map(lan).collect();
    let _server =
        Server::start(&bed, kind, Options { routes, search: search.clone(), dns, ..Options::default() });
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let said = ear.dhcp(&have(&web).1);
    let ack = said.iter().find(|message| message.kind == MessageType::Ack).unwrap();
    assert_eq!(ack.has(52), kind == Kind::Isc);
    assert_eq!(lists(&bed, &web), [count, 11, 8]);
    assert_eq!(lease(&bed, &web)["search"], json!(search));
}
