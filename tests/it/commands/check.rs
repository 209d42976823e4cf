//! `underlay check`: it finds what was changed behind the ledger's back, and nothing else.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::harness::bed::{Bed, Outcome};
use crate::harness::container::Container;
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 11] = [
        ("agreement", &[Need::Macvlan], agreement),
        ("links", &[Need::Macvlan], links),
        ("links_set_down", &[Need::Macvlan], links_set_down),
        ("links_that_are_gone", &[Need::Macvlan], links_that_are_gone),
        ("parents", &[Need::Macvlan], parents),
        ("leases", &[Need::Macvlan], leases),
        ("holders", &[Need::Macvlan], holders),
        ("damaged_files", &[Need::Macvlan], damaged_files),
        ("what_is_printed", &[Need::Macvlan], what_is_printed),
        ("ipvlan", &[Need::Ipvlan], ipvlan),
        ("made_parents", &[Need::Vlan, Need::Dummy], made_parents),
    ];
    all.map(|(name, needs, run)| Test::new(format!("check::{name}"), needs, run)).into()
}

/// A bed with a network of all that is compared.
fn bed() -> Bed {
    let bed = Bed::new();
    bed.create(
        "--subnet=172.16.86.0/24 --gateway=172.16.86.1 --subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10 \
         --route 10.2.0.0/16,172.16.86.7,5 -o parent=eth0 -o mtu=1400 pub_net",
    );
    bed
}

const V4: &str = "172.16.86.10/24";
const V6: &str = "2001:db8:abc8::77/64";
const MAC: &str = "02:00:00:00:00:09";

/// A container in it.
fn web(bed: &Bed) -> Container<'_> {
    let web = bed.container(Bare, "web");
    web.networks(&format!("pub_net:ip=172.16.86.10,ip=2001:db8:abc8::77,mac={MAC}")).start().unwrap()
}

/// Runs `check`, whose exit code must tell whether it finds differences, and returns them as
/// `WHAT: EXPECTED / FOUND`.
#[track_caller]
fn check(bed: &Bed, container: &str) -> Vec<String> {
    told(&values(bed, container))
}

fn told(differences: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let line = |d: &Value| format!("{}: {} / {}", text(&d["what"]), text(&d["expected"]), text(&d["found"]));
    differences.iter().map(line).collect()
}

#[track_caller]
fn values(bed: &Bed, container: &str) -> Vec<Value> {
    let Outcome { code, stdout, stderr } = bed.outcome(&format!("check --format json {container}"), "");
    let all: Vec<Value> = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
    assert_eq!(code, i32::from(!all.is_empty()), "{stdout}{stderr}");
    assert!(all.is_empty() || stderr.contains("between ledger and kernel"), "{stderr}");
    all
}

const NOTHING: [&str; 0] = [];

fn agreement() {
    let bed = bed();
    assert_eq!(bed.run("check"), "");
    let web = web(&bed);
    bed.host.ip("link add link eth0 name mv0 type macvlan mode bridge");
    bed.host.ip("link set mv0 up");
    bed.create("--subnet=10.0.0.0/24 -o parent=mv0 -o macvlan_mode=private nested");
    let _two = bed.container(Bare, "two").networks("pub_net;nested").start().unwrap();
    assert_eq!(bed.run("check"), "");
    assert_eq!(bed.run("check --format json"), "[]\n");
    assert_eq!(bed.run(&format!("check {}", web.id)), "");
    // What is beside the ledger is nobody's business.
    for change in ["addr add 192.0.2.1/32 dev eth0", "route add 10.3.0.0/16 dev eth0", "link set lo up"] {
        web.run("ip", change);
    }
    // So is what a router gives for a time.
    web.run("ip", "addr add 2001:db8:abc8::99/64 valid_lft 600 preferred_lft 600 dev eth0 nodad");
    // An address of the ledger may have a lifetime.
    web.run("ip", &format!("addr change {V4} valid_lft 600 preferred_lft 600 dev eth0"));
    assert_eq!(bed.run("check"), "");
}

