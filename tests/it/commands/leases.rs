//! What commands say of addresses by DHCP.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::addresses::dhcp::{address, bed, lan, lease};
use crate::harness::agent::Agent;
use crate::harness::bed::{Bed, outcome};
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::frames::Ear;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    const NONE: &[Need] = &[Need::Macvlan];
    const KEA: &[Need] = &[Need::Macvlan, Kind::Kea.need()];
    let all: [Named; 7] = [
        ("inspected", KEA, inspected),
        ("asking", NONE, asking),
        ("checked", KEA, checked),
        ("no_answer", KEA, no_answer),
        ("told_once", KEA, told_once),
        ("planned", KEA, planned),
        ("renewed_once", KEA, once),
    ];
    all.map(|(name, needs, run)| Test::new(format!("leases::{name}"), needs, run).in_one()).into()
}

/// Which times of a lease of an hour `inspect` shows, in seconds from now.
fn from_now(time: &Value) -> i64 {
    let script = format!("echo $(($(date -d {time} +%s) - $(date +%s)))", time = time.as_str().unwrap());
    let mut shell = std::process::Command::new("sh");
    outcome(shell.args(["-c", &script]), b"").stdout.trim().parse().unwrap()
}

fn metric(bed: &Bed, name: &str) -> Option<u64> {
    let all = bed.run("metrics");
    let line = all.lines().find(|line| line.starts_with(&format!("{name}{{network=\"lan\"}} ")))?;
    line.split(' ').next_back().unwrap().parse().ok()
}

fn inspected() {
    let bed = bed("");
    let options = Options {
        dns: vec![lan(2)],
        domain: Some("b.example"),
        search: vec!["a.example", "b.example"],
        t1_t2: Some((1800, 3000)),
        ..Options::default()
    };
    let _server = Server::start(&bed, Kind::Kea, options);
    assert_eq!(metric(&bed, "underlay_dhcp_leases"), Some(0));
    assert_eq!(metric(&bed, "underlay_dhcp_expiry_seconds"), None);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let shown: Value = serde_json::from_str(&bed.run(&format!("inspect {}", web.id))).unwrap();
    let [lease] = &shown["leases"].as_array().unwrap()[..] else { panic!("{shown}") };
    let text = |key: &str| lease[key].as_str().unwrap().to_owned();
    let own = format!("{}/24", address(&web));
    for (key, value) in [
        ("network", "lan"),
        ("ifname", "eth0"),
        ("state", "leased"),
        ("host_name", "test"),
        ("address", &own),
        ("server", "10.77.0.1"),
        ("domain", "b.example"),
    ] {
        assert_eq!(text(key), value, "{lease}");
    }
    assert!(text("client_id").starts_with("ff") && lease["trouble"].is_null(), "{lease}");
    assert_eq!(lease["dns"], serde_json::json!(["10.77.0.2"]));
    assert_eq!(lease["search"], serde_json::json!(["a.example", "b.example"]));
    for (key, after) in [("since", 0), ("renewal", 1800), ("rebinding", 3000), ("until", 3600)] {
        let found = from_now(&lease[key]);
        assert!((after - 60..=after + 1).contains(&found), "{key}: {found}: {lease}");
    }
    let all: Vec<Value> = serde_json::from_str(&bed.run("ps --format json")).unwrap();
    assert_eq!(all[0]["leases"][0]["server"], "10.77.0.1");
    assert_eq!(
        (metric(&bed, "underlay_dhcp_leases"), metric(&bed, "underlay_dhcp_asking")),
        (Some(1), Some(0))
    );
    let expiry = metric(&bed, "underlay_dhcp_expiry_seconds").unwrap();
    assert!((3540..=3600).contains(&expiry), "{expiry}");
}

/// A container that started without an address.
fn asking() {
    let bed = bed("-o dhcp_optional=true -o dhcp_timeout=1");
    let _agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let table = bed.run("ps");
    assert!(table.lines().nth(1).unwrap().split_whitespace().any(|word| word == "asking"), "{table}");
    let shown: Value = serde_json::from_str(&bed.run(&format!("inspect {}", web.id))).unwrap();
    let lease = &shown["leases"][0];
    assert_eq!(lease["state"], "asking", "{shown}");
    assert!(lease["trouble"].as_str().unwrap().contains("no DHCP server answers"), "{shown}");
    assert!(lease["address"].is_null() && lease["until"].is_null(), "{shown}");
    assert_eq!(
        (metric(&bed, "underlay_dhcp_leases"), metric(&bed, "underlay_dhcp_asking")),
        (Some(0), Some(1))
    );
    assert_eq!(bed.run("check"), "");
}

