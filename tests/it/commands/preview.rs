//! `underlay plan`: what it prints is what the hook does, and it does nothing.

use std::fs;

use crate::harness::bed::{Bed, outcome};
use crate::harness::container::{
    Container,
    Engine::{self, Bare},
};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 6] = [
        ("nothing_is_written", &[Need::Macvlan], nothing_is_written),
        ("a_parent_that_is_missing", &[Need::Macvlan], missing_parent),
        ("the_dead_give_way", &[Need::Macvlan], the_dead),
        ("mistakes", &[Need::Macvlan], mistakes),
        ("a_namespace_that_is_there", &[Need::Macvlan], namespace),
        ("refusals_name_the_command", &[Need::Macvlan], refusals),
    ];
    let mut tests: Vec<Test> =
        all.map(|(name, needs, run)| Test::new(format!("preview::{name}"), needs, run)).into();
    for (driver, need) in [("macvlan", Need::Macvlan), ("ipvlan", Need::Ipvlan)] {
        let name = format!("preview::what_is_said_is_done::{driver}");
        tests.push(Test::new(name, &[need], move || said_and_done(driver)));
    }
    let engine = [Need::Macvlan, Need::Engine(Engine::Crun)];
    tests.push(Test::new("preview::what_comes", &engine, || what_comes(Engine::Crun)));
    tests
}

/// What is planned for a container of this id that asks for `networks`.
fn plan(bed: &Bed, id: &str, networks: &str) -> String {
    let mut command = bed.underlay("plan --id");
    command.arg(id).arg(format!("--annotation=io.underlay.networks={networks}"));
    let outcome = outcome(&mut command, b"");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    outcome.stdout
}

/// The commands of a plan; comments apart.
fn commands(plan: &str) -> Vec<&str> {
    plan.lines().filter(|line| !line.starts_with('#')).collect()
}

/// Every command that is printed is in the hook's debug log, and the other way round.
fn said_and_done(driver: &str) {
    let bed = Bed::new();
    bed.create(&format!(
        "-d {driver} --subnet 172.16.86.0/24 --gateway 172.16.86.1 -o parent=eth0 --host-access lan"
    ));
    bed.create(&format!(
        "-d {driver} --subnet 10.1.0.0/24 --subnet 2001:db8:1::/64 -o parent=eth0 -o conflict_detection=off -o table=101 \
         --sysctl ipv4.rp_filter=2 --route 10.9.0.0/16,blackhole --ipv6=slaac-stable san"
    ));
    let web = bed.container(Bare, "web").networks("lan;san:ip=10.1.0.77").without_hooks().start().unwrap();
    let mut command = bed.underlay("plan --id");
    let said = outcome(command.arg(&web.id).arg("--bundle").arg(&web.bundle), b"");
    assert_eq!(said.code, 0, "{said:?}");
    let mut hook = bed.underlay("hook createRuntime");
    let done = outcome(hook.env("RUST_LOG", "debug"), web.state_at("createRuntime").as_bytes());
    assert_eq!(done.code, 0, "{done:?}");
    let is_command = |line: &&str| ["ip ", "sysctl "].iter().any(|program| line.starts_with(program));
    let done: Vec<_> = done.stderr.lines().filter_map(|line| Some(line.split_once("] ")?.1)).collect();
    let done: Vec<_> = done.into_iter().filter(is_command).map(without_process).collect();
    assert!(done.len() > 15, "{done:?}");
    let said: Vec<_> = commands(&said.stdout).into_iter().map(without_process).collect();
    assert_eq!(said, done);
    assert_eq!(bed.run("check"), "");
}

/// Without pid and start time in the mark, and the MAC address that the kernel gives the host's link.
fn without_process(line: &str) -> String {
    let mut words: Vec<_> = line.split(' ').map(str::to_owned).collect();
    for word in words.iter_mut().filter(|word| word.starts_with("underlay:")) {
        let parts: Vec<_> = word.split(':').collect();
        if let [underlay, container, index, _, _, network] = parts.as_slice() {
            *word = format!("{underlay}:{container}:{index}:{network}");
        }
    }
    words.join(" ")
}

