//! `host_access`: the link of the host itself on a network.

pub mod host_access;
mod host_access_changes;
mod host_access_conflicts;
mod host_access_ways;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [host_access::tests(), host_access_ways::tests(), host_access_conflicts::tests()]
        .into_iter()
        .flatten()
        .collect()
}
