//! What happens while a container has a lease: the agent is killed or late, the container is paused, its pod changes, others
//! want the address.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::addresses::dhcp::{address, bed, lan, lease, seconds_left};
use crate::addresses::dhcp_renewal::make_due;
use crate::addresses::identity::{have, start};
use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, Netns, outcome};
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::dhcp::{Client, Kind, Options, Server};
use crate::harness::frames::{Ear, MessageType};
use crate::harness::mishaps::{ERRORS, assert_clean, steps, trace_to, turns};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::Mishap;

pub fn tests() -> Vec<Test> {
    const KEA: &[Need] = &[Need::Macvlan, Kind::Kea.need()];
    const DNSMASQ: &[Need] = &[Need::Macvlan, Kind::Dnsmasq.need()];
    let all: [Named; 15] = [
        ("an_agent_at_times", KEA, at_times),
        ("asked_for_at_times", DNSMASQ, asked_at_times),
        ("killed_anywhere", DNSMASQ, killed),
        ("error_anywhere", DNSMASQ, errors),
        ("containers_end_meanwhile", KEA, meanwhile),
        ("for_ever", KEA, for_ever),
        ("for_a_second", KEA, for_a_second),
        ("the_host_was_suspended", KEA, suspended),
        ("paused", KEA, paused),
        ("renewed_just_after_the_kernel_has_ended_it", DNSMASQ, just_after),
        ("the_ledger_is_lost", DNSMASQ, lost),
        ("gc_meanwhile", DNSMASQ, gc_meanwhile),
        ("a_pod", DNSMASQ, pod),
        ("beside_addresses_of_the_ledger", KEA, beside_ledger),
        ("two_hundred", DNSMASQ, many),
    ];
    all.map(|(name, needs, run)| Test::new(format!("dhcp_life::{name}"), needs, run).in_one()).into()
}

/// `agent --once`, as cron calls it.
fn once(bed: &Bed) {
    bed.run("agent --once");
}

fn at_times() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Kea, Options::short());
    let web = start(&bed, "a", "web", "lan");
    let (had, begin) = (have(&web), Instant::now());
    while begin.elapsed() < Duration::from_secs(12) {
        once(&bed);
        assert_eq!(have(&web), had);
        thread::sleep(Duration::from_millis(500));
    }
    assert!((1..=6).contains(&seconds_left(&web)));
    assert_eq!(server.leased(), [address(&web)]);
    web.stop();
    bed.assert_nothing_held();
}

/// A container that started without a lease gets one as soon as there is a server, though it looks for three seconds whether the
/// address is free.
fn asked_at_times() {
    let bed = bed("-o dhcp_optional=true -o dhcp_timeout=1");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(web.addresses("eth0"), [""; 0]);
    once(&bed);
    assert_eq!(web.addresses("eth0"), [""; 0]);
    let server = Server::start(
        &bed,
        Kind::Dnsmasq,
        Options { ping: true, router: Some(lan(1)), ..Options::default() },
    );
    once(&bed);
    assert_eq!(server.leased(), [address(&web)]);
    assert!(web.routes("-4")[0].starts_with("default via 10.77.0.1 "), "{:?}", web.routes("-4"));
}

/// The next agent renews what one has left that was killed, at whatever system call.
fn killed() {
    let bed = bed("-o conflict_detection=off -o announcements=0");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let had = have(&web);
    steps("dhcp renewal", 7, |at| {
        let before = make_due(&bed, "dhcp");
        let (traced, hit) = trace_to(&bed.underlay("agent --once"), b"", at, Mishap::Kill);
        assert_clean(&traced, hit, "agent");
        once(&bed);
        assert_eq!(have(&web), had);
        assert!(lease(&bed, &web)["times"]["obtained"].as_u64().unwrap() > before);
        assert!(seconds_left(&web) > 3590);
        bed.gc();
        assert_eq!(bed.run("check"), "");
        hit.is_some()
    });
    web.stop();
    bed.assert_nothing_held();
}

fn errors() {
    let bed = bed("-o conflict_detection=off -o announcements=0");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let had = have(&web);
    for turn in turns() {
        steps("dhcp renewal", 11, |at| {
            let before = make_due(&bed, "dhcp");
            let error = ERRORS[(at + turn) % ERRORS.len()];
            let (traced, hit) = trace_to(&bed.underlay("agent --once"), b"", at, Mishap::Error(error));
            assert_clean(&traced, hit, "agent");
            once(&bed);
            assert_eq!(have(&web), had);
            assert!(lease(&bed, &web)["times"]["obtained"].as_u64().unwrap() > before, "{hit:?}");
            hit.is_some()
        });
    }
    web.stop();
    bed.assert_nothing_held();
}

