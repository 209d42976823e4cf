//! The host's own link when others have changed something: by hand, by a crash, by another definition.

use std::fs;

use serde_json::Value;

use crate::harness::bed::{Netns, Watched};
use crate::harness::container::Engine::Bare;
use crate::harness::container::wait;
use crate::host_access::host_access::{SUBNETS, create, expected, link_of, reaches, routes, start};

/// Containers that the host's link does not concern are not mentioned when it is made.
pub fn others() {
    let bed = Watched::new();
    create(&bed, "");
    bed.create("--subnet=10.9.0.0/24 -o parent=eth0 plain");
    let _other = bed.container(Bare, "other").networks("plain").start().unwrap();
    let web = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    let made = web.hook("createRuntime");
    assert_eq!((made.code, &*made.stderr), (0, ""));
}

pub fn deleted_by_hand() {
    let bed = Watched::new();
    create(&bed, "");
    let first = start(&bed, "first");
    bed.host.ip("link del ulh-pub_net");
    let told = bed.outcome("check --format json", "");
    assert!(told.code == 1 && told.stdout.contains("\"expected\": \"ulh-pub_net\""), "{told:?}");
    // The next attach makes it again, with the routes to all.
    let second = start(&bed, "second");
    assert_eq!(routes(&bed), expected(&[(2, 1), (4, 3)]));
    assert!(reaches(&bed, "172.16.86.2") && first.reaches("172.16.86.3"));
    // So does gc.
    bed.host.ip("link del ulh-pub_net");
    let plan = bed.run("gc --dry-run");
    assert!(plan.starts_with("ip link add link eth0 name ulh-pub_net address "), "{plan}");
    assert_eq!(plan.lines().count(), 5, "{plan}");
    assert!(link_of(&bed).is_none(), "a dry run does nothing");
    assert_eq!(bed.gc(), plan);
    assert_eq!(routes(&bed), expected(&[(2, 1), (4, 3)]));
    assert_eq!((bed.gc(), bed.run("check")), (String::new(), String::new()));
    assert!(reaches(&bed, "172.16.86.4") && second.reaches("2001:db8:abc8::2"));
}

pub fn changed_by_hand() {
    let bed = Watched::new();
    create(&bed, "");
    let _first = start(&bed, "first");
    for (change, told) in [
        ("link set ulh-pub_net down", "link: macvlan mode bridge on ifindex"),
        ("addr del 172.16.86.3/32 dev ulh-pub_net", "address: 172.16.86.3 / -"),
        ("addr add 172.16.86.99/32 dev ulh-pub_net", "address: - / 172.16.86.99"),
        ("route del 172.16.86.2 dev ulh-pub_net", "route: 172.16.86.2 by ulh-pub_net of the host / -"),
        (
            "-6 route del 2001:db8:abc8::1 dev ulh-pub_net",
            "route: 2001:db8:abc8::1 by ulh-pub_net of the host / -",
        ),
        ("route add 172.16.86.77 dev ulh-pub_net", "route: - / 172.16.86.77/32"),
    ] {
        bed.host.ip(change);
        let outcome = bed.outcome("check --format json", "");
        let differences: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let lines: Vec<_> = differences
            .iter()
            .map(|d| format!("{}: {} / {}", text(&d["what"]), text(&d["expected"]), text(&d["found"])))
            .collect();
        assert!(lines.iter().any(|line| line.starts_with(told)), "{change}: {lines:?}");
        assert!(outcome.code == 1 && differences.iter().all(|d| d["hint"].is_string()), "{outcome:?}");
        assert_ne!(bed.gc(), "", "{change}");
        assert_eq!(routes(&bed), expected(&[(2, 1)]), "{change}");
        assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()), "{change}");
    }
}

