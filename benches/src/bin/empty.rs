//! The floor: a static program that does nothing.

fn main() {}
