//! Addresses of the LAN's own DHCP server: how a container gets one, and gives it back.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::addresses::identity::{have, start};
use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine::Bare, wait};
use crate::harness::dhcp::{Client, Kind, Options, Server, beside};
use crate::harness::frames::{Dhcp, Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::Test;

/// The servers of a test.
type Kinds = &'static [Kind];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    let each: [(_, fn(Kind)); 3] = [("a_lease", a_lease), ("release", release), ("identities", identities)];
    for kind in Kind::ALL {
        for (name, run) in each {
            let name = format!("dhcp::{name}::{kind}");
            let test = Test::new(name, &[Need::Macvlan, kind.need()], move || run(kind));
            tests.push(test.of(kind.debians()));
        }
    }
    let all: [(_, Kinds, fn()); 12] = [
        ("host_names", &[Kind::Udhcpd], host_names),
        ("a_restart_does_not_wait", &[Kind::Dnsmasq], restart),
        ("taken_by_another_host", &[Kind::Kea], || taken("macvlan")),
        ("all_are_taken", &[Kind::Dnsmasq], all_taken),
        ("no_server", &[], no_server),
        ("killed_while_it_asks", &[], killed),
        ("the_server_before_is_preferred", &[Kind::Kea, Kind::Dnsmasq], preferred),
        ("a_server_that_is_not_allowed", &[Kind::Udhcpd], not_allowed),
        ("classless_routes", &[Kind::Kea], classless_routes),
        ("mtu", &[Kind::Kea], mtu),
        ("mtu_of_a_later_lease", &[Kind::Kea], mtu_later),
        ("eight_at_once", &[Kind::Dnsmasq], eight_at_once),
    ];
    for (name, kinds, run) in all {
        let needs: Vec<_> = [Need::Macvlan].into_iter().chain(kinds.iter().map(|kind| kind.need())).collect();
        tests.push(Test::new(format!("dhcp::{name}"), &needs, run).in_one());
    }
    tests
}

pub fn lan(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, last)
}

/// A bed with the network `lan`, whose addresses are by DHCP; `more` are further options.
pub fn bed(more: &str) -> Bed {
    let bed = Bed::new();
    bed.create(&format!("--ipam-driver dhcp -o parent=eth0 {more} lan"));
    bed
}

/// The lease of a container, as the ledger has it.
pub fn lease(bed: &Bed, container: &Container<'_>) -> Value {
    let all = bed.ps();
    let record = all.iter().find(|record| record["container"] == container.id.as_str()).unwrap();
    record["attachments"][0]["dhcp"]["lease"].clone()
}

/// The only address of a container.
#[track_caller]
pub fn address(container: &Container<'_>) -> Ipv4Addr {
    let addresses = container.addresses("eth0");
    let [address] = &addresses[..] else { panic!("{addresses:?}") };
    address.strip_suffix("/24").unwrap().parse().unwrap()
}

/// For how many seconds the kernel keeps the address of a container.
pub fn seconds_left(container: &Container<'_>) -> u64 {
    let link = container.link("eth0");
    let addresses = link["addr_info"].as_array().unwrap().iter();
    let mut v4 = addresses.filter(|address| address["family"] == "inet");
    v4.next().unwrap()["valid_life_time"].as_u64().unwrap()
}

/// What was heard of a container, and not of its server.
pub fn sent_by(ear: &Ear, container: &Container<'_>) -> Vec<Dhcp> {
    let mac = have(container).1;
    sent(ear, &mac)
}

fn sent(ear: &Ear, mac: &str) -> Vec<Dhcp> {
    use MessageType::{Ack, Nak, Offer};
    let all = ear.dhcp(mac).into_iter();
    all.filter(|message| !matches!(message.kind, Ack | Nak | Offer)).collect()
}

/// A host on the LAN with addresses of the server's range, and its MAC address.
pub fn printer(bed: &Bed, addresses: &[u8]) -> (Netns, String) {
    let printer = beside(bed, "printer");
    for &last in addresses {
        printer.ip(&format!("addr add {}/24 dev lan0", lan(last)));
    }
    let mac = printer.link("lan0").unwrap()["address"].as_str().unwrap().to_owned();
    (printer, mac)
}

