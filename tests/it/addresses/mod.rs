//! Which address a container gets: the one it had, one that is reserved for it, and none that another host has.

mod conflicts;
pub mod dhcp;
mod dhcp6;
mod dhcp6_renewal;
mod dhcp_answers;
mod dhcp_conflicts;
mod dhcp_day;
mod dhcp_life;
mod dhcp_links;
mod dhcp_names;
mod dhcp_odd;
pub mod dhcp_renewal;
mod dhcp_servers;
mod dhcp_shared_mac;
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
        dhcp_answers::tests(),
        dhcp_renewal::tests(),
        dhcp_links::tests(),
        dhcp_shared_mac::tests(),
        dhcp_conflicts::tests(),
        dhcp_life::tests(),
        dhcp_day::tests(),
        dhcp6::tests(),
        dhcp6_renewal::tests(),
        dhcp_names::tests(),
        dhcp_odd::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
