//! The crash matrix: the hook is killed at each of its system calls in turn, or one of them fails. Whatever happens, no
//! address is handed out twice, the next attach succeeds, and `underlay gc` leaves exactly what is alive.

use std::fs;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Container, Engine::Bare};
use crate::harness::mishaps::{ERRORS, assert_clean, steps, trace_to, turns};
use crate::harness::need::Need;
use crate::harness::test::Test;
use crate::harness::tracer::{Call, Mishap, Traced};

/// What a container asks for while the hook has bad luck.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    needs: &'static [Need],
    /// The driver of the networks `lan` and `san`.
    driver: &'static str,
    networks: &'static str,
    /// More options of the networks.
    more: &'static str,
    /// The annotation that defines the network `own`.
    own: Option<&'static str>,
    /// Whether addresses are probed for, and somebody on the LAN has the first ones.
    probed: bool,
}

const MACVLAN: Case = Case {
    name: "macvlan",
    needs: &[Need::Macvlan],
    driver: "macvlan",
    networks: "lan",
    more: "",
    own: None,
    probed: false,
};

const IPVLAN: Case = Case { name: "ipvlan", needs: &[Need::Ipvlan], driver: "ipvlan", ..MACVLAN };

const CASES: [Case; 9] = [
    Case { name: "host_access", more: "--host-access", ..MACVLAN },
    MACVLAN,
    IPVLAN,
    Case { name: "two", networks: "lan;san", ..MACVLAN },
    Case {
        name: "rules",
        networks: "lan:table=101,route=10.99.0.0/16@blackhole,route=2001:db8:99::/64@prohibit",
        ..MACVLAN
    },
    Case {
        name: "vlan",
        needs: &[Need::Macvlan, Need::Vlan],
        networks: "own:vlan=50",
        own: Some(
            r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "vlans": "50-59",
                "subnets": [{"subnet": "10.50.0.0/24"}]}"#,
        ),
        ..MACVLAN
    },
    Case {
        name: "dummy",
        needs: &[Need::Macvlan, Need::Dummy],
        networks: "lan;own",
        own: Some(r#"{"version": 1, "driver": "macvlan", "subnets": [{"subnet": "10.51.0.0/24"}]}"#),
        ..MACVLAN
    },
    Case { name: "probed", more: "--host-access", probed: true, ..MACVLAN },
    Case { name: "probed_ipvlan", probed: true, ..IPVLAN },
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for case in CASES {
        let mut add = |name: &str, run: fn(&Matrix)| {
            let run = move || run(&Matrix::new(case));
            tests.push(Test::new(format!("crash::{name}::{}", case.name), case.needs, run));
        };
        add("killed_in_attach", killed_in_attach);
        add("killed_in_detach", killed_in_detach);
        add("error_in_attach", error_in_attach);
        add("error_in_detach", error_in_detach);
    }
    tests
}

/// What became of the hook.
struct Missed {
    traced: Traced,
    /// The system call the mishap happened at; none, if the hook made fewer.
    hit: Option<Call>,
}

/// A bed, and a namespace that outlives the containers in it.
struct Matrix {
    case: Case,
    bed: Bed,
    pinned: Netns,
    before: Vec<String>,
}

impl Matrix {
    fn new(case: Case) -> Self {
        let bed = Bed::new();
        for (name, subnet) in [("lan", 1), ("san", 2)] {
            bed.create(&format!(
                "-d {} --subnet 10.{subnet}.0.0/24 --gateway 10.{subnet}.0.1 --subnet 2001:db8:{subnet}::/64 \
                 -o parent=eth0 {} {name}",
                case.driver, case.more
            ));
        }
        let detection = if case.probed { "20" } else { "\"off\"" };
        let settings = format!(
            r#"{{"version": 1, "inline_networks": true, "conflict_detection": {detection}, "announcements": {}}}"#,
            if case.probed { 2 } else { 0 }
        );
        bed.configure("underlay.json", &settings);
        if case.probed {
            bed.lan.ip_batch(&["addr add 10.1.0.2/32 dev lan0", "addr add 2001:db8:1::1/128 dev lan0 nodad"]);
        }
        let before = bed.host_state();
        Self { case, bed, pinned: Netns::new("pinned"), before }
    }

