//! Marks that root inside of a container writes: they reach no other namespace, no address and no record of others.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use serde_json::Value;

use crate::addresses::identity::IDENTITY;
use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine::Bare};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::trace;

pub fn tests() -> Vec<Test> {
    let all: [Named; 14] = [
        ("a_mark_of_another_namespace", &[Need::Macvlan], elsewhere),
        ("a_mark_of_another_container", &[Need::Macvlan], another),
        ("a_mark_is_no_bait_for_an_attach", &[Need::Macvlan], by_attach),
        ("a_copied_mark", &[Need::Macvlan], copied),
        ("a_link_made_again_under_its_number", &[Need::Macvlan], made_again),
        ("what_a_proven_mark_brings", &[Need::Macvlan], proven),
        ("an_address_of_two", &[Need::Macvlan], contested),
        ("a_network_that_is_gone", &[Need::Macvlan], unknown_network),
        ("a_process_that_another_has", &[Need::Macvlan], one_process),
        ("marks_without_a_seal", &[Need::Macvlan], unsealed),
        ("a_lost_key", &[Need::Macvlan], lost_key),
        ("a_key_that_others_can_read", &[Need::Macvlan], known_key),
        ("nonsense_for_a_key", &[Need::Macvlan], nonsense),
        ("two_hooks_make_one_key", &[Need::Macvlan], two_hooks),
    ];
    all.map(|(name, needs, run)| Test::new(format!("forged::{name}"), needs, run)).into()
}

fn alias(container: &Container<'_>) -> String {
    container.link("eth0")["ifalias"].as_str().unwrap().to_owned()
}

/// A further macvlan link inside, with an alias and addresses.
fn add_link(container: &Container<'_>, name: &str, alias: &str, addresses: &[&str]) {
    container.run("ip", &format!("link add link eth0 name {name} type macvlan mode bridge"));
    container.run("ip", &format!("link set {name} alias {alias} up"));
    for address in addresses {
        container.run("ip", &format!("addr add {address}/24 dev {name}"));
    }
}

fn host_routes(bed: &Bed) -> Vec<String> {
    let all = bed.host.ip("-4 route");
    all.lines().filter(|line| line.contains("dev ulh-")).map(|line| line.trim().to_owned()).collect()
}

/// What the ledger has of a container.
fn record(bed: &Bed, id: &str) -> Value {
    bed.rebuildable().into_iter().find(|record| record["container"] == id).unwrap()
}

fn addresses(record: &Value) -> Vec<&str> {
    let attachments = record["attachments"].as_array().unwrap().iter();
    attachments.flat_map(|a| a["addresses"].as_array().unwrap()).map(|a| a.as_str().unwrap()).collect()
}

/// With the id of a container that is not there yet: neither it nor anybody else, the host included, comes to harm.
fn another() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let victim = bed.container(Bare, "victim").networks("pub_net:ip=172.16.86.20").start().unwrap();
    let evil = bed.container(Bare, "evil").networks("pub_net").start().unwrap();
    let own = alias(&evil);
    let db = format!("db-{}", bed.host.name);
    let words: Vec<&str> = own.split(':').collect();
    for (name, id, words) in [
        ("x0", &db, &words[..6]),
        ("x1", &db, &words[..]),
        ("x2", &victim.id, &words[..6]),
        ("x3", &victim.id, &words[..]),
    ] {
        let forged = words.join(":").replace(&evil.id, id);
        add_link(&evil, name, &forged, &["172.16.86.20", "172.16.86.1", "172.16.86.53"]);
    }
    let before = (bed.rebuildable(), bed.leases(), host_routes(&bed), bed.host_state());
    let nothing_new = || {
        assert_eq!((bed.run("check"), bed.run("gc --dry-run")), (String::new(), String::new()));
        assert_eq!((bed.gc(), bed.run("boot")), (String::new(), String::new()));
        assert_eq!((bed.rebuildable(), bed.leases(), host_routes(&bed), bed.host_state()), before);
    };
    nothing_new();
    // Nor where the ledger has lost the very records and leases: what comes back is what was there.
    fs::remove_file(bed.path("run/containers").join(format!("{}.json", victim.id))).unwrap();
    bed.gc();
    nothing_new();
    fs::remove_dir_all(bed.path("run/containers")).unwrap();
    bed.gc();
    nothing_new();

    // That the LAN is asked about is another matter.
    for name in ["x0", "x1", "x2", "x3"] {
        evil.run("ip", &format!("link del {name}"));
    }
    // And until then it was in doubt whether there is such a container.
    bed.gc();
    let real = bed.container(Bare, "db").networks("pub_net:ip=172.16.86.53").start().unwrap();
    assert_eq!(real.id, db);
    victim.stop();
    let again = bed.container(Bare, "victim").networks("pub_net:ip=172.16.86.20").start().unwrap();
    again.stop();
    real.stop();
    assert_eq!(host_routes(&bed).len(), 1);
}

