//! underlay as `make install` leaves it: podman finds the hooks by itself, and all folders are the default ones.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::harness::bed::{Bed, finish};
use crate::harness::container::wait;
use crate::harness::need::Need;
use crate::harness::podman::podman;
use crate::harness::rootfs::rootfs;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 1] =
        [("podman_by_itself", &[Need::Installed, Need::Program("podman")], podman_by_itself)];
    all.map(|(name, needs, run)| Test::new(format!("installed::{name}"), needs, run)).into()
}

fn podman_by_itself() {
    let bed = Bed::new();
    let underlay = |arguments: &str| bed.host.try_run("underlay", arguments);
    let create =
        "network create -d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 installed";
    assert_eq!(underlay(create).unwrap(), "installed\n");
    let rootfs = format!("{}:O", rootfs().display());
    let run = |name: &str, annotation: &str| {
        let arguments = ["run", "--detach", "--restart=always", "--name", name, "--network=none"];
        finish(
            podman(&bed)
                .args(arguments)
                .args(["--annotation", annotation])
                .arg("--rootfs")
                .arg(&rootfs)
                .args(["sleep", "1000"]),
        )
    };
    let id = run("installed", "io.underlay.networks=installed").unwrap();
    let inspect = || -> Option<Value> {
        let shown = underlay(&format!("inspect {}", id.trim())).ok()?;
        serde_json::from_str::<Value>(&shown).ok().filter(|shown| shown["state"] == "attached")
    };
    let before = inspect().unwrap();
    assert_eq!(before["attachments"][0]["addresses"][0], "172.16.86.2/24");
    // podman starts anew what dies: in another namespace, with the same address and MAC address.
    finish(Command::new("kill").args(["-9", &before["holder"]["pid"].to_string()])).unwrap();
    wait(|| inspect().is_some_and(|now| now["holder"] != before["holder"] && now["alive"] == true));
    for what in ["addresses", "mac", "ifname"] {
        assert_eq!(inspect().unwrap()["attachments"][0][what], before["attachments"][0][what], "{what}");
    }
    assert!(fs::exists(format!("/run/underlay/containers/{}.json", id.trim())).unwrap());
    let device = fs::read_to_string("/etc/cdi/underlay.json").unwrap();
    assert!(device.contains(r#""path": "/usr/bin/underlay""#), "{device}");
    let runtime = bed.host.try_run("underlay-runtime", "--version").unwrap();
    assert!(runtime.starts_with("runc version "), "{runtime}");
    let error = run("refused", "io.underlay.networks=").unwrap_err();
    let log = underlay("events").unwrap();
    assert!(log.contains("annotation io.underlay.networks: names no network"), "{log}\n{error}");
    // No annotation of ours, no hook.
    run("other", "org.example=x").unwrap();
    finish(podman(&bed).args(["rm", "--force", "--time", "0", "installed", "refused", "other"])).unwrap();
    assert_eq!(underlay("ps --format json").unwrap(), "[]\n");
    assert_eq!(underlay("network rm installed").unwrap(), "installed\n");
    assert!(!fs::exists("/etc/cdi/underlay.json").unwrap());
}
