//! What root does to its links within a container harms neither the host, nor the ledger, nor other containers.

use crate::harness::bed::{Bed, Netns, Watched};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 3] = [
        ("a_link_changed_beyond_recognition", &[Need::Macvlan], changed),
        ("a_link_that_is_elsewhere", &[Need::Macvlan], elsewhere),
        ("marks_of_others", &[Need::Macvlan], marks),
    ];
    all.map(|(name, needs, run)| Test::new(format!("untrusted_container::{name}"), needs, run)).into()
}

fn pub_net(bed: &Bed) {
    bed.create("--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net");
}

/// Name, addresses, MAC and MTU are the container's own business.
fn changed() {
    let bed = Watched::new();
    pub_net(&bed);
    let netns = Netns::new("inside");
    let neighbour = bed.container(Bare, "neighbour").networks("pub_net").start().unwrap();
    let container = bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
    netns.ip_batch(&[
        "link set eth0 down",
        "link set eth0 name lan",
        "link set lan address 02:00:00:00:00:99 mtu 1400",
        "addr flush dev lan",
        "addr add 172.16.86.250/24 dev lan",
        "link set lan up",
    ]);
    container.stop();
    assert!(!netns.ip("-br link").contains("lan"), "its number, type and mark tell");
    assert_eq!(bed.leases().len(), 1);
    assert!(neighbour.reaches("172.16.86.1"));
}

/// Moved or deleted, it does not come back, and what it held is free.
fn elsewhere() {
    let bed = Watched::new();
    pub_net(&bed);
    let (netns, nested) = (Netns::new("inside"), Netns::new("nested"));
    for done in [format!("link set eth0 netns {}", nested.name), "link del eth0".to_owned()] {
        let container =
            bed.container(Bare, "web").networks("pub_net").in_netns(netns.path()).start().unwrap();
        netns.ip(&done);
        container.stop();
        bed.assert_nothing_held();
    }
    assert!(nested.link("eth0").is_some(), "what is not found is not looked for");
    assert!(!bed.log().contains("failed"), "{}", bed.log());
}

/// A mark is believed only together with the ledger: nobody is detached by another's forgery.
fn marks() {
    let bed = Watched::new();
    pub_net(&bed);
    let netns = Netns::new("inside");
    let mut other = bed.container(Bare, "other").networks("pub_net").start().unwrap();
    let start =
        |id: &str| bed.container(Bare, id).networks("pub_net").in_netns(netns.path()).start().unwrap();
    let first = start("first");
    for (name, alias) in [
        ("forged0", other.link("eth0")["ifalias"].as_str().unwrap().to_owned()),
        ("forged1", "underlay:parent".to_owned()),
        ("forged2", "underlay:../../../etc/passwd:0:1:1:pub_net".to_owned()),
        ("forged3", format!("underlay:nobody:0:{}:{}:pub_net", std::process::id(), start_time("self"))),
        ("forged4", first.link("eth0")["ifalias"].as_str().unwrap().replace(":0:", ":7:")),
    ] {
        netns.ip(&format!("link add link eth0 name {name} type macvlan mode bridge"));
        netns.ip(&format!("link set {name} alias {alias}"));
    }
    let forged = |names: &str| (0..5).all(|n| names.contains(&format!("forged{n}@")));
    let second = start("second");
    assert_eq!(bed.ps().len(), 3);
    assert_eq!(other.links(), ["eth0"]);
    assert!(other.reaches("172.16.86.1"));
    second.stop();
    assert!(forged(&netns.ip("-br link")));
    // Once the other is dead, what it holds may go, and nothing else does.
    other.kill();
    let third = start("third");
    third.stop();
    first.stop();
    assert!(forged(&netns.ip("-br link")));
    // A gc believes them no more, though it looks for lost records: only a link that claims to be a dead container's
    // goes as that.
    bed.gc();
    let left = netns.ip("-br link");
    assert!((1..5).all(|n| left.contains(&format!("forged{n}@"))), "{left}");
    bed.assert_nothing_held();
}

/// Field 22 of proc_pid_stat(5).
fn start_time(process: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap().to_owned()
}
