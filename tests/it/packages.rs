//! The .deb: what dpkg makes of it, while containers run and when they are gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Test;
use crate::bed::{Bed, finish};
use crate::container::repository;
use crate::need::Need;
use crate::podman::podman;
use crate::rootfs::rootfs;

pub fn tests() -> Vec<Test> {
    let needs = [Need::Installed, Need::Macvlan, Need::Vlan, Need::Program("dpkg"), Need::Program("podman")];
    // It takes away what all others use.
    vec![Test::new("packages::installed_upgraded_purged", &needs, installed_upgraded_purged).alone()]
}

const PROGRAM: &str = "/usr/bin/underlay";
const HOOK: &str = "/usr/share/containers/oci/hooks.d/underlay-createRuntime.json";

/// What the package and its use leave on a machine, if anything.
fn left() -> Vec<&'static str> {
    [
        PROGRAM,
        "/usr/bin/underlay-runtime",
        HOOK,
        "/usr/share/containers/oci/hooks.d/underlay-poststop.json",
        "/usr/lib/systemd/system/underlay-boot.service",
        "/etc/systemd/system/multi-user.target.wants/underlay-boot.service",
        "/usr/share/bash-completion/completions/underlay",
        "/etc/underlay",
        "/var/lib/underlay",
        "/run/underlay",
    ]
    .into_iter()
    .filter(|path| fs::symlink_metadata(path).is_ok())
    .collect()
}

/// The package of this version, and one of a later.
fn package(name: &str) -> PathBuf {
    repository().join(name)
}

/// The order in which dpkg puts files into their places, or takes them away.
fn dpkg(bed: &Bed, arguments: &[&str], package: &Path) -> Vec<String> {
    let trace = bed.path("dpkg");
    let mut command = bed.host.command("strace");
    command
        .args(["-f", "-s", "200", "-e", "trace=rename,renameat,renameat2,unlink,unlinkat", "-o"])
        .arg(&trace);
    let said = finish(command.arg("dpkg").args(arguments).arg(package));
    assert!(said.is_ok(), "{said:?}");
    let trace = fs::read_to_string(trace).unwrap();
    let changed = trace.lines().filter(|line| line.ends_with("= 0"));
    // The last path of a rename is where the file comes to lie.
    changed.filter_map(|line| Some(line.rsplit('"').nth(1)?.to_owned())).collect()
}

#[track_caller]
fn comes_before(order: &[String], first: &str, second: &str) {
    let at = |path: &str| order.iter().position(|changed| changed == path);
    let places = (at(first), at(second));
    assert!(
        matches!(places, (Some(first), Some(second)) if first < second),
        "{first}, {second}: {places:?}\n{order:#?}"
    );
}

fn installed_upgraded_purged() {
    let bed = Bed::new();
    dpkg(&bed, &["--purge"], Path::new("underlay"));
    assert_eq!(left(), [""; 0]);
    // An engine passes over a hook whose program is missing: so it is never missing where there is a hook.
    comes_before(&dpkg(&bed, &["--install"], &package("underlay.deb")), PROGRAM, HOOK);
    let here = left();
    assert!(here.contains(&HOOK) && here.contains(&"/usr/bin/underlay-runtime"), "{here:?}");
    assert!(here.iter().any(|path| path.ends_with("wants/underlay-boot.service")), "enabled: {here:?}");
    assert!(!here.contains(&"/run/underlay"), "nothing has been started: {here:?}");

    // The first container, with nothing but the package.
    let underlay = |arguments: &str| bed.host.try_run("underlay", arguments).unwrap();
    underlay("network create --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net");
    underlay("network create --subnet=10.50.0.0/24 --host-access=10.50.0.9 -o parent=eth0.50 office");
    let mut run = podman(&bed);
    run.args(["run", "--detach", "--name", "packaged", "--network=none", "--annotation"]);
    run.arg("io.underlay.networks=pub_net:ip=172.16.86.10").arg("--rootfs");
    let id = finish(run.arg(format!("{}:O", rootfs().display())).args(["sleep", "1000"])).unwrap();
    let answers = || bed.lan.try_run("busybox", "ping -c 1 -W 5 172.16.86.10").is_ok();
    assert!(answers());

    // A later version, while it runs.
    dpkg(&bed, &["--install"], &package("next/underlay.deb"));
    let version = finish(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", "underlay"]));
    assert_eq!(version.unwrap(), "99");
    assert!(answers(), "its network stays");
    assert!(underlay(&format!("inspect {}", id.trim())).contains("172.16.86.10/24"));
    assert_eq!(underlay("check"), "");
    finish(podman(&bed).args(["rm", "--force", "--time", "0", "packaged"])).unwrap();
    assert_eq!(underlay("ps --format json"), "[]\n", "detached by the hook of its time");

    // Removing keeps what has been configured; purging forgets it, and what it has made on the host.
    assert!(underlay("boot").contains("10.50.0.9"));
    comes_before(&dpkg(&bed, &["--remove"], Path::new("underlay")), HOOK, PROGRAM);
    assert!(left().contains(&"/etc/underlay") && !left().contains(&PROGRAM), "{:?}", left());
    assert!(bed.host.link("eth0.50").is_some());
    dpkg(&bed, &["--purge"], Path::new("underlay"));
    assert_eq!(left(), [""; 0]);
    assert!(bed.host.link("eth0.50").is_none() && bed.host.link("ulh-office").is_none());
    // For the other tests.
    dpkg(&bed, &["--install"], &package("underlay.deb"));
}
