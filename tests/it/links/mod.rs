//! Links, and the parents that they are made on.

mod links;
mod parents;
mod properties;
mod trunks;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [links::tests(), properties::tests(), parents::tests(), trunks::tests()].into_iter().flatten().collect()
}
