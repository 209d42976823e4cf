//! `underlay gc`: what nobody needs goes at once, what anybody needs stays.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 3] = [
        ("the_dead", &[Need::Macvlan], the_dead),
        ("a_pinned_namespace", &[Need::Macvlan], pinned),
        ("parents", &[Need::Vlan, Need::Dummy], parents),
    ];
    all.map(|(name, needs, run)| Test::new(format!("gc::{name}"), needs, run)).into()
}

fn the_dead() {
    let bed = Bed::with_pub_net("macvlan", "");
    assert_eq!(bed.gc(), "", "nothing to do");
    let lives = bed.container(Bare, "lives").networks("pub_net").start().unwrap();
    let mut dies = bed.container(Bare, "dies").networks("pub_net").start().unwrap();
    dies.kill();
    let segment = bed.path("run/segments").join(bed.leases()[0].split('/').next().unwrap());
    symlink("../../containers/nobody.json", segment.join("172.16.86.99")).unwrap();
    let mac = dies_mac(&bed, &dies.id);
    let before = (bed.leases(), bed.records());

    let plan = bed.run("gc --dry-run");
    assert_eq!((bed.leases(), bed.records()), before, "a dry run does nothing");
    let expected = [
        format!("rm {}/172.16.86.99", segment.display()),
        format!("rm {}/172.16.86.3", segment.display()),
        format!("rm {}/{mac}", segment.display()),
        format!("rm {}/{}.json", bed.path("run/containers").display(), dies.id),
    ];
    assert_eq!(plan.lines().collect::<Vec<_>>(), expected);
    assert_eq!(bed.gc(), plan);
    assert_eq!(bed.records(), [format!("{}.json", lives.id)]);
    assert_eq!(bed.leases().len(), 1);
    assert_eq!(bed.gc(), "", "a second finds nothing");
    assert_eq!(lives.addresses("eth0"), ["172.16.86.2/24"]);
}

fn dies_mac(bed: &Bed, id: &str) -> String {
    let all = bed.ps();
    let record = all.iter().find(|record| record["container"] == id).unwrap();
    record["attachments"][0]["mac"].as_str().unwrap().to_owned()
}

/// The link of a dead container goes, a living neighbour's and one made by hand stay.
fn pinned() {
    let bed = Bed::with_pub_net("macvlan", "");
    let netns = Netns::new("pinned");
    netns.ip("link add byhand type veth peer name far");
    let mut dies = bed.container(Bare, "dies").networks("pub_net").in_netns(netns.path()).start().unwrap();
    dies.kill();
    let plan = bed.run("gc --dry-run");
    assert!(
        plan.starts_with(&format!("nsenter --net={} ip link del eth0\nrm ", netns.path().display())),
        "{plan}"
    );
    assert!(netns.link("eth0").is_some());
    assert_eq!(bed.gc(), plan);
    bed.assert_nothing_held();
    assert!(netns.link("eth0").is_none() && netns.link("byhand").is_some());
    assert_eq!(bed.gc(), "");
}

fn parents() {
    let bed = Bed::new();
    bed.create("--subnet=10.0.0.0/24 -o parent=eth0.10.20 qinq");
    bed.create("--subnet=10.1.0.0/24 local");
    assert_eq!(bed.gc(), "", "their networks need them");
    for name in ["qinq", "local"] {
        fs::remove_file(bed.path("etc/networks").join(format!("{name}.json"))).unwrap();
    }
    let plan = bed.run("gc --dry-run");
    assert_eq!(plan, "ip link del eth0.10.20\nip link del eth0.10\nip link del ul-local\n");
    assert_eq!(bed.gc(), plan);
    assert!(bed.host.link("eth0.10").is_none() && bed.host.link("ul-local").is_none());
    assert_eq!(bed.gc(), "");
}
