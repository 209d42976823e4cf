//! What documents and tests of other projects show, by underlay. docs/explanation/comparison.md lists it.

mod conformance;
pub mod pages;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [pages::tests(), conformance::tests()].into_iter().flatten().collect()
}