/// An attach that repairs the ledger believes no more than gc does.
fn by_attach() {
    let bed = Bed::with_pub_net("macvlan", "--host-access");
    let evil = bed.container(Bare, "evil").networks("pub_net").start().unwrap();
    let forged = alias(&evil).split(':').take(6).collect::<Vec<_>>().join(":").replace(&evil.id, "db");
    add_link(&evil, "x0", &forged, &["172.16.86.53"]);
    // What a killed hook leaves makes it look.
    let segment = bed.path("run/segments").join(bed.leases()[0].split('/').next().unwrap());
    symlink("../../containers/nobody.json", segment.join("172.16.86.99")).unwrap();
    let own = evil.addresses("eth0")[0].replace("/24", "");
    let refused = bed.container(Bare, "web").networks(&format!("pub_net:ip={own}")).start().err().unwrap();
    assert!(refused.contains("is held by container evil"), "{refused}");
    assert!(!segment.join("172.16.86.99").exists(), "it did look");
    assert_eq!(bed.records(), [format!("{}.json", evil.id)]);
    assert_eq!(host_routes(&bed).len(), 1);
    // The same when the state folder is lost.
    fs::remove_dir_all(bed.path("run")).unwrap();
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    assert_eq!(bed.records().len(), 2);
    assert!(!bed.leases().iter().any(|lease| lease.ends_with(".53")), "{:?}", bed.leases());
    web.stop();
}

/// After a loss, who has added an address that two containers have cannot be told from the one whose it was. It is the
/// lease of the one of whom it is remembered, else of the one that has less; nobody loses it, and nobody else gets it.
fn contested() {
    // By their ids evil comes first, and last.
    for (id, remembered) in [("evil", true), ("zevil", true), ("evil", false), ("zevil", false)] {
        let bed = Bed::with_pub_net("macvlan", "--host-access -o conflict_detection=off");
        let vic = bed.container(Bare, "vic").networks("pub_net:ip=172.16.86.20").start().unwrap();
        let evil = bed.container(Bare, id).networks("pub_net:ip=172.16.86.30").start().unwrap();
        evil.run("ip", "addr add 172.16.86.20/24 dev eth0");
        if !remembered {
            fs::remove_dir_all(bed.path("data/containers")).unwrap();
        }
        let before = (bed.leases(), host_routes(&bed));
        fs::remove_dir_all(bed.path("run")).unwrap();
        for command in ["gc", "boot"] {
            bed.run(command);
            assert_eq!((bed.leases(), host_routes(&bed)), before, "{id} {remembered}: {command}");
        }
        let segment = bed.path("run/segments").join(before.0[0].split('/').next().unwrap());
        let lease = fs::read_link(segment.join("172.16.86.20")).unwrap();
        assert!(lease.ends_with(format!("{}.json", vic.id)), "{id} {remembered}: {lease:?}");
        let refused = bed.container(Bare, "next").networks("pub_net:ip=172.16.86.20").start().err().unwrap();
        assert!(refused.contains("is held by container vic"), "{refused}");
        evil.stop();
        bed.gc();
        assert!(host_routes(&bed).iter().any(|route| route.contains("172.16.86.20")), "{id} {remembered}");
        vic.stop();
        bed.run("network rm pub_net");
        bed.assert_nothing_held();
    }
}