/// At whatever moment of a renewal a container ends, its lease is given back or ends, and nothing is left of it.
fn meanwhile() {
    let bed = bed("-o conflict_detection=off");
    let options = Options { lease: 4, t1_t2: Some((1, 2)), ..Options::default() };
    let server = Server::start(&bed, Kind::Kea, options);
    let agent = Agent::start(&bed);
    for round in 0..8 {
        let containers = ["a", "b", "c"].map(|id| start(&bed, &format!("{id}{round}"), id, "lan"));
        // T1 is a second, more or less.
        thread::sleep(Duration::from_millis(900 + 25 * round));
        for container in containers {
            container.stop();
        }
    }
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
    assert!(agent.ended().is_none(), "{}", agent.log());
    // That of the host alone.
    let namespaces = agent.descriptors().iter().filter(|to| to.starts_with("net:")).count();
    assert_eq!(namespaces, 1, "{:?}", agent.descriptors());
}

fn for_ever() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options { lease: u32::MAX, ..Options::default() });
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(seconds_left(&web), u64::from(u32::MAX));
    assert!(lease(&bed, &web)["times"]["limits"].is_null());
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.assert_nothing_held();
}

/// It is renewed all the time, or over: never is there an address without a lease.
fn for_a_second() {
    let bed = bed("-o conflict_detection=off");
    let server = Server::start(&bed, Kind::Kea, Options { lease: 1, ..Options::default() });
    let agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    thread::sleep(Duration::from_secs(4));
    assert!(agent.ended().is_none());
    drop(agent);
    drop(server);
    wait(|| web.addresses("eth0").is_empty());
    web.stop();
    bed.assert_nothing_held();
}

/// The lease is over when the host wakes up, and its server has given the address to another client. The kernel's time has stood
/// still meanwhile, so the container has the address still.
fn suspended() {
    let bed = bed("-o conflict_detection=off");
    let server = Server::start(&bed, Kind::Kea, Options::short().range(60, 60));
    let agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(address(&web), lan(60));
    let signal = |signal| kill(Pid::from_raw(agent.pid() as i32), signal).unwrap();
    signal(Signal::SIGSTOP);
    web.run("ip", "addr change 10.77.0.60/24 dev eth0 valid_lft forever preferred_lft forever");
    wait(|| server.leases().is_empty());
    assert_eq!(Client::new(&bed).ask("").unwrap(), lan(60));
    assert_eq!(address(&web), lan(60));
    signal(Signal::SIGCONT);
    let awake = Instant::now();
    wait(|| web.addresses("eth0").is_empty());
    assert!(awake.elapsed() < Duration::from_secs(2), "{:?}", awake.elapsed());
    wait(|| bed.run("events --format json").contains("lost"));
    // The other client does not renew it.
    wait(|| web.addresses("eth0") == ["10.77.0.60/24"]);
    wait(|| server.leases().iter().any(|lease| lease.mac == have(&web).1));
}

/// The agent asks the server whether the address that the container has is the container's.
fn lost() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let had = have(&web);
    fs::remove_dir_all(bed.path("run")).unwrap();
    bed.gc();
    once(&bed);
    assert_eq!((have(&web), server.leased()), (had, vec![address(&web)]));
    assert!(lease(&bed, &web)["server"].is_string());
    assert!(bed.leases()[0].ends_with(&format!("/{}", address(&web))), "{:?}", bed.leases());
    assert_eq!(bed.run("check"), "");
    web.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

/// With the last address the kernel deletes the routes.
fn just_after() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let (had, routes) = (have(&web), web.routes("-4"));
    web.run("ip", &format!("addr del {} dev eth0", had.0[0]));
    assert_eq!(web.routes("-4"), [""; 0]);
    make_due(&bed, "dhcp");
    once(&bed);
    assert_eq!((have(&web), web.routes("-4")), (had, routes));
    assert!(seconds_left(&web) > 3590);
}

/// gc gives nothing back that a container is about to get.
fn gc_meanwhile() {
    let bed = bed("-o conflict_detection=1500");
    let _server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let web = thread::scope(|scope| {
        let start = scope.spawn(|| bed.container(Bare, "web").networks("lan").start());
        wait(|| !bed.leases().is_empty());
        bed.gc();
        assert_eq!(bed.leases().len(), 1);
        start.join().unwrap().unwrap()
    });
    assert!(bed.leases()[0].ends_with(&format!("/{}", address(&web))), "{:?}", bed.leases());
    assert_eq!(bed.run("check"), "");
}

/// A container that stands still is renewed like any other.
fn paused() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Kea, Options::short());
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    kill(Pid::from_raw(web.pid), Signal::SIGSTOP).unwrap();
    thread::sleep(Duration::from_secs(8));
    assert_eq!(server.leased(), [address(&web)]);
}

