//! Processes that are not trusted: root in a container, and senders of netlink messages.

mod forged;
mod inside;
mod liars;
pub mod netnsid;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [inside::tests(), liars::tests(), netnsid::tests(), forged::tests()].into_iter().flatten().collect()
}
