//! Marks that root inside of a container writes: they reach no other namespace, no address and no record of others.

use crate::bed::{Bed, Netns};
use crate::container::Engine::Bare;
use crate::need::Need;
use crate::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 1] = [("a_mark_of_another_namespace", &[Need::Macvlan], elsewhere)];
    all.map(|(name, needs, run)| Test::new(format!("forged::{name}"), needs, run)).into()
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
