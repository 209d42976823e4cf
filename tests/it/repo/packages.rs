//! The packages: what dpkg makes of the .deb and rpm of the .rpm, while containers run and when they are gone.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::bed::{Bed, finish};
use crate::harness::container::Engine::Podman;
use crate::harness::container::repository;
use crate::harness::need::Need;
use crate::harness::podman::podman;
use crate::harness::rootfs::rootfs;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    let needs = [Need::Installed, Need::Macvlan, Need::Engine(Podman)];
    let with_vlan = [&needs[..], &[Need::Vlan]].concat();
    // They take away what all others use.
    vec![
        Test::new("packages::installed_upgraded_purged", &needs, || deb("eth0")).alone(),
        Test::new("packages::a_vlan_goes_with_a_purge", &with_vlan, || deb(VLAN)).alone(),
        Test::new("packages::rpm_installed_upgraded_erased", &needs, rpm).alone(),
    ]
}

/// A parent that underlay makes.
const VLAN: &str = "eth0.50";

const PROGRAM: &str = "/usr/bin/underlay";
const RUNTIME: &str = "/usr/bin/underlay-runtime";
const HOOK: &str = "/usr/share/containers/oci/hooks.d/underlay-createRuntime.json";

/// What a package leaves on a machine, if anything.
fn placed() -> Vec<&'static str> {
    there(&[
        PROGRAM,
        RUNTIME,
        HOOK,
        "/usr/share/containers/oci/hooks.d/underlay-poststop.json",
        "/usr/lib/systemd/system/underlay-boot.service",
        "/usr/lib/systemd/system/underlay-agent.path",
        "/usr/lib/systemd/system/underlay-agent.service",
        "/usr/lib/systemd/system/underlay-docker.socket",
        "/usr/lib/systemd/system/underlay-docker.service",
        "/etc/systemd/system/multi-user.target.wants/underlay-boot.service",
        "/etc/systemd/system/paths.target.wants/underlay-agent.path",
        "/etc/systemd/system/sockets.target.wants/underlay-docker.socket",
        "/usr/share/bash-completion/completions/underlay",
        "/usr/share/doc/underlay",
        "/usr/share/licenses/underlay",
    ])
}

/// What its use leaves.
fn used() -> Vec<&'static str> {
    there(&["/etc/underlay", "/var/lib/underlay", "/run/underlay"])
}

