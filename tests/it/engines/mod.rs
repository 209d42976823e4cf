//! Every engine, in each way in which it calls underlay.

mod all_engines;
mod cdi;
mod docker;
mod docker_dhcp;
mod docker_hostile;
mod docker_networks;
pub mod docker_plugin;
mod first_example;
pub mod netavark;
mod pages;
mod podman_networks;
mod podman_ways;
mod runtime;
mod systemd;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [
        first_example::tests(),
        cdi::tests(),
        docker::tests(),
        docker_networks::tests(),
        docker_plugin::tests(),
        docker_dhcp::tests(),
        docker_hostile::tests(),
        all_engines::tests(),
        systemd::tests(),
        runtime::tests(),
        podman_ways::tests(),
        netavark::tests(),
        podman_networks::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