/// Addresses and MAC address that are told are those that come.
fn what_comes(engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", "--subnet=2001:db8:abc8::/64");
    let first = bed.container(engine, "first").networks("pub_net").annotation("io.underlay.identity", "one");
    let first = first.start().unwrap();
    let mut command = bed.underlay("plan --annotation io.underlay.networks=pub_net");
    let told = outcome(command.args(["--annotation", "io.underlay.identity=two"]), b"").stdout;
    let second =
        bed.container(engine, "second").networks("pub_net").annotation("io.underlay.identity", "two");
    let second = second.start().unwrap();
    let mac = second.link("eth0")["address"].as_str().unwrap().to_owned();
    let addresses = second.addresses("eth0").join(" ");
    let line = format!("# eth0 in network pub_net, on eth0: {addresses} {mac}\n");
    assert!(told.starts_with(&line), "{line}{told}");
    drop(first);
}

fn state(bed: &Bed) -> (Vec<String>, Vec<String>, Vec<String>) {
    let files = ["etc", "run", "data"].iter().flat_map(|folder| files(&bed.path(folder))).collect();
    (bed.leases(), files, bed.host_state())
}

/// All files below `folder`, with their texts.
fn files(folder: &std::path::Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match fs::symlink_metadata(&path).unwrap().is_dir() {
            true => all.extend(files(&path)),
            false => all.push(format!("{}: {:?}", path.display(), fs::read_to_string(&path).ok())),
        }
    }
    all.sort();
    all
}

fn nothing_is_written() {
    let bed = Bed::new();
    bed.configure(
        "networks/lan.json",
        r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "host_access": true,
            "subnets": [{"subnet": "172.16.86.0/24", "gateway": "172.16.86.1"}]}"#,
    );
    let before = state(&bed);
    let told = plan(&bed, "web", "lan");
    assert_eq!(state(&bed), before);
    assert!(!bed.path("run").exists() && !bed.path("data").exists());
    for line in [
        "# eth0 in network lan, on eth0: 172.16.86.2/24 ",
        "ip link add link eth0 name eth0 address ",
        "# if another host answers for 172.16.86.2 within 100 ms, another address is taken",
        "ip route add default via 172.16.86.1 dev eth0",
        "ip link add link eth0 name ulh-lan type macvlan mode bridge",
        "ip route add 172.16.86.2 dev ulh-lan src 172.16.86.3",
    ] {
        assert!(told.lines().any(|found| found.starts_with(line)), "{line}: {told}");
    }
    let _web = bed.container(Bare, "web").networks("lan").start().unwrap();
    let before = state(&bed);
    assert!(plan(&bed, "other", "lan").contains("172.16.86.4/24"));
    assert_eq!(state(&bed), before);
    // Nothing is asked for.
    let nothing = outcome(&mut bed.underlay("plan --annotation a=b"), b"");
    assert_eq!(nothing.stdout, "# it asks for no network: the hook does nothing\n");
}

/// What would be made for it is told, and not made.
fn missing_parent() {
    let bed = Bed::new();
    bed.configure(
        "networks/lan.json",
        r#"{"version": 1, "driver": "macvlan", "parent": "eth0.10.20", "subnets": [{"subnet": "10.20.0.0/24"}]}"#,
    );
    let told = plan(&bed, "web", "lan");
    let parents: Vec<_> = commands(&told).into_iter().take(2).collect();
    assert_eq!(
        parents,
        [
            "ip link add link eth0 name eth0.10 type vlan protocol 802.1Q id 10 && ip link set eth0.10 alias underlay:parent up",
            "ip link add link eth0.10 name eth0.10.20 type vlan protocol 802.1Q id 20 && ip link set eth0.10.20 alias underlay:parent up",
        ]
    );
    assert!(told.contains("ip addr add 10.20.0.1/24 brd 10.20.0.255 dev eth0\n"), "{told}");
    assert_eq!(bed.host.link("eth0.10"), None);
}