fn there(paths: &[&'static str]) -> Vec<&'static str> {
    paths.iter().copied().filter(|path| fs::symlink_metadata(path).is_ok()).collect()
}

/// What `command` did to files, in that order: `+` before what came into its place, `-` before what went.
fn changes(bed: &Bed, command: &str) -> Vec<String> {
    let trace = bed.path("trace");
    let mut strace = bed.host.command("strace");
    strace.args(["-f", "-y", "-s", "200", "-e", "trace=/^(rename|unlink|symlink)", "-o"]).arg(&trace);
    let said = finish(strace.args(command.split_whitespace()).current_dir(repository()));
    assert!(said.is_ok(), "{said:?}");
    let mut changes = Vec::new();
    let text = fs::read_to_string(trace).unwrap();
    for line in whole(&text).iter().filter(|line| line.ends_with("= 0")) {
        let mut paths = paths(line);
        let last = paths.pop().unwrap();
        if line.contains(" rename") {
            changes.push(format!("-{}", paths.pop().unwrap()));
        }
        changes.push(format!("{}{last}", if line.contains(" unlink") { '-' } else { '+' }));
    }
    changes
}

/// The lines of strace's, where a call that another process came between is in one again.
fn whole(text: &str) -> Vec<String> {
    let mut unfinished = std::collections::BTreeMap::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let pid = line.split(' ').next().unwrap_or_default();
        if let Some(begin) = line.strip_suffix(" <unfinished ...>") {
            unfinished.insert(pid, begin);
        } else if let Some((_, end)) = line.split_once(" resumed>") {
            let begin = unfinished.remove(pid).unwrap_or_default();
            lines.push(format!("{begin}{end}"));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The paths in a line of strace's, which says `5</usr/bin>, "underlay"` of one below an open folder.
fn paths(line: &str) -> Vec<String> {
    let parts: Vec<&str> = line.split('"').collect();
    let named = parts.chunks_exact(2).map(|pair| (pair[0].strip_suffix(">, "), pair[1]));
    let path = |(folder, name): (Option<&str>, &str)| match folder.and_then(|text| text.rsplit_once('<')) {
        Some((_, folder)) => Path::new(folder).join(name).display().to_string(),
        None => name.to_owned(),
    };
    named.map(path).collect()
}

#[track_caller]
fn comes_before(changes: &[String], first: &str, second: &str) {
    let at = |change: &str| changes.iter().position(|changed| changed == change);
    let places = (at(first), at(second));
    assert!(
        matches!(places, (Some(first), Some(second)) if first < second),
        "{first}, {second}: {places:?}\n{changes:#?}"
    );
}

/// An engine passes over a hook whose program is missing: so it is never missing where there is a hook.
#[track_caller]
fn installs(bed: &Bed, command: &str) {
    comes_before(&changes(bed, command), &format!("+{PROGRAM}"), &format!("+{HOOK}"));
    let here = placed();
    assert!(here.contains(&HOOK) && here.contains(&RUNTIME), "{here:?}");
    assert!(here.iter().any(|path| path.ends_with("wants/underlay-boot.service")), "enabled: {here:?}");
    assert_eq!(there(&["/run/underlay"]), [""; 0], "nothing has been started");
}

/// Nothing that an engine reads or runs is away for an instant.
#[track_caller]
fn upgrades(bed: &Bed, command: &str) {
    let (before, changes) = (placed(), changes(bed, command));
    assert!(
        changes.contains(&format!("+{PROGRAM}")) && changes.contains(&format!("+{HOOK}")),
        "{changes:#?}"
    );
    for path in [PROGRAM, RUNTIME, HOOK] {
        assert!(!changes.contains(&format!("-{path}")), "{path} was away: {changes:#?}");
    }
    assert_eq!(placed(), before);
}

#[track_caller]
fn removes(bed: &Bed, command: &str) {
    comes_before(&changes(bed, command), &format!("-{HOOK}"), &format!("-{PROGRAM}"));
    assert!(used().contains(&"/etc/underlay") && !placed().contains(&PROGRAM), "{:?}", (used(), placed()));
    assert!(bed.host.link("ulh-office").is_some(), "what it has made on the host stays");
}

fn underlay(bed: &Bed, arguments: &str) -> String {
    bed.host.try_run("underlay", arguments).unwrap()
}

fn create_networks(bed: &Bed, parent: &str) {
    underlay(bed, "network create --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net");
    let office = format!("--subnet=10.50.0.0/24 --host-access=10.50.0.9 -o parent={parent} office");
    underlay(bed, &format!("network create {office}"));
}

/// The id of a container that is started with nothing but the package.
fn start(bed: &Bed) -> String {
    let mut run = podman(bed);
    run.args(["run", "--detach", "--name", "packaged", "--network=none", "--annotation"]);
    run.arg("io.underlay.networks=pub_net:ip=172.16.86.10").arg("--rootfs");
    let id = finish(run.arg(format!("{}:O", rootfs().display())).args(["sleep", "1000"])).unwrap();
    id.trim().to_owned()
}

fn stop(bed: &Bed) {
    finish(podman(bed).args(["rm", "--force", "--time", "0", "packaged"])).unwrap();
}

/// A container runs while `upgrade` is done.
fn keeps_its_network(bed: &Bed, upgrade: impl FnOnce()) {
    let id = start(bed);
    assert!(bed.answers("172.16.86.10"));
    upgrade();
    assert!(bed.answers("172.16.86.10"), "its network stays");
    assert!(underlay(bed, &format!("inspect {id}")).contains("172.16.86.10/24"));
    assert_eq!(underlay(bed, "check"), "");
    stop(bed);
    assert_eq!(underlay(bed, "ps --format json"), "[]\n", "detached by the hook of its time");
}

fn deb(parent: &str) {
    let bed = Bed::new();
    changes(&bed, "dpkg --purge underlay");
    assert_eq!((placed(), used()), (vec![], vec![]));
    installs(&bed, "dpkg --install underlay.deb");
    create_networks(&bed, parent);
    keeps_its_network(&bed, || upgrades(&bed, "dpkg --install next/underlay.deb"));
    let version = finish(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "underlay"]));
    assert_eq!(version.unwrap(), "99");

    // Removing keeps what has been configured; purging forgets it, and what it has made on the host.
    assert!(underlay(&bed, "boot").contains("10.50.0.9"));
    removes(&bed, "dpkg --remove underlay");
    changes(&bed, "dpkg --purge underlay");
    assert_eq!((placed(), used()), (vec![], vec![]));
    assert!(bed.host.link(VLAN).is_none() && bed.host.link("ulh-office").is_none());
    for left in ["/etc/cdi/underlay.json", "/run/underlay.made"] {
        assert!(!fs::exists(left).unwrap(), "{left}");
    }
    // For the other tests.
    changes(&bed, "dpkg --install underlay.deb");
}

/// Debian's rpm knows nothing of Debian's packages, so it is told not to ask for a shell.
fn rpm() {
    let bed = Bed::new();
    changes(&bed, "dpkg --purge underlay");
    installs(&bed, "rpm --install --nodeps underlay.rpm");
    create_networks(&bed, "eth0");
    keeps_its_network(&bed, || upgrades(&bed, "rpm --upgrade --nodeps next/underlay.rpm"));
    let version = finish(Command::new("rpm").args(["--query", "--queryformat=%{VERSION}", "underlay"]));
    assert_eq!(version.unwrap(), "99");

    // Erasing keeps all but the package itself: what is configured, remembered, made and running.
    assert!(underlay(&bed, "boot").contains("10.50.0.9"));
    let id = start(&bed);
    removes(&bed, "rpm --erase --nodeps underlay");
    assert_eq!(placed(), [""; 0]);
    assert_eq!(used().len(), 3, "{:?}", used());
    assert!(!fs::exists("/etc/cdi/underlay.json").unwrap(), "engines offer no device whose hook is gone");
    assert!(fs::exists(format!("/run/underlay/containers/{id}.json")).unwrap());
    assert!(bed.host.link("ulh-office").is_some() && bed.answers("172.16.86.10"));
    stop(&bed);
    // For the other tests.
    for folder in used() {
        fs::remove_dir_all(folder).unwrap();
    }
    changes(&bed, "dpkg --install underlay.deb");
}