fn links() {
    let bed = bed();
    let web = web(&bed);
    let mark = web.link("eth0")["ifalias"].as_str().unwrap().to_owned();
    let (no_mark, mark_back) = (format!("mark: {mark} / x"), format!("link set eth0 alias {mark}"));
    let no_mac = format!("mac: {MAC} / 02:00:00:00:00:0a");
    let mac_back = format!("link set eth0 address {MAC}");
    let via = "default via 172.16.86.1";
    for (change, found, back) in [
        ("link set eth0 mtu 1300", &["mtu: 1400 / 1300"][..], "link set eth0 mtu 1400"),
        ("link set eth0 alias x", &[&no_mark], &mark_back),
        ("link set eth0 address 02:00:00:00:00:0a", &[&no_mac], &mac_back),
        (
            "link set eth0 type macvlan mode private",
            &["driver: macvlan mode bridge / macvlan mode private"],
            "link set eth0 type macvlan mode bridge",
        ),
        (
            "addr add 172.16.86.78/24 dev eth0",
            &["address: - / 172.16.86.78/24"],
            "addr del 172.16.86.78/24 dev eth0",
        ),
        // Of a DHCP client.
        (
            "addr add 172.16.86.78/24 valid_lft 600 preferred_lft 600 dev eth0",
            &["address: - / 172.16.86.78/24"],
            "addr del 172.16.86.78/24 dev eth0",
        ),
        (
            "addr add 2001:db8:abc8::78/64 dev eth0 nodad",
            &["address: - / 2001:db8:abc8::78/64"],
            "addr del 2001:db8:abc8::78/64 dev eth0",
        ),
        (
            &format!("addr del {V6} dev eth0"),
            &[&format!("address: {V6} / -")],
            &format!("addr add {V6} dev eth0 nodad"),
        ),
        ("route del default", &[&format!("route: {via} / -")], &format!("route add {via}")),
        (
            &format!("route append {via} metric 9\nroute del {via} metric 0"),
            &[&format!("route: {via} / {via} metric 9")],
            &format!("route add {via}\nroute del {via} metric 9"),
        ),
        (
            "-6 route del default",
            &["route: default via 2001:db8:abc8::10 / -"],
            "-6 route add default via 2001:db8:abc8::10",
        ),
        (
            "route del 10.2.0.0/16",
            &["route: 10.2.0.0/16 via 172.16.86.7 metric 5 / -"],
            "route add 10.2.0.0/16 via 172.16.86.7 metric 5",
        ),
        // With its last address of a family a link loses the routes.
        (
            &format!("addr del {V4} dev eth0"),
            &[
                &format!("address: {V4} / -"),
                &format!("route: {via} / -"),
                "route: 10.2.0.0/16 via 172.16.86.7 metric 5 / -",
            ],
            &format!(
                "addr add {V4} dev eth0\nroute add {via}\nroute add 10.2.0.0/16 via 172.16.86.7 metric 5"
            ),
        ),
    ] {
        change.lines().for_each(|change| drop(web.run("ip", change)));
        let values = values(&bed, "");
        assert_eq!(told(&values), found, "{change}");
        for value in values {
            assert_eq!(
                (&value["container"], &value["network"], &value["interface"]),
                (&web.id.clone().into(), &"pub_net".into(), &"eth0".into())
            );
        }
        back.lines().for_each(|back| drop(web.run("ip", back)));
        assert_eq!(check(&bed, ""), NOTHING, "{back}");
    }
}

/// A link that is set down loses routes and IPv6 addresses; older kernels rename it only then.
fn links_set_down() {
    let bed = bed();
    let web = web(&bed);
    web.run("ip", "link set eth0 down");
    let found = check(&bed, "");
    assert!(found.contains(&"state: up / down".to_owned()), "{found:?}");
    web.run("ip", "link set eth0 name lan9");
    web.run("ip", "link set lan9 up");
    let found = check(&bed, "");
    assert_eq!(found[0], "name: eth0 / lan9");
    assert!(found.contains(&format!("address: {V6} / -")), "{found:?}");
    assert!(!found.iter().any(|found| found.starts_with("state")), "{found:?}");
}

fn links_that_are_gone() {
    let bed = bed();
    let web = web(&bed);
    web.run("ip", "link del eth0");
    assert_eq!(check(&bed, ""), ["link: eth0 / -"]);
    // Another of its name is not ours, whatever it has.
    web.run("ip", "link add eth0 type veth peer name far");
    assert_eq!(check(&bed, ""), ["link: eth0 / -"]);
}

fn parents() {
    let bed = bed();
    let _web = web(&bed);
    let eth0 = |bed: &Bed, name: &str| bed.host.link(name).unwrap()["ifindex"].as_u64().unwrap();
    let number = eth0(&bed, "eth0");
    let differs = |found: &str| format!("parent: eth0 (ifindex {number}, up) / {found}");
    bed.host.ip("link set eth0 down");
    assert_eq!(check(&bed, ""), [differs(&format!("eth0 (ifindex {number}, down)"))]);
    bed.host.ip("link set eth0 name lan9");
    bed.host.ip("link set lan9 up");
    assert_eq!(check(&bed, ""), [differs(&format!("lan9 (ifindex {number}, up)"))]);
    bed.host.ip("link add eth0 type veth peer name far");
    assert_eq!(check(&bed, ""), [differs(&format!("lan9 (ifindex {number}, up)"))], "it hangs there");
    // In another namespace it may have another number.
    bed.host.ip(&format!("link set lan9 netns {}", bed.lan.name));
    let there = eth0(&bed, "eth0");
    let moved = bed.lan.link("lan9").unwrap()["ifindex"].as_u64().unwrap();
    assert_ne!(there, number);
    assert_eq!(check(&bed, ""), [differs(&format!("ifindex {moved} of another network namespace"))]);
    bed.lan.ip("link del lan9");
    bed.host.ip("link set eth0 up");
    assert_eq!(
        check(&bed, ""),
        [differs(&format!("eth0 (ifindex {there}, up)")), "link: eth0 / -".to_owned()]
    );
    bed.host.ip("link del eth0");
    assert_eq!(check(&bed, ""), [differs("-"), "link: eth0 / -".to_owned()]);
}

