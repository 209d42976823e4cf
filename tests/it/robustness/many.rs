//! Many containers at once.

use std::collections::BTreeSet;
use std::thread;

use crate::harness::bed::Bed;
use crate::harness::container::Engine;
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let engines = [Engine::Crun, Engine::Runc];
    let test = |engine| {
        let needs = [Need::Macvlan, Need::Engine(engine)];
        Test::new(format!("many::forty_at_once::{engine}"), &needs, move || forty(engine)).alone()
    };
    engines.map(test).into()
}

/// Forty containers start at once and get forty addresses; they stop at once, and nothing is left.
fn forty(engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", "--subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10");
    let start =
        |index: usize| bed.container(engine, &format!("c{index}")).networks("pub_net").start().unwrap();
    let containers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..40).map(|index| scope.spawn(move || start(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: BTreeSet<_> =
        containers.iter().flat_map(|container| container.addresses("eth0")).collect();
    assert_eq!(addresses.len(), 80);
    assert_eq!((bed.leases().len(), bed.records().len(), bed.ps().len()), (80, 40, 40));
    assert!(containers[39].reaches("172.16.86.1"));
    thread::scope(|scope| {
        for container in containers {
            scope.spawn(move || container.stop());
        }
    });
    bed.assert_nothing_held();
}
