//! What root does to its links within a container harms neither the host, nor the ledger, nor other containers.

use crate::bed::{Bed, Netns, Watched};
use crate::container::Engine::Bare;
use crate::need::Need;
use crate::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 3] = [
        ("a_link_changed_beyond_recognition", &[Need::Macvlan], changed),
        ("a_link_that_is_elsewhere", &[Need::Macvlan], elsewhere),
        ("marks_of_others", &[Need::Macvlan], marks),
    ];
    all.map(|(name, needs, run)| Test::new(format!("inside::{name}"), needs, run)).into()
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
        ("forged0", format!("underlay:{}:0", other.id)),
        ("forged1", "underlay:parent".to_owned()),
        ("forged2", "underlay:../../../etc/passwd:0".to_owned()),
        ("forged3", "underlay:nobody:0".to_owned()),
        ("forged4", format!("underlay:{}:7", first.id)),
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
    bed.run("gc");
    assert!(forged(&netns.ip("-br link")));
    bed.assert_nothing_held();
}
