//! Attach and detach, what `underlay gc` and `underlay boot` do for them, and what is refused.

mod attach;
mod bad_input;
mod boot;
mod caller;
mod detach;
mod failures;
mod gc;
mod held_by_namespace;
mod in_use;
mod policy;
mod shares;
mod unannotated;

use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    [
        bad_input::tests(),
        policy::tests(),
        unannotated::tests(),
        attach::tests(),
        failures::tests(),
        detach::tests(),
        shares::tests(),
        held_by_namespace::tests(),
        in_use::tests(),
        gc::tests(),
        boot::tests(),
        caller::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