    /// A container in the pinned namespace, whose hook has not been called.
    fn container(&self) -> Container<'_> {
        if self.case.probed {
            // Without a memory of what others have, or of what was picked last, there are conflicts each time.
            for segment in fs::read_dir(self.bed.path("run/segments")).into_iter().flatten() {
                let _ = fs::remove_file(segment.unwrap().path().join("segment.json"));
            }
        }
        let builder = self.bed.container(Bare, "web").networks(self.case.networks).without_hooks();
        let builder = match self.case.own {
            Some(own) => builder.annotation("io.underlay.network.own", own),
            None => builder,
        };
        builder.in_netns(self.pinned.path()).start().unwrap()
    }

    /// Calls the hook; at its system call number `at` there is `mishap`.
    fn hook(&self, container: &Container<'_>, stage: &str, at: usize, mishap: Mishap) -> Missed {
        let command = self.bed.underlay(&format!("hook {stage}"));
        let (traced, hit) = trace_to(&command, container.state_at(stage).as_bytes(), at, mishap);
        Missed { traced, hit }
    }

    /// Another container gets on the LAN at once, with an address that is nobody's.
    fn next_attach_succeeds(&self, what: &str) -> Container<'_> {
        let in_use = self.pinned.ip("-oneline addr");
        let next = self.bed.container(Bare, "next").networks("lan").start();
        let next = next.unwrap_or_else(|error| panic!("{what}: the next attach failed: {error}"));
        for address in next.addresses("eth0") {
            assert!(!in_use.contains(&format!(" {address} ")), "{what}: {address} is in use\n{in_use}");
        }
        next
    }

    /// Ledger and kernel hold what these containers have, and nothing else.
    fn assert_only(&self, alive: &[&Container<'_>], what: &str) {
        let mut records: Vec<_> = alive.iter().map(|container| format!("{}.json", container.id)).collect();
        records.sort();
        assert_eq!(self.bed.records(), records, "{what}: records");
        let mut addresses: Vec<_> = alive.iter().flat_map(|container| container.addresses("eth0")).collect();
        addresses.iter_mut().for_each(|address| address.truncate(address.find('/').unwrap()));
        assert_eq!(self.routes_of_host(), self.routes_to(&addresses), "{what}: the host's routes");
        // The host keeps its own.
        addresses.extend(self.addresses_of_host());
        addresses.sort();
        let mut leases: Vec<_> =
            self.bed.leases().iter().map(|lease| lease.split_once('/').unwrap().1.to_owned()).collect();
        leases.sort();
        assert_eq!(leases, addresses, "{what}: leases");
        assert_eq!(self.pinned.ip("-brief link").lines().count(), 1, "{what}: links in the namespace");
        let lasting =
            ["rule", "-6 rule", "route show table all proto 117", "-6 route show table all proto 117"];
        let lasting = lasting.map(|shown| self.pinned.ip(shown)).concat();
        assert!(!lasting.contains("117"), "{what}: rules and routes in the namespace: {lasting}");
        let mut state = self.bed.host_state();
        if !alive.is_empty() {
            state.retain(|line| !line.contains("ulh-"));
        }
        assert_eq!(state, self.before, "{what}: the host");
    }

    /// The addresses that are written down for the host's own link.
    fn addresses_of_host(&self) -> Vec<String> {
        let Ok(text) = std::fs::read_to_string(self.bed.path("run/host_links/lan.json")) else {
            return Vec::new();
        };
        let link: serde_json::Value = serde_json::from_str(&text).unwrap();
        link["addresses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|address| address.as_str().unwrap().to_owned())
            .collect()
    }

    /// Where the host's own link leads to.
    fn routes_of_host(&self) -> Vec<String> {
        let state = self.bed.host_state();
        let routes = state.iter().filter(|line| line.contains(" dev ulh-") && line.contains(" src "));
        routes.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }

    /// Where it has to lead to when `addresses` are alive.
    fn routes_to(&self, addresses: &[String]) -> Vec<String> {
        let mut addresses = if self.case.more.is_empty() { Vec::new() } else { addresses.to_vec() };
        addresses.sort_by_key(|address| address.contains(':'));
        addresses
    }

    /// After `gc` only what is alive is left, and a second has nothing to do.
    fn assert_gc_mends(&self, alive: &[&Container<'_>], what: &str) {
        self.bed.gc();
        self.assert_only(alive, what);
        assert_eq!(self.bed.gc(), "", "{what}: a second gc");
    }
}

fn every_call(what: &str, case: Case, each: impl FnMut(usize) -> bool) {
    steps(&format!("{what}::{}", case.name), 1, each);
}

fn killed_in_attach(matrix: &Matrix) {
    every_call("killed_in_attach", matrix.case, |at| {
        let mut web = matrix.container();
        let missed = matrix.hook(&web, "createRuntime", at, Mishap::Kill);
        let what = format!("killed at call {at} ({:?})", missed.hit);
        let next = matrix.next_attach_succeeds(&what);
        web.kill();
        if at % 2 == 0 {
            matrix.assert_gc_mends(&[&next], &what);
        } else {
            // The same container once more, in the same namespace, finds nothing in its way.
            let again = matrix.container();
            let made = again.hook("createRuntime");
            assert_eq!(made.code, 0, "{what}: {made:?}");
            let links = matrix.pinned.ip("-brief link").lines().count();
            assert_eq!(links, 2 + usize::from(matrix.case.networks.contains(';')), "{what}");
            again.stop();
            matrix.assert_gc_mends(&[&next], &what);
        }
        next.stop();
        missed.hit.is_some()
    });
}

fn killed_in_detach(matrix: &Matrix) {
    every_call("killed_in_detach", matrix.case, |at| {
        let mut web = matrix.container();
        assert_eq!(web.hook("createRuntime").code, 0);
        web.kill();
        let missed = matrix.hook(&web, "poststop", at, Mishap::Kill);
        let what = format!("killed at call {at} ({:?})", missed.hit);
        let next = matrix.next_attach_succeeds(&what);
        if at % 2 == 0 {
            let stopped = web.hook("poststop");
            assert_eq!((stopped.code, stopped.stderr.as_str()), (0, ""), "{what}");
        }
        matrix.assert_gc_mends(&[&next], &what);
        next.stop();
        missed.hit.is_some()
    });
}

fn error_in_attach(matrix: &Matrix) {
    for turn in turns() {
        every_call("error_in_attach", matrix.case, |at| {
            let errno = ERRORS[(at + turn) % ERRORS.len()];
            let web = matrix.container();
            let missed = matrix.hook(&web, "createRuntime", at, Mishap::Error(errno));
            let what = format!("{errno:?} at call {at} ({:?}): {}", missed.hit, missed.traced.stderr);
            if missed.traced.code() == Some(0) {
                assert!(!matrix.bed.records().is_empty(), "{what}: attached, but no record");
            } else if assert_clean(&missed.traced, missed.hit, &what) {
                matrix.assert_only(&[], &what);
            }
            web.stop();
            matrix.assert_gc_mends(&[], &what);
            missed.hit.is_some()
        });
    }
}

fn error_in_detach(matrix: &Matrix) {
    for turn in turns() {
        every_call("error_in_detach", matrix.case, |at| {
            let errno = ERRORS[(at + turn) % ERRORS.len()];
            let mut web = matrix.container();
            assert_eq!(web.hook("createRuntime").code, 0);
            web.kill();
            let missed = matrix.hook(&web, "poststop", at, Mishap::Error(errno));
            let what = format!("{errno:?} at call {at} ({:?}): {}", missed.hit, missed.traced.stderr);
            match missed.traced.code() {
                Some(0) if missed.traced.stderr.is_empty() => matrix.assert_only(&[], &what),
                _ => {
                    assert_clean(&missed.traced, missed.hit, &what);
                }
            }
            matrix.assert_gc_mends(&[], &what);
            missed.hit.is_some()
        });
    }
}