fn a_lease(kind: Kind) {
    let bed = bed("");
    let server = Server::start(&bed, kind, Options::default());
    let ear = Ear::on(&bed.lan);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let (own, mac) = (address(&web), have(&web).1);
    assert!((lan(50)..=lan(99)).contains(&own), "{own}");
    let routes = web.routes("-4");
    assert!(routes[0].starts_with("default via 10.77.0.1 dev eth0"), "{routes:?}");
    assert!((3500..=3600).contains(&seconds_left(&web)), "{}", web.link("eth0"));
    assert!(web.reaches("10.77.0.1"));

    let known = server.leases();
    assert_eq!((known.len(), known[0].address, &known[0].mac), (1, own, &mac));
    assert_eq!(known[0].host_name.as_deref(), Some("test"));
    let sent = sent_by(&ear, &web);
    let id = sent[0].client_id().unwrap();
    assert_eq!(known[0].client_id.as_ref().unwrap_or(&id), &id);
    // RFC 4361: the type, IAID and DUID-UUID.
    assert_eq!((id[0], &id[5..7], id.len()), (255, &[0, 4][..], 23));
    for message in &sent {
        assert_eq!((message.client_id().as_ref(), message.broadcast), (Some(&id), true));
        assert_eq!((message.xid, message.flag, message.ciaddr), (sent[0].xid, false, Ipv4Addr::UNSPECIFIED));
    }
    let kinds: BTreeSet<_> = sent.iter().map(|message| format!("{:?}", message.kind)).collect();
    assert_eq!(kinds, ["Discover", "Request"].map(str::to_owned).into());

    let lease = lease(&bed, &web);
    assert_eq!((&lease["server"], &lease["address"]), (&"10.77.0.1".into(), &format!("{own}/24").into()));
    assert!(lease["times"]["limits"]["expiry"].is_u64(), "{lease}");
    assert!(bed.leases()[0].ends_with(&format!("/{own}")), "{:?}", bed.leases());
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.assert_nothing_held();
}

/// Of a single address: the next client gets it at once.
fn release(kind: Kind) {
    for with_agent in [false, true] {
        let bed = bed("");
        let server = Server::start(&bed, kind, Options::default().range(60, 60));
        let _agent = with_agent.then(|| Agent::start(&bed));
        for id in ["a", "b", "c"] {
            let ear = Ear::on(&bed.lan);
            let before = Instant::now();
            let container = bed.container(Bare, id).networks("lan").start().unwrap();
            // A message may be lost, and is sent again after 3 s.
            assert!(before.elapsed() < Duration::from_secs(6), "{:?}", before.elapsed());
            assert_eq!(address(&container), lan(60));
            let (mac, id) = (have(&container).1, sent_by(&ear, &container)[0].client_id());
            container.stop();
            bed.assert_nothing_held();
            wait(|| server.leases().is_empty());
            let sent = sent(&ear, &mac);
            let released = sent.last().unwrap();
            assert_eq!((released.kind, released.broadcast), (MessageType::Release, false));
            assert_eq!((released.from, released.to), (lan(60), lan(1)));
            assert_eq!((released.ciaddr, released.server()), (lan(60), Some(lan(1))));
            assert_eq!((released.client_id(), released.requested()), (id, None));
        }
    }
}

/// An identity has its address when it is created again, and no other has it.
fn identities(kind: Kind) {
    let bed = bed("");
    let _server = Server::start(&bed, kind, Options::default());
    let ear = Ear::on(&bed.lan);
    let db = start(&bed, "a", "db", "lan");
    let cache = start(&bed, "x", "cache", "lan");
    let (had, other) = (have(&db), have(&cache));
    assert_ne!(had, other);
    let id = |container: &Container<'_>| sent_by(&ear, container)[0].client_id().unwrap();
    let (first, second) = (id(&db), id(&cache));
    assert_ne!(first, second);
    db.stop();
    // What came meanwhile has not got it.
    let third = start(&bed, "y", "third", "lan");
    assert_ne!(have(&third), had);
    let again = start(&bed, "b", "db", "lan");
    assert_eq!((have(&again), id(&again)), (had, first));
    let sent = sent_by(&ear, &again);
    let last = sent.iter().rfind(|message| message.kind == MessageType::Discover).unwrap();
    assert_eq!(last.requested(), Some(address(&again)));
}

fn host_names() {
    let bed = bed("");
    bed.create("-o dhcp_hostname=db -o parent=eth0 named");
    let _server = Server::start(&bed, Kind::Udhcpd, Options::default());
    for (network, own, told) in [
        ("lan", "web", Some("web")),
        ("lan", "", None),
        ("lan", "my_web", None),
        ("lan", "-web", None),
        ("named", "web", Some("db")),
    ] {
        let ear = Ear::on(&bed.lan);
        let container = bed.container(Bare, "web").host_name(own).networks(network).start().unwrap();
        let sent = sent_by(&ear, &container);
        assert!(sent.len() >= 2);
        for message in sent {
            assert_eq!(message.host_name().as_deref(), told, "{own:?}: {message:?}");
        }
    }
}

/// A server that pings an address before it gives it has no reason to when it gave it to this client before.
fn restart() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options { ping: true, ..Options::default() });
    let first = start(&bed, "a", "db", "lan");
    let had = have(&first);
    first.stop();
    let ear = Ear::on(&bed.lan);
    let again = start(&bed, "a", "db", "lan");
    assert_eq!(have(&again), had);
    let said = ear.dhcp(&had.1);
    let ack = said.iter().find(|message| message.kind == MessageType::Ack).unwrap();
    // Milliseconds, on a machine with nothing else to do.
    assert!(ack.at - said[0].at < Duration::from_millis(500), "{said:?}");
}

