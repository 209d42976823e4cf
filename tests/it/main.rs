//! The tests that need a kernel: the real binary, real network namespaces and, where they run, real engines.
//!
//! Each test makes its own throw-away host and LAN in network namespaces, so all run in parallel and leave the
//! machine as it was. A test that needs what this machine lacks is listed as ignored, with the need before its name.
//! A folder has one subject. Tests are named by file and function, without the folder.
//!
//! `tests/run` runs all of them, each where it belongs: `it plan [PART…]` says where, and with
//! `UNDERLAY_TEST_LIST=FILE` the tests named in a file are run, and what is lacking is a failure.
//! `UNDERLAY_TEST_TIMES=1` says how long each test took.

// A test program: what fails shall panic, and nobody links to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, unreachable_pub)]
// A folder may have a file of its own name: tests are named by files.
#![allow(clippy::module_inception)]

mod addresses;
mod agent;
mod commands;
mod conformance;
mod engines;
mod harness;
mod host_access;
mod lifecycle;
mod links;
mod repo;
mod robustness;
mod routes;
mod security;

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;

use libtest_mimic::Arguments;

use crate::harness::test::{Test, note_places};
use crate::harness::{attacker, bed, place, rootfs};
use crate::security::netnsid;

/// All there are, in the order in which they are run.
fn all_tests() -> Vec<Test> {
    let mut tests: Vec<Test> = [
        lifecycle::tests(),
        links::tests(),
        routes::tests(),
        addresses::tests(),
        agent::tests(),
        host_access::tests(),
        commands::tests(),
        security::tests(),
        conformance::tests(),
        repo::tests(),
        engines::tests(),
        robustness::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    tests.extend(repo::docs::tests(tests.iter().map(|test| test.name.clone()).collect()));
    tests
}

/// Those that are named in `file`, one a line.
fn listed(tests: Vec<Test>, file: &str) -> Vec<Test> {
    let list = fs::read_to_string(file).unwrap();
    let wanted: BTreeSet<_> = list.lines().collect();
    let known: BTreeSet<_> = tests.iter().map(|test| test.name.clone()).collect();
    let unknown: Vec<_> = wanted.iter().filter(|name| !known.contains(**name)).collect();
    assert!(unknown.is_empty(), "{file} names tests that are none: {unknown:?}");
    tests.into_iter().filter(|test| wanted.contains(test.name.as_str())).collect()
}

fn main() -> ExitCode {
    if let Some(code) = attacker::main().or_else(netnsid::main) {
        return code;
    }
    let words: Vec<_> = std::env::args().skip(1).collect();
    if let Some((_, wanted)) = words.split_first().filter(|(first, _)| *first == "plan") {
        return place::print_plan(&all_tests(), wanted).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let arguments = Arguments::from_args();
    let list = std::env::var("UNDERLAY_TEST_LIST").ok();
    let tests = match &list {
        Some(file) => listed(all_tests(), file),
        None => all_tests(),
    };
    let trials = tests.into_iter().map(|test| test.into_trial(list.is_some())).collect();
    note_places();
    let before = bed::host_network();
    let conclusion = libtest_mimic::run(&arguments, trials);
    rootfs::clean_up();
    let after = bed::host_network();
    if before != after {
        eprintln!("the tests changed this machine's network\nbefore:\n{before}\nafter:\n{after}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}