/// Its lease is there for all members, and goes with the last.
fn pod() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Dnsmasq, Options::default());
    let ear = Ear::on(&bed.lan);
    let pod = Netns::new("pod");
    let member = |id: &str| bed.container(Bare, id).networks("lan").in_netns(pod.path()).start().unwrap();
    let [web, log] = ["web", "log"].map(member);
    let (own, mac) = (address(&web), have(&web).1);
    web.stop();
    assert_eq!((address(&log), server.leased()), (own, vec![own]));
    let late = member("late");
    log.stop();
    assert_eq!((address(&late), server.leased()), (own, vec![own]));
    let before = make_due(&bed, "dhcp");
    once(&bed);
    assert!(obtained(&bed) > before);
    assert!(!ear.dhcp(&mac).iter().any(|message| message.kind == MessageType::Release));
    late.stop();
    bed.assert_nothing_held();
    wait(|| server.leases().is_empty());
}

fn obtained(bed: &Bed) -> u64 {
    let all = bed.ps();
    let mut obtained = all
        .iter()
        .filter_map(|record| record["attachments"][0]["dhcp"]["lease"]["times"]["obtained"].as_u64());
    obtained.next().unwrap()
}

/// Neither gets an address of the other.
fn beside_ledger() {
    let bed = bed("--subnet 10.77.0.0/24 --gateway 10.77.0.1");
    let server = Server::start(&bed, Kind::Kea, Options::default().range(60, 61));
    let ear = Ear::on(&bed.lan);
    let fixed = bed.container(Bare, "fixed").networks("lan:ip=10.77.0.60").start().unwrap();
    assert_eq!(address(&fixed), lan(60));
    assert_eq!(ear.all_dhcp().len(), 0, "it asks no server");
    // Of two containers one comes to that address first, and does not get it.
    let both = ["a", "b"].map(|id| bed.container(Bare, id).networks("lan").start());
    let got: Vec<_> = both.iter().flatten().map(address).collect();
    assert_eq!(got, [lan(61)]);
    assert_eq!(server.leased(), [lan(61)]);
    let refused = bed.container(Bare, "late").networks("lan:ip=10.77.0.61").start().map(drop).unwrap_err();
    let holder = both.iter().flatten().next().unwrap();
    assert!(refused.contains("10.77.0.61") && refused.contains(&holder.id), "{refused}");
}

/// One process of little memory renews them, and asks a server for one after the other.
fn many() {
    const MANY: usize = 200;
    let bed = bed("-o conflict_detection=off -o announcements=0");
    let options = Options { range: [lan(2), Ipv4Addr::new(10, 77, 3, 254)], ..Options::default() };
    let server = Server::start(
        &bed,
        Kind::Dnsmasq,
        Options { address: "10.77.0.1/22".parse().unwrap(), lease: 3600, ..options },
    );
    let bed = &bed;
    let containers: Vec<_> = thread::scope(|scope| {
        let some = |part: usize| {
            scope.spawn(move || {
                let ids = (0..MANY / 4).map(|number| format!("c{part}-{number}"));
                ids.map(|id| bed.container(Bare, &id).networks("lan").start().unwrap()).collect::<Vec<_>>()
            })
        };
        let all: Vec<_> = (0..4).map(some).collect();
        all.into_iter().flat_map(|some| some.join().unwrap()).collect()
    });
    let leased: BTreeSet<_> = server.leased().into_iter().collect();
    assert_eq!(leased.len(), MANY);
    let agent = Agent::start(bed);
    let ear = Ear::on(&bed.lan);
    // All of them may be elsewhere then.
    bed.lan.ip("link set lan0 down");
    wait(|| !bed.host.link("eth0").unwrap()["flags"].to_string().contains("LOWER_UP"));
    bed.lan.ip("link set lan0 up");
    let asked = || {
        let requests = ear.all_dhcp().into_iter().filter(|message| message.kind == MessageType::Request);
        requests.map(|message| (message.xid, message.at)).collect::<Vec<_>>()
    };
    wait(|| asked().len() >= MANY);
    let asked = asked();
    let took = asked[asked.len() - 1].1 - asked[0].1;
    let pace = asked.len() as f32 / took.as_secs_f32();
    assert!(pace <= 21.0, "{pace} a second");
    wait(|| server.leases().len() == MANY);
    let memory = agent.memory();
    assert!(memory < 16 << 10, "{memory} KiB");
    eprintln!("dhcp_life::two_hundred: {pace:.1} a second, {memory} KiB");
    // None was lost.
    assert_eq!(server.leased().into_iter().collect::<BTreeSet<_>>(), leased);
    drop(agent);
    let pids: Vec<_> = containers.iter().map(|container| container.pid.to_string()).collect();
    containers.into_iter().for_each(drop);
    let alive = outcome(Command::new("ps").args(["-o", "pid=", "-p", &pids.join(",")]), b"");
    assert_eq!(alive.stdout, "");
}
