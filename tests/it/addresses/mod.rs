//! Which address a container gets: the one it had, one that is reserved for it, and none that another host has.

mod conflicts;
pub mod dhcp;
mod dhcp_many;
mod dhcp_names;
mod dhcp_renewal;
mod dhcp_servers;
mod hostile_lan;
pub mod identity;
mod reserved;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [
        identity::tests(),
        conflicts::tests(),
        hostile_lan::tests(),
        dhcp_servers::tests(),
        dhcp::tests(),
        dhcp_renewal::tests(),
        dhcp_names::tests(),
        dhcp_many::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