/// A mark with its seal is no other link's, in whatever namespace.
fn copied() {
    let bed = Bed::with_pub_net("macvlan", "");
    let nested = Netns::new("nested");
    let evil = bed.container(Bare, "evil").networks("pub_net").start().unwrap();
    let (own, mac) = (alias(&evil), evil.link("eth0")["address"].as_str().unwrap().to_owned());
    let number = evil.link("eth0")["ifindex"].clone();
    // Also with the same MAC address, and elsewhere with the same number: the kernel takes the one while it is down.
    evil.run("ip", &format!("link add link eth0 name x0 address {mac} type macvlan mode bridge"));
    evil.run("ip", &format!("link set x0 alias {own}"));
    add_link(&evil, "x1", &own, &["172.16.86.53"]);
    evil.run(
        "ip",
        &format!(
            "link add link eth0 name x2 index {number} address {mac} netns {} type macvlan",
            nested.name
        ),
    );
    nested.ip(&format!("link set x2 alias {own}"));
    nested.ip("addr add 172.16.86.54/24 dev x2");
    let known = (bed.rebuildable(), bed.leases());
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
    fs::remove_dir_all(bed.path("run")).unwrap();
    bed.gc();
    assert_eq!((bed.rebuildable(), bed.leases()), known);
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
    // Nor do copies live on without the one they were made of.
    evil.run("ip", "link del eth0");
    fs::remove_dir_all(bed.path("run")).unwrap();
    assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()));
    bed.assert_nothing_held();
}

/// What has another MAC address than it was given is not the link that was sealed.
fn made_again() {
    let bed = Bed::with_pub_net("macvlan", "");
    let evil = bed.container(Bare, "evil").networks("pub_net").start().unwrap();
    let (own, number) = (alias(&evil), evil.link("eth0")["ifindex"].clone());
    evil.run("ip", "link add link eth0 name x0 type macvlan mode bridge");
    evil.run("ip", "link del eth0");
    evil.run(
        "ip",
        &format!("link add link x0 name eth0 index {number} address 02:00:00:00:00:66 type macvlan"),
    );
    evil.run("ip", &format!("link set eth0 alias {own}"));
    evil.run("ip", "addr add 172.16.86.53/24 dev eth0");
    fs::remove_dir_all(bed.path("run")).unwrap();
    assert_eq!(bed.gc(), "");
    bed.assert_nothing_held();
}

/// The record of a link whose mark is proven has what leases say, and of what was added to it only what nobody else has
/// and the network could have given; the host and the memory get nothing of it.
fn proven() {
    let bed = Bed::with_pub_net(
        "macvlan",
        "--host-access --aux-address printer=172.16.86.9 --reserve mail=172.16.86.30 --route 10.9.0.0/16,172.16.86.8",
    );
    let victim = bed.container(Bare, "victim").networks("pub_net:ip=172.16.86.20").start().unwrap();
    let mut evil = bed.container(Bare, "evil").networks("pub_net").start().unwrap();
    let own = evil.addresses("eth0").remove(0);
    let path = bed.path("run/containers").join(format!("{}.json", evil.id));
    let segment = bed.path("run/segments").join(bed.leases()[0].split('/').next().unwrap());
    let of_host = host_routes(&bed)[0].rsplit(' ').next().unwrap().to_owned();
    for address in ["1", "8", "9", "20", "30", "53", "250"].map(|last| format!("172.16.86.{last}")) {
        evil.run("ip", &format!("addr add {address}/25 dev eth0"));
    }
    evil.run("ip", &format!("addr add {of_host}/32 dev eth0"));
    evil.run("ip", "addr add 10.7.0.9/24 dev eth0");
    let victims = record(&bed, &victim.id);
    for everything in [false, true] {
        match everything {
            false => fs::remove_file(&path).unwrap(),
            true => fs::remove_dir_all(bed.path("run/containers")).unwrap(),
        }
        bed.gc();
        // The host has had a route to all that underlay has given.
        assert_eq!(addresses(&record(&bed, &evil.id)), [own.as_str()], "{everything}");
        assert_eq!(record(&bed, &victim.id), victims, "{everything}");
        let lease = fs::read_link(segment.join("172.16.86.20")).unwrap();
        assert!(lease.ends_with(format!("{}.json", victim.id)), "{lease:?}");
        let routes = host_routes(&bed);
        assert!(routes.len() == 2 && routes[1].starts_with("172.16.86.20 "), "{everything}: {routes:?}");
        assert_eq!(bed.gc(), "", "{everything}");
    }
    // Nothing of it is remembered.
    fs::remove_dir_all(bed.path("data/containers")).unwrap();
    evil.kill();
    assert_eq!(evil.hook("poststop").code, 0);
    assert_eq!(bed.records().len(), 1);
    assert!(!bed.path("data/containers").exists(), "what was rebuilt is no memory");
}

