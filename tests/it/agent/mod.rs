//! The agent: what it does after an attach, and what becomes of that when it fails.

mod agent;
mod ahead;
mod ended;
mod mishaps;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [agent::tests(), ahead::tests(), ended::tests(), mishaps::tests()].into_iter().flatten().collect()
}