pub fn taken(driver: &str) {
    let bed = bed(&format!("-d {driver}"));
    let server = Server::start(&bed, Kind::Kea, Options::default().range(50, 51));
    let (_printer, _) = printer(&bed, &[50]);
    let ear = Ear::on(&bed.lan);
    // One of the two comes to the printer's address first.
    let both = ["a", "b"].map(|id| bed.container(Bare, id).networks("lan").start());
    let [one, other] = both;
    let got: Vec<_> = [&one, &other].into_iter().flatten().map(address).collect();
    assert_eq!(got, [lan(51)], "{:?} {:?}", one.as_ref().err(), other.as_ref().err());
    let declined: Vec<_> =
        ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Decline).collect();
    assert_eq!(declined.len(), 1, "{declined:?}");
    let message = &declined[0];
    assert_eq!((message.requested(), message.server()), (Some(lan(50)), Some(lan(1))));
    assert_eq!((message.broadcast, message.ciaddr), (true, Ipv4Addr::UNSPECIFIED));
    assert!(message.client_id().is_some());
    assert_eq!(server.leased(), [lan(51)]);
}

/// dnsmasq offers the same address again.
fn all_taken() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default().range(60, 60));
    let (_printer, mac) = printer(&bed, &[60]);
    let ear = Ear::on(&bed.lan);
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    let sentence = format!("the DHCP server offers 10.77.0.60, which another host has: {mac}");
    assert!(refused.contains(&sentence), "{refused}");
    let declined = ear.all_dhcp().iter().filter(|message| message.kind == MessageType::Decline).count();
    assert_eq!(declined, 3);
    bed.assert_nothing_held();
}

fn no_server() {
    let bed = bed("-o dhcp_timeout=5");
    let before = bed.host_state();
    let ear = Ear::on(&bed.lan);
    let start = Instant::now();
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    let elapsed = start.elapsed().as_secs_f32();
    assert!(refused.contains("network lan: no DHCP server answers on eth0 within 5 s"), "{refused}");
    assert!(
        refused.contains("tcpdump -eni eth0 port 67") && refused.contains("dhcp_optional=true"),
        "{refused}"
    );
    assert!((4.5..=5.8).contains(&elapsed), "{elapsed}");
    bed.assert_nothing_held();
    wait(|| bed.host_state() == before);
    let sent = ear.all_dhcp();
    assert!(sent.len() > 1 && sent.iter().all(|message| message.kind == MessageType::Discover), "{sent:?}");
    assert!(sent.iter().all(|message| message.xid == sent[0].xid));
    assert!(sent.windows(2).all(|two| two[0].secs <= two[1].secs) && sent[sent.len() - 1].secs > 0);
}

/// An engine has no time to wait, and kills the hook.
fn killed() {
    let bed = bed("");
    let mut web = bed.container(Bare, "web").networks("lan").without_hooks().start().unwrap();
    let mut hook = bed.underlay("hook createRuntime");
    let mut hook = hook.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    hook.stdin.take().unwrap().write_all(web.state_at("createRuntime").as_bytes()).unwrap();
    thread::sleep(Duration::from_secs(1));
    hook.kill().unwrap();
    hook.wait().unwrap();
    // A server that comes now is asked by whatever attach comes next.
    let server = Server::start(&bed, Kind::Udhcpd, Options::default());
    web.kill();
    bed.gc();
    bed.assert_nothing_held();
    assert_eq!(server.leased(), [] as [Ipv4Addr; 0]);
    let again = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(server.leased(), [address(&again)]);
}

fn preferred() {
    let bed = bed("");
    let netns = beside(&bed, "second");
    let one = Server::start(&bed, Kind::Kea, Options::default());
    let had = {
        let web = start(&bed, "a", "web", "lan");
        let had = have(&web);
        web.stop();
        had
    };
    let options = Options { address: "10.77.0.2/24".parse().unwrap(), ..Options::default() };
    let _other = Server::start_in(&bed, &netns, Kind::Dnsmasq, options.range(150, 199));
    let ear = Ear::on(&bed.lan);
    // It is the slower one.
    one.pause();
    thread::scope(|scope| {
        scope.spawn(|| {
            wait(|| ear.all_dhcp().iter().any(|message| message.server() == Some(lan(2))));
            thread::sleep(Duration::from_millis(50));
            one.go_on();
        });
        let web = start(&bed, "b", "web", "lan");
        assert_eq!((have(&web), &lease(&bed, &web)["server"]), (had, &"10.77.0.1".into()));
        // A container that knows none takes the first offer.
        one.pause();
        let other = start(&bed, "x", "other", "lan");
        assert_eq!(lease(&bed, &other)["server"], "10.77.0.2");
        one.go_on();
    });
}

