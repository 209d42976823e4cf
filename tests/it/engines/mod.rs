//! Every engine, in each way in which it calls underlay.

mod cdi;
mod docker;
mod everywhere;
mod first_light;
mod podman_ways;
mod runtime;
mod systemd;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [
        first_light::tests(),
        cdi::tests(),
        docker::tests(),
        everywhere::tests(),
        systemd::tests(),
        runtime::tests(),
        podman_ways::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
