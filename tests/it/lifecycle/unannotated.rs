//! A container that asks for nothing costs next to nothing.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::bed::{Bed, binary, outcome};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "unannotated::only_state_and_config_are_read",
        &[Need::Macvlan, Need::Tool("strace")],
        traced,
    )]
}

fn traced() {
    let bed = Bed::with_pub_net("macvlan", "");
    let _ = fs::remove_dir_all(bed.path("run"));
    let container =
        bed.container(Bare, "web").annotation("org.example", "x").without_hooks().start().unwrap();
    let trace = bed.path("trace");
    let mut command = Command::new("strace");
    command
        .arg("-f")
        .arg("-o")
        .arg(&trace)
        .arg(binary())
        .args(bed.dirs())
        .args(["hook", "createRuntime"])
        .arg0("strace");
    let done = outcome(&mut command, container.state(container.pid, "created").as_bytes());
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (0, "", ""));
    let trace = fs::read_to_string(trace).unwrap();
    // From the first read of stdin on; before it, the program and its libraries are loaded.
    let start = trace.find("read(0,").expect("stdin is read");
    let calls: Vec<_> =
        trace[start..].lines().map(|line| line.split_once(' ').map_or(line, |(_, call)| call)).collect();
    let opened: Vec<_> = calls.iter().filter(|call| call.contains("open")).collect();
    assert_eq!(opened.len(), 1, "{opened:#?}");
    assert!(opened[0].contains("config.json"), "{opened:?}");
    let forbidden =
        ["socket(", "flock(", "write(", "mkdir", "rename", "symlink", "unlink", "clone", "setns("];
    let found: Vec<_> =
        calls.iter().filter(|call| forbidden.iter().any(|name| call.contains(name))).collect();
    assert!(found.is_empty(), "{found:#?}");
    assert!(!bed.path("run").exists());
}