/// What `check` finds of `what`, as expected and found.
fn differences(bed: &Bed, what: &str) -> Vec<(String, String)> {
    let all: Vec<Value> = serde_json::from_str(&bed.outcome("check --format json", "").stdout).unwrap();
    let of_kind = all.into_iter().filter(|difference| difference["what"] == what);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    of_kind.map(|difference| (text(&difference["expected"]), text(&difference["found"]))).collect()
}

fn checked() {
    let bed = bed("");
    let options = Options { lease: 8, t1_t2: Some((2, 6)), ..Options::default() };
    let mut server = Server::start(&bed, Kind::Kea, options);
    let agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    assert_eq!(bed.run("check"), "");
    let own = address(&web);
    web.run("ip", &format!("addr change {own}/24 dev eth0 valid_lft forever preferred_lft forever"));
    let expected = (format!("{own}/24 for a time"), format!("{own}/24 for ever"));
    assert_eq!(differences(&bed, "lifetime"), [expected]);
    // The agent's next renewal sets it.
    wait(|| bed.outcome("check", "").code == 0);
    web.run("ip", "addr add 10.77.0.200/24 dev eth0");
    assert_eq!(differences(&bed, "address"), [(String::new(), "10.77.0.200/24".to_owned())]);
    let said = bed.outcome("check", "").stderr;
    assert!(said.contains("a DHCP client in the container"), "{said}");
    web.run("ip", "addr del 10.77.0.200/24 dev eth0");

    server.stop();
    drop(agent);
    wait(|| !differences(&bed, "renewal").is_empty());
    let found = differences(&bed, "renewal");
    assert!(
        found[0].0.starts_with(&format!("{own}/24 renewed at 2")) && found[0].1.starts_with("ends at 2"),
        "{found:?}"
    );
    wait(|| differences(&bed, "renewal")[0].1.starts_with("ended at 2"));
    wait(|| differences(&bed, "address") == [(format!("{own}/24"), String::new())]);
    let said = bed.outcome("check", "").stderr;
    assert!(said.contains("systemctl enable --now underlay-agent.path"), "{said}");
    assert!(!said.contains("attached anew"), "{said}");
    // The ledger has it still.
    assert!(bed.run("ps").contains(" expired "), "{}", bed.run("ps"));
    let shown: Value = serde_json::from_str(&bed.run(&format!("inspect {}", web.id))).unwrap();
    assert_eq!(shown["leases"][0]["state"], "expired", "{shown}");
    let root = bed.path("root").display().to_string();
    let told = bed.outcome(&format!("doctor --format json --root {root}"), "").stdout;
    let all: Vec<Value> = serde_json::from_str(&told).unwrap();
    assert!(all.iter().all(|finding| finding["id"] != "differs"), "{all:?}");
    let lost = format!("container {} has lost {own} of network lan: its DHCP lease ended at 2", web.id);
    assert!(
        doctor(&bed).iter().any(|(id, said)| id == "lease-expired" && said.starts_with(&lost)),
        "{all:?}"
    );
}

