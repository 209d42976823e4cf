//! The agent, as systemd's units run it: there is one, in a cgroup of its own, and one that has ended is started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::host::STATE;
use crate::starts::used_in;

const CGROUP: &str = "/sys/fs/cgroup/underlay-agent";

/// The agent; killed when dropped.
pub struct Agent {
    process: Child,
}

impl Agent {
    pub fn start() -> Self {
        fs::create_dir_all(CGROUP).unwrap();
        Self { process: spawn() }
    }

    /// Starts it again if it has ended, since nothing was to be done.
    pub fn ensure(&mut self) {
        if let Some(status) = self.process.try_wait().unwrap() {
            assert!(status.success(), "the agent has failed: {status}");
            self.process = spawn();
        }
    }

    /// Starts it on a host on which no container has run since the boot.
    pub fn start_anew(&mut self) {
        self.stop();
        fs::remove_dir_all(STATE).unwrap();
        self.process = spawn();
    }

    /// What it has used until now, in nanoseconds.
    pub fn used() -> u64 {
        used_in(Path::new(CGROUP))
    }

    fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn() -> Child {
    let script = format!("echo $$ > {CGROUP}/cgroup.procs && exec underlay agent");
    let process = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
    wait("the agent", || Path::new(STATE).join("agent").exists());
    // The folder may be older than this agent.
    sleep(Duration::from_millis(200));
    process
}

/// Waits until the agent has done all that is due after attaches.
pub fn wait_until_done() {
    wait("the agent's tasks", || {
        fs::read_dir(Path::new(STATE).join("agent")).map_or(0, Iterator::count) == 0
    });
}

/// Waits until the ledger knows addresses that no host has.
pub fn wait_until_asked_ahead() {
    let is_known = |segment: PathBuf| {
        let text = fs::read(segment.join("segment.json")).unwrap_or_default();
        let segment: Value = serde_json::from_slice(&text).unwrap_or_default();
        segment["unclaimed"].as_object().is_some_and(|known| !known.is_empty())
    };
    wait("addresses that are asked for ahead", || {
        let mut segments = fs::read_dir(Path::new(STATE).join("segments")).into_iter().flatten();
        segments.any(|segment| is_known(segment.unwrap().path()))
    });
}

fn wait(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "waited for {what} in vain");
        sleep(Duration::from_millis(20));
    }
}