pub fn foreign_link() {
    let bed = Watched::new();
    bed.host.ip("link add ulh-pub_net type veth peer name far");
    let expected = "link ulh-pub_net is a veth link, not underlay's, for host_access of network pub_net";
    // Whatever its alias says, even if that is our mark.
    for alias in ["", "mine", "underlay:host:other", "underlay:host:pub_net"] {
        if !alias.is_empty() {
            bed.host.ip(&format!("link set ulh-pub_net alias {alias}"));
        }
        let refused = bed.outcome(&format!("network create {SUBNETS} --host-access pub_net"), "");
        assert!(refused.code == 1 && refused.stderr.contains(expected), "{alias}: {refused:?}");
        let hint = "hint: rename it, or remove host_access from the network";
        assert!(refused.stderr.contains(hint), "{alias}: {refused:?}");
    }
    bed.host.ip("link del ulh-pub_net");
    create(&bed, "");
    bed.host.ip("link add ulh-pub_net type veth peer name far");
    let before = bed.host.ip("link show ulh-pub_net");
    let refused = bed.container(Bare, "web").networks("pub_net").start().err().unwrap();
    assert!(refused.contains(expected), "{refused}");
    assert_eq!(bed.gc(), "");
    assert_eq!((bed.host.ip("link show ulh-pub_net"), bed.records()), (before.clone(), vec![]));
    bed.run("network rm pub_net");
    assert_eq!(bed.host.ip("link show ulh-pub_net"), before);
    bed.host.ip("link del ulh-pub_net");
    bed.assert_nothing_held();
}

/// A route that somebody has made by hand to the very address is not replaced.
pub fn foreign_route() {
    let bed = Watched::new();
    create(&bed, "");
    for (family, address, route) in [
        ("-4", "172.16.86.9", "172.16.86.9 dev eth0 scope link"),
        ("-6", "2001:db8:abc8::9", "2001:db8:abc8::9 dev eth0 metric 1024 pref medium"),
    ] {
        bed.host.ip(&format!("{family} route add {address} dev eth0"));
        let refused =
            bed.container(Bare, "web").networks(&format!("pub_net:ip={address}")).start().err().unwrap();
        let expected = format!("the host has a route to {address} already, and not by ulh-pub_net");
        assert!(refused.contains(&expected), "{refused}");
        assert!(bed.host.ip(&format!("{family} route")).contains(route));
        assert!(link_of(&bed).is_none() && bed.records().is_empty());
        bed.host.ip(&format!("{family} route del {address} dev eth0"));
    }
}

pub fn the_dead() {
    let bed = Watched::new();
    create(&bed, "");
    let lives = start(&bed, "lives");
    let mut dies = start(&bed, "dies");
    dies.kill();
    let plan = bed.run("gc --dry-run");
    assert!(
        plan.contains("ip route del 172.16.86.4 dev ulh-pub_net\nip -6 route del 2001:db8:abc8::3"),
        "{plan}"
    );
    assert_eq!(routes(&bed), expected(&[(2, 1), (4, 3)]), "a dry run does nothing");
    assert_eq!(bed.gc(), plan);
    assert_eq!(routes(&bed), expected(&[(2, 1)]));
    let mut lives = lives;
    lives.kill();
    let plan = bed.run("gc --dry-run");
    assert!(plan.contains("ip link del ulh-pub_net\n"), "{plan}");
    assert_eq!(bed.gc(), plan);
    assert!(link_of(&bed).is_none());
    assert_eq!(bed.gc(), "");
    // What the dead hold is taken back when their network is removed, too.
    let mut dies = start(&bed, "again");
    dies.kill();
    bed.run("network rm pub_net");
    assert!(link_of(&bed).is_none());
    bed.assert_nothing_held();
}

pub fn lost_ledger() {
    let bed = Watched::new();
    create(&bed, "");
    let web = start(&bed, "web");
    let leases = bed.leases();
    let path = bed.path("run/host_links/pub_net.json");
    let losses: [(&str, &dyn Fn()); 4] = [
        ("record", &|| fs::remove_file(&path).unwrap()),
        ("damaged", &|| fs::write(&path, "{").unwrap()),
        ("leases", &|| fs::remove_dir_all(bed.path("run/segments")).unwrap()),
        ("all", &|| fs::remove_dir_all(bed.path("run")).unwrap()),
    ];
    for (what, lose) in losses {
        lose();
        assert_eq!(bed.outcome("check", "").code, 1, "{what}");
        bed.gc();
        assert_eq!(bed.leases(), leases, "{what}");
        assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()), "{what}");
        assert_eq!(routes(&bed), expected(&[(2, 1)]), "{what}");
        assert!(reaches(&bed, "172.16.86.2"), "{what}");
    }
    // The next attach finds it all out by itself.
    fs::remove_dir_all(bed.path("run")).unwrap();
    let next = start(&bed, "next");
    assert_eq!(bed.run("check"), "");
    assert!(reaches(&bed, "172.16.86.2") && next.reaches("172.16.86.3"));
    assert_eq!(routes(&bed).len(), 4);
    web.stop();
    next.stop();
    assert!(link_of(&bed).is_none());
}

