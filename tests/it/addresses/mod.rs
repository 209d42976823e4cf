//! Which address a container gets: the one it had, one that is reserved for it, and none that another host has.

mod conflicts;
// Not in `tests()` until networks have addresses by DHCP.
#[expect(dead_code, reason = "nothing attaches by DHCP yet")]
mod dhcp;
#[expect(dead_code, reason = "nothing renews a lease yet")]
mod dhcp_renewal;
mod dhcp_servers;
mod hostile_lan;
pub mod identity;
mod reserved;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [identity::tests(), conflicts::tests(), hostile_lan::tests(), dhcp_servers::tests()]
        .into_iter()
        .flatten()
        .collect()
}