fn leases() {
    let bed = bed();
    let web = web(&bed);
    let segment = bed.path("run/segments").join(bed.leases()[0].split('/').next().unwrap());
    let lease = segment.join("172.16.86.10");
    symlink("../../containers/nobody.json", segment.join("172.16.86.99")).unwrap();
    let orphan = format!("lease: - / {}", segment.join("172.16.86.99").display());
    assert_eq!(check(&bed, ""), [orphan.as_str()]);
    assert_eq!(check(&bed, &web.id), NOTHING, "it is not this container's");
    fs::remove_file(segment.join("172.16.86.99")).unwrap();

    fs::remove_file(&lease).unwrap();
    assert_eq!(check(&bed, ""), ["lease: 172.16.86.10 / -"]);
    symlink("../../containers/nobody.json", &lease).unwrap();
    assert_eq!(check(&bed, &web.id), ["lease: 172.16.86.10 / -"]);

    // A second record that claims the same.
    let containers = bed.path("run/containers");
    let record = fs::read_to_string(containers.join(format!("{}.json", web.id))).unwrap();
    fs::write(containers.join("thief.json"), record.replace(&web.id, "thief")).unwrap();
    fs::remove_file(&lease).unwrap();
    symlink("../../containers/thief.json", &lease).unwrap();
    assert_eq!(check(&bed, &web.id), ["lease: 172.16.86.10 / 172.16.86.10 of container thief"]);
    let of_thief = check(&bed, "thief");
    assert!(of_thief[0].starts_with("mark: "), "{of_thief:?}");
    assert_eq!(
        of_thief[1..],
        ["2001:db8:abc8::77", "02:00:00:00:00:09"]
            .map(|claim| format!("lease: {claim} / {claim} of container {}", web.id))
    );
    assert_eq!(check(&bed, "").len(), 4);
}

fn holders() {
    let bed = bed();
    let mut web = web(&bed);
    let path = bed.path("run/containers").join(format!("{}.json", web.id));
    let record = fs::read_to_string(&path).unwrap();
    fs::write(&path, record.replace("\"attached\"", "\"pending\"")).unwrap();
    assert_eq!(check(&bed, ""), ["attach: attached / pending"]);
    fs::write(&path, &record).unwrap();
    assert_eq!(check(&bed, ""), NOTHING);
    // A lost record: the mark of the link tells whose it is.
    fs::remove_file(&path).unwrap();
    let lost = values(&bed, "");
    let told = told(&lost);
    assert!(told[0].starts_with("link: - / eth0 in net:["), "{told:?}");
    assert_eq!((&lost[0]["container"], &lost[0]["network"]), (&web.id.clone().into(), &"pub_net".into()));
    assert!(told.len() == 4 && told[1..].iter().all(|told| told.starts_with("lease: - / ")), "{told:?}");
    bed.gc();
    assert_eq!(check(&bed, ""), NOTHING);
    let pid = web.pid;
    web.kill();
    assert_eq!(check(&bed, ""), [format!("process: {pid} / -")]);
    assert_eq!(check(&bed, &web.id), [format!("process: {pid} / -")]);
    bed.gc();
    assert_eq!(check(&bed, ""), NOTHING);
}

fn damaged_files() {
    let bed = bed();
    let _web = web(&bed);
    let segment = bed.leases()[0].split('/').next().unwrap().to_owned();
    fs::create_dir_all(bed.path("run/parents")).unwrap();
    let files = ["containers/x.json", "parents/eth0.7.json", &format!("segments/{segment}/segment.json")]
        .map(|file| bed.path("run").join(file));
    for file in &files {
        fs::write(file, "{").unwrap();
    }
    let found = check(&bed, "");
    assert_eq!(found.len(), 3, "{found:?}");
    for (found, file) in found.iter().zip(&files) {
        assert!(found.starts_with(&format!("file: - / {}", file.display())), "{found}");
    }
    let half = bed.path("run/containers/#y.json~18ec0e97-0");
    fs::write(&half, "{").unwrap();
    assert!(check(&bed, "").contains(&format!("file: - / {}", half.display())));
    let of_one = bed.outcome("check x", "");
    assert_eq!((of_one.code, of_one.stdout.as_str()), (1, ""));
    assert!(of_one.stderr.starts_with(&format!("underlay: {}: ", files[0].display())), "{of_one:?}");
}

