//! Kills, errors, races, damaged files and many containers at once; and what a call costs.

mod budget;
mod crash;
mod crash_commands;
mod crash_docker;
mod crash_netavark;
mod damaged;
mod lost;
mod namespaces;
mod races;
mod storms;
mod waits;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [
        lost::tests(),
        namespaces::tests(),
        damaged::tests(),
        budget::tests(),
        waits::tests(),
        races::tests(),
        storms::tests(),
        crash::tests(),
        crash_commands::tests(),
        crash_docker::tests(),
        crash_netavark::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
