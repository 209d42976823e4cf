//! The repository itself: its layers, its documents, its packages.

mod demo;
pub mod docs;
mod documented;
mod installed;
mod layers;
mod packages;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [layers::tests(), installed::tests(), documented::tests(), packages::tests(), demo::tests()]
        .into_iter()
        .flatten()
        .collect()
}
