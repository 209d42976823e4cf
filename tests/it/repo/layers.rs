//! The layers of the code: which folder uses which, and where there is input and output.

mod source;

use std::collections::BTreeSet;
use std::fs;

use self::source::{Source, list, sources, uses};
use crate::harness::container::repository;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let all: [(&str, fn()); 6] = [
        ("folders_use_those_below", folders),
        ("no_two_files_use_each_other", circles),
        ("values_and_rules_do_no_io", pure),
        ("one_door_per_resource", doors),
        ("no_unsafe_code", no_unsafe_code),
        ("every_file_is_one_subject", sizes),
    ];
    all.map(|(name, run)| Test::new(format!("layers::{name}"), &[], run)).into()
}

/// The folders of src, and the files that lie in none. Each uses those behind it alone.
const ORDER: [&str; 22] = [
    "main",
    "lib",
    "cli",
    "frontend",
    "diagnose",
    "lifecycle",
    "kernel",
    "netlink",
    "ipam",
    "plan",
    "ledger",
    "oci",
    "import",
    "config",
    "dhcp",
    "net",
    "fs",
    "json",
    "escape",
    "random",
    "hash",
    "error",
];

/// Values and rules. But for `oci/state.rs`, which reads stdin and the bundle.
const PURE: [&str; 11] =
    ["ipam", "plan", "oci", "config", "import", "dhcp", "net", "json", "escape", "hash", "error"];

fn all() -> Vec<Source> {
    let all = sources(&repository().join("src"));
    assert!(all.len() > 100, "src has {} files only", all.len());
    all
}

fn folders() {
    let (sources, mut wrong) = (all(), Vec::new());
    let place = |source: &Source| {
        let place = ORDER.iter().position(|folder| *folder == source.folder());
        place.unwrap_or_else(|| panic!("{} has no place in the order of the folders", source.name))
    };
    let places: Vec<_> = sources.iter().map(place).collect();
    for (at, used) in uses(&sources).into_iter().enumerate() {
        let above = used.into_iter().filter(|&used| places[used] < places[at]);
        wrong.extend(above.map(|used| format!("{} uses {}", sources[at].name, sources[used].name)));
    }
    assert!(wrong.is_empty(), "against the order of the folders:\n{}", wrong.join("\n"));
    for folder in ORDER {
        assert!(sources.iter().any(|source| source.folder() == folder), "there is no {folder}");
    }
}

fn circles() {
    let sources = all();
    let uses = uses(&sources);
    let reached = |from: usize| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(uses[at].iter().filter(|&&used| reached.insert(used)));
        }
        reached
    };
    let reached: Vec<_> = (0..sources.len()).map(reached).collect();
    let mut wrong = Vec::new();
    for (at, used) in uses.iter().enumerate() {
        let back = used.iter().filter(|&&used| reached[used].contains(&at));
        wrong.extend(back.map(|&used| format!("{} uses {}", sources[at].name, sources[used].name)));
    }
    assert!(wrong.is_empty(), "files use each other in a circle:\n{}", wrong.join("\n"));
}

fn pure() {
    for source in all() {
        if !PURE.contains(&source.folder()) || source.name == "oci/state.rs" {
            continue;
        }
        for forbidden in [
            "std::fs",
            "std::os::unix::fs",
            "std::process",
            "std::env",
            "std::thread",
            "Instant",
            "SystemTime",
            "nix",
            "rustix",
            "neli",
            "fs2",
            "crate::fs",
            // They read and write files, and `now` reads the clock.
            "ledger::Store",
            "ledger::Locked",
            "ledger::segment_hints",
        ] {
            assert!(!source.names(forbidden), "{} names {forbidden}", source.name);
        }
    }
}

fn doors() {
    for source in all() {
        let name = &source.name;
        for (resource, doors) in [
            ("neli", &["netlink/"][..]),
            ("rustix", &["kernel/", "netlink/", "random.rs"]),
            ("nix::sched", &["kernel/netns.rs"]),
            ("fs2", &["ledger/lock.rs"]),
            ("oci_spec", &["oci/state.rs"]),
            ("clap", &["cli/"]),
            // The crate can walk through folders too.
            ("glob", &["config/pattern.rs"]),
            ("io::stdout", &["cli/output.rs"]),
            ("io::stderr", &["cli/output.rs"]),
        ] {
            let is_door = doors.iter().any(|door| name.starts_with(door));
            assert!(is_door || !source.names(resource), "{name} names {resource}, whose doors are {doors:?}");
        }
        assert!(!source.names("process::exit"), "{name} has process::exit");
        let prints = source.tokens.windows(2).any(|two| two[0].ends_with("println") && two[1] == "!");
        assert!(!prints, "{name} has println!");
    }
}

/// The compiler forbids it, and nobody can allow it again: `forbid` is not undone by an attribute.
fn no_unsafe_code() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let lints = manifest.split("[lints.rust]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    assert!(lints.lines().any(|line| line == "unsafe_code = \"deny\""), "{lints}");
    for source in all() {
        // But for the name of `main`, which nothing else may have.
        let allowed = if source.name == "main.rs" { vec!["unsafe_code", "unsafe"] } else { Vec::new() };
        let found: Vec<_> = source.tokens.iter().filter(|token| token.contains("unsafe")).collect();
        assert_eq!(found, allowed, "{}", source.name);
        assert!(allowed.is_empty() || source.text.contains("#[unsafe(no_mangle)]"), "{}", source.name);
    }
}

fn sizes() {
    let mut files = Vec::new();
    list(&repository().join("src"), &mut files);
    for path in files {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 420, "{} has {lines} lines: is it still one subject?", path.display());
    }
}