/// Which addresses a network has that nobody knows any more cannot be told.
fn unknown_network() {
    let bed = Bed::with_pub_net("macvlan", "");
    let evil = bed.container(Bare, "evil").networks("pub_net").start().unwrap();
    evil.run("ip", "addr add 172.16.86.53/24 dev eth0");
    let own = evil.addresses("eth0").remove(0);
    fs::remove_file(bed.path("etc/networks/pub_net.json")).unwrap();
    fs::remove_dir_all(bed.path("run/containers")).unwrap();
    bed.gc();
    assert_eq!(addresses(&record(&bed, &evil.id)), [own.as_str()], "the lease tells");
    fs::remove_dir_all(bed.path("run")).unwrap();
    bed.gc();
    assert_eq!(addresses(&record(&bed, &evil.id)), [""; 0]);
    assert_eq!(bed.leases(), [""; 0]);
    assert_eq!(bed.macs().len(), 1, "its MAC address is sealed");
}

/// A process is the first of one container.
fn one_process() {
    let bed = Bed::with_pub_net("macvlan", "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let path = |id: &str| bed.path("run/containers").join(format!("{id}.json"));
    let text = fs::read_to_string(path(&web.id)).unwrap().replace(&web.id, "other");
    fs::remove_file(path(&web.id)).unwrap();
    fs::write(path("other"), text).unwrap();
    fs::remove_dir_all(bed.path("run/segments")).unwrap();
    bed.gc();
    assert_eq!(bed.records(), ["other.json"]);
    fs::remove_file(path("other")).unwrap();
    bed.gc();
    assert_eq!(bed.records(), [format!("{}.json", web.id)]);
}

/// What a version without seals has made, as an upgrade finds it: it goes on, and gc seals what the ledger has.
fn unsealed() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("pod");
    let start = |id: &str| bed.container(Bare, id).networks("pub_net");
    let web = start("web").start().unwrap();
    let pod = start("pod").in_netns(netns.path()).start().unwrap();
    let sealed = alias(&web);
    let strip = |container: &Container<'_>| {
        let unsealed = alias(container).split(':').take(6).collect::<Vec<_>>().join(":");
        container.run("ip", &format!("link set eth0 alias {unsealed}"));
    };
    let known = (bed.rebuildable(), bed.leases());
    for container in [&web, &pod] {
        strip(container);
    }
    let checked = bed.outcome("check --format json", "");
    let told: Vec<Value> = serde_json::from_str(&checked.stdout).unwrap();
    let is_seal =
        |d: &Value| d["what"] == "mark" && d["hint"].as_str().unwrap().starts_with("`underlay gc` seals");
    assert!(told.len() == 2 && told.iter().all(is_seal), "{told:?}");
    let plan = bed.run("gc --dry-run");
    assert_ne!(alias(&web), sealed, "a dry run does nothing");
    let line =
        |container: &Container<'_>| format!("# seal the mark of link eth0 of container {}", container.id);
    let mut lines: Vec<_> = plan.lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, [line(&pod), line(&web)]);
    assert_eq!(bed.gc(), plan);
    assert_eq!(alias(&web), sealed);
    assert_eq!((bed.gc(), bed.run("check")), (String::new(), String::new()));
    // As good as one that was born with it.
    fs::remove_dir_all(bed.path("run")).unwrap();
    bed.gc();
    assert_eq!((bed.rebuildable(), bed.leases()), known);
    // What is lost before it is sealed is not believed; nor is what has changed since.
    strip(&web);
    fs::remove_file(bed.path("run/containers").join(format!("{}.json", web.id))).unwrap();
    bed.gc();
    assert_eq!(bed.records(), [format!("{}.json", pod.id)]);
    // A link is found and deleted by its old mark.
    strip(&pod);
    pod.stop();
    assert!(netns.link("eth0").is_none());
}