fn not_allowed() {
    let bed = bed("-o dhcp_servers=10.77.0.1 -o dhcp_timeout=3");
    let netns = beside(&bed, "rogue");
    let options = Options { address: "10.77.0.2/24".parse().unwrap(), ..Options::default() };
    let rogue = Server::start_in(&bed, &netns, Kind::Udhcpd, options.range(150, 199));
    let refused = bed.container(Bare, "web").networks("lan").start().map(drop).unwrap_err();
    let sentence = "DHCP server 10.77.0.2 answers, and the network does not allow it";
    assert!(refused.contains(sentence), "{refused}");
    bed.assert_nothing_held();
    let server = Server::start(&bed, Kind::Udhcpd, Options::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!((server.leased(), &lease(&bed, &web)["server"]), (vec![address(&web)], &"10.77.0.1".into()));
    drop(rogue);
}

fn classless_routes() {
    let bed = bed("");
    let route = |to: &str, router| (to.parse().unwrap(), router);
    let routes = vec![
        route("10.9.0.0/16", lan(3)),
        route("10.8.0.0/16", Ipv4Addr::UNSPECIFIED),
        route("0.0.0.0/0", lan(4)),
    ];
    let _server = Server::start(&bed, Kind::Kea, Options { routes, ..Options::default() });
    let beginnings = |networks: &str| {
        let web = bed.container(Bare, "web").networks(networks).start().unwrap();
        let first = |line: &String| line.split(' ').take(5).collect::<Vec<_>>().join(" ");
        web.routes("-4").iter().map(first).collect::<BTreeSet<_>>()
    };
    let all = beginnings("lan");
    for route in ["default via 10.77.0.4 dev eth0", "10.9.0.0/16 via 10.77.0.3 dev eth0"] {
        assert!(all.contains(route), "{all:?}");
    }
    assert!(all.iter().any(|line| line.starts_with("10.8.0.0/16 dev eth0")), "{all:?}");
    assert!(!all.iter().any(|line| line.contains("10.77.0.1")), "{all:?}");
    let without = beginnings("lan:default-route=no");
    assert!(!without.iter().any(|line| line.starts_with("default")), "{without:?}");
    assert_eq!(without.len(), all.len() - 1);
}

fn mtu() {
    let bed = bed("");
    let mut server = Server::start(&bed, Kind::Kea, Options::default());
    for (told, used) in [(None, 1500), (Some(1400), 1400), (Some(200), 1500), (Some(9000), 1500)] {
        server.change(|options| options.mtu = told);
        let web = bed.container(Bare, "web").networks("lan").start().unwrap();
        assert_eq!(web.link("eth0")["mtu"], used, "{told:?}");
        assert_eq!(bed.run("check"), "");
    }
    server.change(|options| options.mtu = Some(1400));
    bed.create("-o dhcp_use=routes -o parent=eth0 some");
    let web = bed.container(Bare, "web").networks("some").start().unwrap();
    assert_eq!(web.link("eth0")["mtu"], 1500);
}

/// The container starts without a lease, and gets one that has an MTU.
fn mtu_later() {
    let bed = bed("-o dhcp_optional=true -o dhcp_timeout=1");
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let _server = Server::start(&bed, Kind::Kea, Options { mtu: Some(1400), ..Options::default() });
    wait(|| !web.addresses("eth0").is_empty());
    assert_eq!((web.link("eth0")["mtu"].as_u64(), bed.run("check").as_str()), (Some(1400), ""));
}

/// dnsmasq as it comes pings one address after the other, and answers nothing meanwhile.
fn eight_at_once() {
    let bed = bed("-o dhcp_timeout=26");
    let server = Server::start(&bed, Kind::Dnsmasq, Options { ping: true, ..Options::default() });
    let start = Instant::now();
    let bed = &bed;
    let got: BTreeSet<_> = thread::scope(|scope| {
        let one = |n: usize| {
            scope.spawn(move || {
                let container = bed.container(Bare, &format!("c{n}")).networks("lan").start().unwrap();
                let address = address(&container);
                // It lives until all have started.
                (container, address)
            })
        };
        let all: Vec<_> = (0..8).map(one).collect();
        let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(start.elapsed() < Duration::from_secs(26), "{:?}", start.elapsed());
        assert_eq!(server.leases().len(), 8);
        let got: BTreeSet<_> = all.iter().map(|(_, address)| *address).collect();
        // None of them is anybody else's.
        assert!(!got.contains(&Client::new(bed).ask("").unwrap()));
        got
    });
    assert_eq!(got.len(), 8, "{got:?}");
}
