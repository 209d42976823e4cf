//! `host_access`: the link of the host itself on a network.

pub mod host_access;
mod host_access_changes;
mod host_access_conflicts;
mod host_access_routing;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [host_access::tests(), host_access_routing::tests(), host_access_conflicts::tests()]
        .into_iter()
        .flatten()
        .collect()
}