/// Another one is made, and all that the ledger has is sealed with it; a link that was given another MAC address is not.
fn lost_key() {
    let bed = Bed::with_pub_net("macvlan", "");
    let web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let other = bed.container(Bare, "other").networks("pub_net").start().unwrap();
    other.run("ip", "link set eth0 address 02:00:00:00:00:66");
    let before = (alias(&web), alias(&other), bed.rebuildable(), bed.leases());
    let key = host_link(&bed);
    let [run, kept] = ["run", "kept"].map(|name| bed.path(name));
    fs::rename(&run, &kept).unwrap();
    bed.gc();
    assert_eq!(
        (host_link(&bed), alias(&web)),
        (key.clone(), before.0.clone()),
        "the ledger has no part in it"
    );
    fs::remove_dir_all(&run).unwrap();
    fs::rename(&kept, &run).unwrap();
    fs::remove_dir_all(bed.path("data")).unwrap();
    assert_eq!(bed.run("gc --dry-run"), format!("# seal the mark of link eth0 of container {}\n", web.id));
    assert!(!bed.path("data").exists());
    bed.gc();
    assert_ne!(host_link(&bed), key);
    assert_ne!(alias(&web), before.0);
    assert_eq!(alias(&other), before.1);
    fs::remove_file(bed.path("run/containers").join(format!("{}.json", web.id))).unwrap();
    bed.gc();
    assert_eq!((bed.rebuildable(), bed.leases()), (before.2, before.3));
}

/// The text of the link that has the key.
fn host_link(bed: &Bed) -> String {
    fs::read_link(bed.path("data/host")).unwrap().into_os_string().into_string().unwrap()
}

fn is_sealed(container: &Container<'_>) -> bool {
    alias(container).split(':').count() == 7
}

/// In a data dir that others can look into the link says nothing: neither the key in it is used nor the machine id. What to
/// do is said, and does it.
fn known_key() {
    let bed = Bed::with_pub_net("macvlan", "");
    let data = bed.path("data");
    let mac = |container: &Container<'_>| container.link("eth0")["address"].as_str().unwrap().to_owned();
    let start = |id: &str| {
        let container = bed.container(Bare, id).annotation(IDENTITY, "db").networks("pub_net");
        let container = container.without_hooks().start().unwrap();
        let outcome = container.hook("createRuntime");
        assert_eq!(outcome.code, 0, "{outcome:?}");
        (container, outcome.stderr)
    };
    let forget = || fs::remove_dir_all(data.join("identities")).unwrap();
    let (first, told) = start("first");
    let own = mac(&first);
    assert!(is_sealed(&first) && told.is_empty(), "{told}");
    first.stop();
    forget();
    // Whoever can write there could write this.
    let forged = format!("{}-{}", "0".repeat(32), "1".repeat(32));
    fs::remove_file(data.join("host")).unwrap();
    symlink(&forged, data.join("host")).unwrap();
    for mode in [0o755, 0o710, 0o777] {
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
        let (web, told) = start("web");
        assert!(!is_sealed(&web) && mac(&web) == own, "{mode:o}: {} {}", alias(&web), mac(&web));
        assert!(
            told.contains(&format!("by others than root (mode {mode:04o}) (hint: `chown root ")),
            "{told}"
        );
        let known = bed.outcome("check", "");
        assert!(known.stderr.contains("marks prove nothing: ") && known.stdout.is_empty(), "{known:?}");
        let collected = bed.outcome("gc", "");
        assert!(collected.code == 0 && collected.stderr.contains("marks prove nothing: "), "{collected:?}");
        assert_eq!(host_link(&bed), forged, "it is not written in sight of all");
        let hint = told.split("(hint: `").nth(1).unwrap().split('`').next().unwrap();
        if mode == 0o777 {
            crate::harness::bed::run("sh", &["-c", hint]).unwrap();
            bed.gc();
            assert!(is_sealed(&web) && host_link(&bed) != forged);
            assert_eq!((bed.gc(), bed.run("check")), (String::new(), String::new()));
        } else {
            web.stop();
            forget();
        }
    }
}