fn what_is_printed() {
    let bed = bed();
    let web = web(&bed);
    web.run("ip", "link set eth0 mtu 1300");
    web.run("ip", "link set eth0 alias \u{1b}[31m");
    let outcome = bed.outcome("check web", "");
    assert_eq!(outcome.code, 1);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    let cells = |line: &str| {
        line.split("  ").filter(|c| !c.is_empty()).map(|c| c.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(cells(lines[0]), ["CONTAINER", "NETWORK", "INTERFACE", "WHAT", "EXPECTED", "FOUND"]);
    assert_eq!((cells(lines[1])[3].as_str(), cells(lines[1])[5].as_str()), ("mark", "\\u{1b}[31m"));
    assert_eq!(cells(lines[2]), [&web.id, "pub_net", "eth0", "mtu", "1400", "1300"]);
    assert_eq!(lines.len(), 3);
    assert!(!outcome.stdout.contains('\u{1b}'), "no control characters go to a terminal");
    assert_eq!(
        outcome.stderr,
        "underlay: 2 differences between ledger and kernel\nhint: a restarted container is attached anew\n"
    );
    let outcome = bed.outcome("check nobody", "");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""));
    assert!(outcome.stderr.starts_with("underlay: container \"nobody\" holds nothing here\n"), "{outcome:?}");
}

fn ipvlan() {
    let bed = Bed::with_pub_net("ipvlan", "--subnet=2001:db8:abc8::/64");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(check(&bed, ""), NOTHING);
    web.run("ip", "link set eth0 type ipvlan mode l3 private");
    assert_eq!(check(&bed, ""), ["driver: ipvlan mode l2 bridge / ipvlan mode l3 private"]);
    web.run("ip", "link set eth0 type ipvlan mode l2 bridge");
    assert_eq!(check(&bed, ""), NOTHING);
    let mac = web.link("eth0")["address"].as_str().unwrap().to_owned();
    bed.host.ip("link set eth0 address 02:00:00:00:00:0a");
    assert_eq!(check(&bed, ""), [format!("mac: {mac} / 02:00:00:00:00:0a")]);
}

fn made_parents() {
    let bed = Bed::new();
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0.50 tagged");
    bed.create("--subnet=10.1.0.0/24 local");
    let _web = bed.container(Bare, "web").networks("tagged;local").start().unwrap();
    assert_eq!(check(&bed, ""), NOTHING);
    for name in ["eth0.50", "ul-local"] {
        bed.host.command("ip").args(["link", "set", name, "alias", ""]).status().unwrap();
        assert_eq!(check(&bed, ""), ["mark: underlay:parent / -"]);
        assert_eq!(values(&bed, "")[0]["interface"], name);
        bed.host.ip(&format!("link set {name} alias underlay:parent"));
        assert_eq!(check(&bed, ""), NOTHING);
    }
    let base = bed.host.link("eth0").unwrap()["ifindex"].to_string();
    fs::remove_file(bed.path("run/parents/eth0.50.json")).unwrap();
    assert_eq!(check(&bed, ""), [format!("parent: - / VLAN 50 of link number {base}")]);
    bed.gc();
    assert_eq!(check(&bed, ""), NOTHING);
    let number = bed.host.link("eth0.50").unwrap()["ifindex"].to_string();
    bed.host.ip("link del eth0.50");
    let gone = format!("parent: eth0.50 (ifindex {number}, up) / -");
    assert_eq!(check(&bed, ""), [&gone, "link: eth0 / -", "parent: VLAN 50 of eth0 / -"]);
    bed.host.ip("link add link eth0 name eth0.50 type vlan id 51");
    bed.host.ip("link set eth0.50 alias underlay:parent");
    let found = check(&bed, "");
    assert_eq!(found[2], format!("parent: VLAN 50 of eth0 / VLAN 51 of link number {base}"));
    bed.host.ip("link del eth0.50");
    bed.host.ip("link add link eth0 name eth0.50 type vlan id 50");
    bed.host.ip("link set eth0.50 alias underlay:parent");
    assert!(check(&bed, "")[2].starts_with(&format!("ifindex: {number} / ")));

    // A parent that no network and no container needs.
    let bed = Bed::new();
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0.50 tagged");
    fs::remove_file(bed.path("etc/networks/tagged.json")).unwrap();
    assert_eq!(check(&bed, ""), ["parent: - / VLAN 50 of eth0"]);
    bed.gc();
    assert_eq!(check(&bed, ""), NOTHING);
}
