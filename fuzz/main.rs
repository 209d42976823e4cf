//! One program for all fuzz targets of the library: `UNDERLAY_FUZZ` names the one to run, the rest is libFuzzer's.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use underlay::fuzz::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("UNDERLAY_FUZZ").unwrap_or_default();
    let names = TARGETS.map(|(name, _)| name).join(", ");
    let found = TARGETS.into_iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("UNDERLAY_FUZZ is none of {names}")).1
});

fuzz_target!(|input: &[u8]| TARGET(input));