/// What is no key is replaced by one, by the next attach or gc.
fn nonsense() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let path = bed.path("data/host");
    let puts: [fn(&std::path::Path); 4] = [
        |path| symlink("/etc/passwd", path).unwrap(),
        |path| symlink(format!("{}-", "x".repeat(32)), path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::create_dir(path).unwrap(),
    ];
    for put in puts {
        for by_attach in [true, false] {
            crate::harness::bed::run("rm", &["-rf", path.to_str().unwrap()]).unwrap();
            put(&path);
            if by_attach {
                web.stop();
                web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
            } else {
                bed.gc();
            }
            assert!(is_sealed(&web));
            assert_eq!(host_link(&bed).split('-').next().unwrap().len(), 32);
            let known = || (bed.rebuildable(), bed.leases());
            let before = known();
            fs::remove_dir_all(bed.path("run")).unwrap();
            bed.gc();
            assert_eq!(known(), before, "it is proven by what is written now");
        }
    }
    assert_eq!(fs::read_dir(bed.path("data")).unwrap().count(), 2, "nothing is left beside");
}

/// The first two hooks of all, one of which is done at once when the other wants the lock: to lease, to make the key, and to
/// confirm. Whoever makes the key, both marks are sealed with it.
fn two_hooks() {
    // Who comes later than all of the other needs no lock to make a key.
    for (at, expected) in [(1, 4), (3, 6), (5, 6)] {
        let bed = Bed::with_pub_net("macvlan", "-o conflict_detection=off");
        let [slow, fast] = ["slow", "fast"]
            .map(|id| bed.container(Bare, id).networks("pub_net").without_hooks().start().unwrap());
        let mut locks = 0;
        let hook = bed.underlay("hook createRuntime");
        let traced = trace(&hook, slow.state_at("createRuntime").as_bytes(), |call| {
            locks += usize::from(call.is_of_lock());
            if call.is_of_lock() && locks == at {
                let outcome = fast.hook("createRuntime");
                assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{at}");
            }
            None
        });
        assert_eq!((traced.code(), traced.stderr.as_str(), locks), (Some(0), "", expected), "{at}");
        assert!(is_sealed(&slow) && is_sealed(&fast), "{at}");
        assert_eq!((bed.run("check"), bed.gc()), (String::new(), String::new()), "all by one key, {at}");
    }
}

/// A container whose first process is gone, in a namespace that others still use, keeps its link, whatever marks
/// there are elsewhere. In its own namespace the next container takes its place.
fn elsewhere() {
    let bed = Bed::with_pub_net("macvlan", "");
    let (home, away) = (Netns::new("victim"), Netns::new("evil"));
    let mut victim = bed
        .container(Bare, "victim")
        .networks("pub_net:ip=172.16.86.20")
        .in_netns(home.path())
        .start()
        .unwrap();
    let alias = victim.link("eth0")["ifalias"].as_str().unwrap().to_owned();
    victim.kill();
    let before = (home.link("eth0"), bed.leases());
    let _evil = bed.container(Bare, "evil").networks("pub_net").in_netns(away.path()).start().unwrap();
    let short = alias.split(':').take(6).collect::<Vec<_>>().join(":");
    for (name, mark) in [("x0", alias.clone()), ("x1", short), ("x2", alias.replace(":0:", ":7:"))] {
        away.ip(&format!("link add link eth0 name {name} type macvlan mode bridge"));
        away.ip(&format!("link set {name} alias {mark}"));
    }
    // One that asks for something lasting looks at all records.
    for (id, networks) in [("second", "pub_net:ifname=eth8"), ("third", "pub_net:ifname=eth9,table=101")] {
        bed.container(Bare, id).networks(networks).in_netns(away.path()).start().unwrap().stop();
        assert_eq!(home.link("eth0"), before.0, "{id}");
    }
    assert!(before.1.iter().all(|lease| bed.leases().contains(lease)), "{:?}", bed.leases());
    assert!(!bed.log().contains("reclaimed"), "{}", bed.log());
    let next = bed.container(Bare, "next").networks("pub_net").in_netns(home.path()).start().unwrap();
    assert!(bed.log().contains(&format!("reclaimed {}", victim.id)), "{}", bed.log());
    next.stop();
}