/// Another address is had from the next attach on, by the containers that run too.
pub fn changed_definition() {
    let bed = Watched::new();
    create(&bed, "");
    let first = start(&bed, "first");
    let path = bed.path("etc/networks/pub_net.json");
    let mut file: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    file["host_access"] = "172.16.86.222".into();
    fs::write(&path, file.to_string()).unwrap();
    assert!(first.reaches("172.16.86.3"));
    let second = start(&bed, "second");
    assert!(
        first.reaches("172.16.86.222") && second.reaches("172.16.86.222") && reaches(&bed, "172.16.86.2")
    );
    assert!(!bed.leases().iter().any(|lease| lease.ends_with("/172.16.86.3")), "{:?}", bed.leases());
    assert!(routes(&bed)[0].ends_with("src 172.16.86.222"), "{:?}", routes(&bed));
    assert_eq!(bed.run("check"), "");
    // Whoever needs it has it until he goes.
    file.as_object_mut().unwrap().remove("host_access");
    fs::write(&path, file.to_string()).unwrap();
    let third = start(&bed, "third");
    assert!(reaches(&bed, "172.16.86.2") && !third.reaches("172.16.86.222"));
    first.stop();
    second.stop();
    assert!(link_of(&bed).is_none());
}

/// The host has one link in a network: it does not leave the parent where containers need it.
pub fn another_parent() {
    let bed = Watched::new();
    bed.host.ip("link add eth1 type veth peer name far1");
    bed.host.ip_batch(&["link set eth1 up", "link set far1 up"]);
    create(&bed, "");
    let web = start(&bed, "web");
    let path = bed.path("etc/networks/pub_net.json");
    let text = fs::read_to_string(&path).unwrap().replace("\"eth0\"", "\"eth1\"");
    fs::write(&path, text).unwrap();
    let refused = bed.container(Bare, "next").networks("pub_net").start().err().unwrap();
    let expected =
        format!("the host's link of network pub_net is on parent eth0, where container {} needs it", web.id);
    assert!(refused.contains(&expected), "{refused}");
    assert!(reaches(&bed, "172.16.86.2") && web.reaches("172.16.86.3"));
    assert_eq!(bed.run("check"), "");
    web.stop();
    let next = start(&bed, "next");
    let address = next.addresses("eth0")[0].trim_end_matches("/24").to_owned();
    assert!(reaches(&bed, &address), "{address}\n{:?}", routes(&bed));
    assert_eq!(bed.run("check"), "");
    next.stop();
    bed.host.ip("link del eth1");
}

pub fn gone_definition() {
    let bed = Watched::new();
    create(&bed, "");
    let web = start(&bed, "web");
    fs::remove_file(bed.path("etc/networks/pub_net.json")).unwrap();
    assert_eq!(bed.gc(), "", "a container needs it");
    assert!(reaches(&bed, "172.16.86.2"));
    web.stop();
    assert!(link_of(&bed).is_none());
    bed.assert_nothing_held();
    create(&bed, "");
    start(&bed, "web").stop();
    fs::remove_file(bed.path("etc/networks/pub_net.json")).unwrap();
    assert_eq!(bed.outcome("check", "").code, 1);
    let plan = bed.run("gc --dry-run");
    assert_eq!(plan.lines().count(), 3, "{plan}");
    assert_eq!(bed.gc(), plan);
    bed.assert_nothing_held();
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
}

