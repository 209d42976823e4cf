//! The commands for operators, and what they print.

mod check;
mod command;
mod doctor;
mod events;
mod import;
mod leases;
mod preview;
mod printable;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [
        command::tests(),
        preview::tests(),
        printable::tests(),
        events::tests(),
        check::tests(),
        doctor::tests(),
        import::tests(),
        leases::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
