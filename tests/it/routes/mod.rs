//! Routes, configured or advertised by routers.

mod ipv6;
mod routes;
mod uplinks;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [ipv6::tests(), routes::tests(), uplinks::tests()].into_iter().flatten().collect()
}
