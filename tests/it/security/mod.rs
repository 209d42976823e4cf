//! Processes that are not trusted: root in a container, and senders of netlink messages.

mod forged;
mod netlink_spoofing;
pub mod netnsid;
mod untrusted_container;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [untrusted_container::tests(), netlink_spoofing::tests(), netnsid::tests(), forged::tests()]
        .into_iter()
        .flatten()
        .collect()
}