pub fn made_parents() {
    let bed = Watched::new();
    bed.create("--subnet 10.50.0.0/24 -o parent=eth0.50 --host-access tagged");
    bed.create("--subnet 10.51.0.0/24 --host-access local");
    let web = bed.container(Bare, "web").networks("tagged;local").start().unwrap();
    for (address, of_host) in [("10.50.0.1", "10.50.0.2"), ("10.51.0.1", "10.51.0.2")] {
        assert!(reaches(&bed, address) && web.reaches(of_host), "{address}");
    }
    assert_eq!(bed.run("check"), "");
    web.stop();
    assert!(bed.host.link("ulh-tagged").is_none() && bed.host.link("ulh-local").is_none());
    // The parents may be gone before.
    let web = bed.container(Bare, "web").networks("tagged;local").start().unwrap();
    bed.host.ip("link del eth0.50");
    assert!(bed.host.link("ulh-tagged").is_none());
    web.stop();
    let again = bed.container(Bare, "again").networks("tagged").start().unwrap();
    assert!(reaches(&bed, again.addresses("eth0")[0].trim_end_matches("/24")));
}

/// A host's link that only the dead needed does not keep another driver from the parent.
pub fn another_driver() {
    let bed = Watched::new();
    create(&bed, "-d macvlan");
    let mut dies = start(&bed, "dies");
    dies.kill();
    let gone = format!("/proc/{}", dies.pid);
    dies.forget();
    wait(|| !std::path::Path::new(&gone).exists());
    bed.create("-d ipvlan --subnet 10.7.0.0/24 -o parent=eth0 other");
    let web = bed.container(Bare, "web").networks("other").start().unwrap();
    assert!(web.addresses("eth0")[0].starts_with("10.7.0."), "{:?}", web.addresses("eth0"));
    assert!(link_of(&bed).is_none());
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
}

/// The same natively: passthru wants its parent for itself. What the living need stays, and the container is refused.
pub fn another_mode() {
    let bed = Watched::new();
    let pod = Netns::new("pod");
    create(&bed, "-d macvlan");
    // By hand: `network create` would refuse it.
    let alone = r#"{"version": 1, "driver": "macvlan", "macvlan_mode": "passthru", "parent": "eth0",
        "conflict_detection": "off", "subnets": [{"subnet": "10.7.0.0/24"}]}"#;
    bed.configure("networks/alone.json", alone);
    let mut web = bed.container(Bare, "web").networks("pub_net").in_netns(pod.path()).start().unwrap();
    let refused = bed.container(Bare, "next").networks("alone").start().err().unwrap();
    assert!(refused.contains("parent eth0"), "{refused}");
    assert_eq!(routes(&bed), expected(&[(2, 1)]));
    assert!(reaches(&bed, "172.16.86.2"));
    // The namespace is kept, so that its link does not go by itself.
    web.kill();
    let next = bed.container(Bare, "next").networks("alone").start().unwrap();
    assert!(next.addresses("eth0")[0].starts_with("10.7.0."), "{:?}", next.addresses("eth0"));
    assert!(link_of(&bed).is_none() && pod.link("eth0").is_none());
    assert_eq!(bed.records().len(), 1);
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
}

/// A release that was cut short has given the addresses back; by the time it is done again they are another's.
pub fn released_late() {
    let bed = Watched::new();
    create(&bed, "-o conflict_detection=off");
    let mut old = start(&bed, "old");
    old.kill();
    for lease in bed.leases() {
        if lease.ends_with("/172.16.86.2") || lease.ends_with("/2001:db8:abc8::1") {
            fs::remove_file(bed.path("run/segments").join(lease)).unwrap();
        }
    }
    let new =
        bed.container(Bare, "new").networks("pub_net:ip=172.16.86.2,ip=2001:db8:abc8::1").start().unwrap();
    assert_eq!(routes(&bed), expected(&[(2, 1)]));
    let stopped = old.hook("poststop");
    assert_eq!((stopped.code, stopped.stderr.as_str()), (0, ""));
    assert_eq!(routes(&bed), expected(&[(2, 1)]));
    assert!(reaches(&bed, "172.16.86.2") && reaches(&bed, "2001:db8:abc8::1"));
    assert_eq!(bed.run("check"), "");
    new.stop();
    assert!(link_of(&bed).is_none());
}
