//! The crash matrix of podman's plugin: `setup` and `teardown` are killed at each of their system calls in turn, or one of them
//! fails. podman starts the container again, in another namespace, and ends it.

use crate::engines::netavark::{Call, error, web};
use crate::harness::bed::{Bed, Netns, run};
use crate::harness::mishaps::{ERRORS, assert_ended, steps, trace_to, turns};
use crate::harness::need::Need;
use crate::harness::test::Test;
use crate::harness::tracer::Mishap;

/// One call of so many is tried where there is no time for all.
const STRIDE: usize = 4;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for what in ["setup", "teardown"] {
        let mut add = |kind: &str, run: fn(&'static str)| {
            let name = format!("crash_netavark::{kind}::{what}");
            tests.push(Test::new(name, &[Need::Macvlan], move || run(what)));
        };
        add("killed", |what| matrix(what, |_| Mishap::Kill));
        add("error", |what| {
            turns().for_each(|turn| matrix(what, |at| Mishap::Error(ERRORS[(at + turn) % ERRORS.len()])));
        });
    }
    tests
}

/// Calls the plugin; at its system call number `at` there is a mishap. Returns false if it has fewer, and what went wrong.
fn call(bed: &Bed, web: &Call, what: &str, netns: &Netns, at: usize, mishap: Mishap) -> (bool, String, bool) {
    let command = bed.underlay(&format!("netavark {what} {}", netns.path().display()));
    let (traced, hit) = trace_to(&command, web.text().as_bytes(), at, mishap);
    let said = format!("{mishap:?} at call {at} of {what} ({hit:?}): {}", traced.stderr);
    assert_ended(&traced, hit, &said);
    (hit.is_some(), said, traced.code() == Some(0))
}

fn matrix(what: &'static str, mishap: impl Fn(usize) -> Mishap) {
    let bed = Bed::new();
    let web = web(&bed);
    // The folders, once.
    let first = Netns::new("first");
    let status = web.set_up(&bed, &first);
    web.tear_down(&bed, &first);
    let before = bed.host_state();
    steps(&format!("netavark::{what}"), STRIDE, |at| {
        let netns = Netns::new("pod");
        if what == "teardown" {
            web.set_up(&bed, &netns);
        }
        let (hit, said, is_done) = call(&bed, &web, what, &netns, at, mishap(at));
        match what {
            "setup" if is_done => web.tear_down(&bed, &netns),
            "setup" => {}
            // podman goes on, and unmounts the namespace.
            _ => drop(run("umount", &["--lazy", netns.path().to_str().unwrap()]).unwrap()),
        }
        // It is started again.
        let again = Netns::new("again");
        let call = web.call(&bed, "setup", &again);
        assert_eq!(call.code, 0, "{said}: {}", error(&call));
        let now: serde_json::Value = serde_json::from_str(&call.stdout).unwrap();
        // A setup that was killed between leases and record leaves leases in doubt until somebody needs them; and one that could
        // not read what it had before takes what is free.
        assert!(now == status || what == "setup", "{said}: {now}");
        web.tear_down(&bed, &again);
        bed.gc();
        assert_eq!(bed.gc(), "", "{said}: a second gc");
        bed.assert_nothing_held();
        for netns in [&netns, &again] {
            // It may have been unmounted.
            let links = netns.try_run("ip", "-brief link").unwrap_or_default();
            assert!(links.lines().count() <= 1, "{said}: {links}");
        }
        assert_eq!(bed.host_state(), before, "{said}: the host");
        hit
    });
}