/// As at an attach: what the dead hold is free where there is no room.
fn the_dead() {
    let bed = Bed::new();
    bed.create("--subnet 172.16.86.0/24 --ip-range 172.16.86.8-172.16.86.9 -o parent=eth0 lan");
    let start = |id: &str| bed.container(Bare, id).networks("lan").start().unwrap();
    let (mut dead, _alive) = (start("dead"), start("alive"));
    let id = dead.id.clone();
    let attached = outcome(bed.underlay("plan --annotation io.underlay.networks=lan --id").arg(&id), b"");
    assert!(
        attached.code == 1 && attached.stderr.contains(" is attached already, with pid "),
        "{attached:?}"
    );
    dead.kill();
    dead.forget();
    let leases = bed.leases();
    assert!(plan(&bed, "next", "lan").contains("172.16.86.8/24"));
    assert!(plan(&bed, &id, "lan").contains("172.16.86.8/24"));
    assert_eq!(bed.leases(), leases);
}

fn mistakes() {
    let bed = Bed::with_pub_net("macvlan", "");
    let _web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.9").start().unwrap();
    for (arguments, code, said) in [
        ("plan", 2, "required arguments were not provided"),
        ("plan --annotation io.underlay.networks", 2, "has no value"),
        ("plan --annotation io.underlay.networks=nosuch", 1, "network nosuch does not exist"),
        ("plan --annotation io.underlay.networks=pub_net:ip=172.16.86.9", 1, "is held by container web"),
        (
            "plan --annotation io.underlay.networks=pub_net:ip=10.0.0.1",
            1,
            "is in no subnet of network pub_net",
        ),
        ("plan --bundle /nosuch", 1, "/nosuch/config.json does not exist"),
    ] {
        let outcome = bed.outcome(arguments, "");
        assert!(outcome.code == code && outcome.stderr.contains(said), "{arguments}: {outcome:?}");
    }
}

/// In a namespace that has links, others are taken.
fn namespace() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = crate::harness::bed::Netns::new("there");
    netns.ip("link add eth0 type veth peer name other");
    netns.ip("link set eth0 up");
    netns.ip("addr add 10.9.0.2/24 dev eth0");
    netns.ip("route add default via 10.9.0.1");
    let builder = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).without_hooks();
    let web: Container<'_> = builder.start().unwrap();
    let told = outcome(bed.underlay("plan --bundle").arg(&web.bundle), b"").stdout;
    assert!(told.starts_with("# eth1 in network pub_net, on eth0: 172.16.86.2/24"), "{told}");
    assert!(!told.contains("default"), "{told}");
}

/// The command that failed stands in the error, as in the plan.
fn refusals() {
    let bed = Bed::with_pub_net("macvlan", "--sysctl ipv6.addr_gen_mode=77");
    let web = bed.container(Bare, "web").networks("pub_net:ip=172.16.86.9").without_hooks().start().unwrap();
    let error = web.hook("createRuntime").stderr;
    assert!(error.contains("/proc/sys/net/ipv6/conf/eth0/addr_gen_mode"), "{error}");
    bed.run("network rm pub_net");
    bed.create("--subnet 172.16.86.0/24 -o parent=eth0 -o macvlan_mode=passthru alone");
    bed.host.ip("link add link eth0 name other type macvlan mode bridge");
    let web = bed.container(Bare, "next").networks("alone").without_hooks().start().unwrap();
    let error = web.hook("createRuntime").stderr;
    assert!(error.contains("(ip link add link eth0 name eth0 type macvlan mode passthru: "), "{error}");
}
