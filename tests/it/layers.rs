//! The layers of the code, as ARCHITECTURE.md states them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Test;
use crate::container::repository;

pub fn tests() -> Vec<Test> {
    let all: [(&str, fn()); 4] = [
        ("words_do_no_io", words),
        ("one_door_per_resource", doors),
        ("no_unsafe_code", no_unsafe_code),
        ("every_file_is_one_subject", sizes),
    ];
    all.map(|(name, run)| Test::new(format!("layers::{name}"), &[], run)).into()
}

/// Values and rules without I/O, clock or environment.
const WORDS: [&str; 61] = [
    "oci/address",
    "net/address_range",
    "oci/asked",
    "ipam/assign",
    "oci/cdi",
    "net/claim",
    "diagnose/compare",
    "config/detection",
    "diagnose/containers",
    "diagnose/docker",
    "diagnose/files",
    "diagnose/hooks",
    "diagnose/kernel",
    "diagnose/machine",
    "diagnose/mod",
    "diagnose/parents",
    "diagnose/programs",
    "diagnose/quarantine",
    "diagnose/difference",
    "net/driver",
    "error",
    "ledger/event",
    "diagnose/finding",
    "import/docker",
    "import/mod",
    "import/podman",
    "net/frame",
    "hash",
    "ipam/hint",
    "config/host_access",
    "ledger/host_link",
    "plan/host_plan",
    "oci/injection",
    "net/ipv6",
    "json",
    "plan/lasting",
    "net/link",
    "net/mac",
    "net/mark",
    "net/name",
    "config/network",
    "config/network_file",
    "oci/own_hooks",
    "net/parent",
    "config/pattern",
    "plan",
    "escape/printable",
    "ledger/quarantine",
    "ledger/record",
    "oci/request",
    "config/reservation",
    "net/route",
    "oci/runtime_call",
    "net/seal",
    "config/settings",
    "lifecycle/sharing",
    "escape/shell",
    "net/subnet",
    "net/tuning",
    "net/vlan",
    "net/ways",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// The code of a file, without its tests and comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn words() {
    let src = repository().join("src");
    for word in WORDS {
        // The bytes of a file name are no I/O.
        let code = code(&src.join(format!("{word}.rs"))).replace("std::os::unix::ffi::", "");
        for forbidden in [
            "std::fs",
            "std::env",
            "std::thread",
            "std::process",
            "Instant",
            "SystemTime",
            "neli",
            "nix::",
            "fs2",
            "oci_spec",
            "crate::kernel",
            "crate::store",
            "crate::oci",
            "crate::file",
        ] {
            assert!(!code.contains(forbidden), "{word}.rs names {forbidden}");
        }
    }
}

fn doors() {
    let src = repository().join("src");
    for path in sources(&src) {
        let (code, name) = (code(&path), path.strip_prefix(&src).unwrap().display().to_string());
        for (resource, door) in [
            ("neli", "kernel/"),
            ("rustix", "kernel/"),
            ("nix::sched", "kernel/netns.rs"),
            ("fs2", "ledger/lock.rs"),
            ("oci_spec", "oci.rs"),
            ("clap", "cli/"),
            // The crate can walk through folders too.
            ("glob", "pattern.rs"),
            ("io::stdout", "cli/output.rs"),
            ("io::stderr", "cli/output.rs"),
        ] {
            let named = code.contains(&format!("{resource}::")) || code.contains(&format!("{resource}("));
            assert!(!named || name.starts_with(door), "{name} names {resource}, whose door is {door}");
        }
        for forbidden in ["process::exit", "println!"] {
            assert!(!code.contains(forbidden), "{name} has {forbidden}");
        }
    }
}

/// The compiler forbids it, and nobody can allow it again: `forbid` is not undone by an attribute.
fn no_unsafe_code() {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let lints = manifest.split("[lints.rust]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    assert!(lints.lines().any(|line| line == "unsafe_code = \"deny\""), "{lints}");
    for path in sources(&repository().join("src")) {
        // But for the name of `main`, which nothing else may have.
        let name = if path.ends_with("src/main.rs") { "#[unsafe(no_mangle)]" } else { "" };
        let code = code(&path).replacen(name, "", 1).replacen(
            "expect(unsafe_code",
            "",
            usize::from(!name.is_empty()),
        );
        assert!(!code.contains("unsafe"), "{}", path.display());
    }
}

fn sizes() {
    for path in sources(&repository().join("src")) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 420, "{} has {lines} lines: is it still one subject?", path.display());
    }
}