/// What the doctor finds of leases: id, and what it says.
fn doctor(bed: &Bed) -> Vec<(String, String)> {
    let told = bed.outcome(&format!("doctor --format json --root {}", bed.path("root").display()), "").stdout;
    let all: Vec<Value> = serde_json::from_str(&told).unwrap();
    let of_leases = all.into_iter().filter(|finding| finding["id"].as_str().unwrap().contains("lease"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let said = |finding: Value| {
        format!("{}; {}; {}", text(&finding["what"]), text(&finding["why"]), text(&finding["advice"]))
    };
    of_leases.map(|finding| (finding["id"].as_str().unwrap().to_owned(), said(finding))).collect()
}

/// Each reason why a container has no address, or will lose it.
fn no_answer() {
    let bed = bed("-o dhcp_optional=true -o dhcp_timeout=1");
    bed.host.ip("link set eth0 down");
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let ear = Ear::on(&bed.lan);
    let ids = |found: &[(String, String)]| found.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    let found = doctor(&bed);
    assert_eq!(ids(&found), ["no-lease", "lease-renewal"], "{found:?}");
    assert!(
        found[0].1.contains("of network lan by DHCP: no DHCP server can answer, for parent eth0"),
        "{found:?}"
    );
    assert!(found[0].1.contains("parent eth0 is not connected, so no server hears"), "{found:?}");
    assert!(found[1].1.contains("no agent runs, and one link has its address by DHCP"), "{found:?}");
    assert!(found[1].1.contains("run `underlay agent`"), "{found:?}");
    web.stop();
    bed.host.ip("link set eth0 up");
    let agent = Agent::start(&bed);
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let found = doctor(&bed);
    assert_eq!(ids(&found), ["no-lease"], "{found:?}");
    assert!(
        found[0].1.contains("no DHCP server answers") && found[0].1.contains("tcpdump -eni eth0"),
        "{found:?}"
    );
    assert!(found[0].1.contains("spanning tree") && found[0].1.contains("range is used up"), "{found:?}");
    drop(agent);
    let asked = ear.all_dhcp().len();
    doctor(&bed);
    assert_eq!(ear.all_dhcp().len(), asked, "the doctor sends nothing");
    let options = Options { lease: 8, t1_t2: Some((1, 2)), ..Options::default() };
    let mut server = Server::start(&bed, Kind::Kea, options);
    let agent = Agent::start(&bed);
    wait(|| doctor(&bed).is_empty());
    let own = address(&web);
    server.stop();
    wait(|| ids(&doctor(&bed)) == ["lease-unanswered"]);
    let found = doctor(&bed);
    let sentence = format!("no DHCP server renews {own} of container {}, not 10.77.0.1 either", web.id);
    assert!(found[0].1.starts_with(&sentence), "{found:?}");
    wait(|| ids(&doctor(&bed)) == ["no-lease"]);
    let found = doctor(&bed);
    assert!(found[0].1.contains("the DHCP lease has expired"), "{found:?}");
    drop(agent);
}

/// Without an agent, and without a service manager that starts one.
fn told_once() {
    let bed = bed("");
    let _server = Server::start(&bed, Kind::Kea, Options::default());
    let failed = || {
        let all: Vec<Value> = serde_json::from_str(&bed.run("events --format json")).unwrap();
        all.into_iter().filter(|event| event["event"] == "failed").collect::<Vec<_>>()
    };
    bed.create("--subnet 10.1.0.0/24 -o parent=eth0 san");
    let _san = bed.container(Bare, "san").networks("san").start().unwrap();
    assert_eq!(failed(), [Value::Null; 0]);
    let first = bed.container(Bare, "a").networks("lan").start().unwrap();
    let _second = bed.container(Bare, "b").networks("lan").start().unwrap();
    let told = failed();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((&told[0]["stage"], &told[0]["container"]), (&"agent".into(), &first.id.clone().into()));
    assert!(told[0]["error"].as_str().unwrap().contains("DHCP leases are not renewed"), "{told:?}");
    assert!(told[0]["hint"].as_str().unwrap().contains("underlay-agent.path"), "{told:?}");
    let agent = Agent::start(&bed);
    let _third = bed.container(Bare, "c").networks("lan").start().unwrap();
    assert_eq!(failed().len(), 1);
    drop(agent);
    let _fourth = bed.container(Bare, "d").networks("lan").start().unwrap();
    assert_eq!(failed().len(), 2, "an agent has run since");
}

/// From cron, on a host without a service manager.
fn once() {
    let bed = bed("");
    let server =
        Server::start(&bed, Kind::Kea, Options { lease: 30, t1_t2: Some((6, 20)), ..Options::default() });
    let web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let own = address(&web);
    let obtained = || lease(&bed, &web)["times"]["obtained"].as_u64().unwrap();
    let first = obtained();
    bed.run("agent --once");
    assert_eq!(obtained(), first, "it is not due");
    wait(|| !differences(&bed, "renewal").is_empty());
    bed.run("agent --once");
    assert!(obtained() > first);
    assert_eq!((address(&web), server.leased()), (own, vec![own]));
    assert_eq!(bed.run("check"), "");
}

/// `plan` says that the address comes by DHCP; it asks no server, and writes nothing.
fn planned() {
    let bed = bed("");
    let server = Server::start(&bed, Kind::Kea, Options::default());
    let ear = Ear::on(&bed.lan);
    let before = bed.host_state();
    let said = bed.run("plan --id web --annotation io.underlay.networks=lan");
    assert!(said.contains("# eth0 in network lan, on eth0: by DHCP "), "{said}");
    assert!(
        said.contains("# eth0 gets an IPv4 address, routes and a default route from a DHCP server"),
        "{said}"
    );
    assert!(!said.contains("ip addr add"), "{said}");
    thread::sleep(Duration::from_millis(300));
    assert!(ear.all_dhcp().is_empty() && server.leases().is_empty());
    assert!(!bed.path("run").exists() || fs::read_dir(bed.path("run/containers")).is_err());
    assert_eq!(bed.host_state(), before);
    assert!(!bed.path("run/dns").exists());
}
