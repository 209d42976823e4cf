//! The agent of a bed, as a process of the tests.

use std::cell::RefCell;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use crate::harness::bed::Bed;
use crate::harness::container::wait;

/// A running agent; killed when dropped.
pub struct Agent {
    child: RefCell<Child>,
    pid: u32,
    log: PathBuf,
}

impl Agent {
    /// Starts the agent of `bed`, and waits until it is it.
    pub fn start(bed: &Bed) -> Self {
        let log = bed.path("agent.log");
        let file = File::create(&log).unwrap();
        let mut command = bed.underlay("agent");
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).env("RUST_LOG", "debug");
        let child = command.spawn().unwrap();
        let agent = Self { pid: child.id(), child: child.into(), log };
        wait(|| agent.is_it() && bed.path("run/agent").exists());
        agent
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has the agent's lock.
    fn is_it(&self) -> bool {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().flatten();
        let mut locks = files.filter(|file| {
            fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy().contains("/agent.lock"))
        });
        locks.any(|file| {
            let number = file.file_name().into_string().unwrap();
            let path = format!("/proc/{}/fdinfo/{number}", self.pid());
            fs::read_to_string(path).is_ok_and(|text| text.contains("OFDLCK"))
        })
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Whether it has ended, and how.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.borrow_mut().try_wait().unwrap()
    }

    /// What its descriptors lead to, and the inode of each network namespace that one of its threads is in.
    pub fn descriptors(&self) -> Vec<String> {
        let files = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let targets = files.filter_map(|file| fs::read_link(file.unwrap().path()).ok());
        targets.map(|to| to.display().to_string()).collect()
    }

    /// Its memory that is not shared, in KiB.
    pub fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let child = self.child.get_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// How many tasks the agent of `bed` has not finished with.
pub fn tasks(bed: &Bed) -> usize {
    fs::read_dir(bed.path("run/agent")).map_or(0, Iterator::count)
}

/// The addresses that the ledger of `bed` knows to be unclaimed.
pub fn unclaimed(bed: &Bed) -> Vec<String> {
    let segments = fs::read_dir(bed.path("run/segments")).into_iter().flatten();
    let mut all = Vec::new();
    for segment in segments {
        let Ok(text) = fs::read(segment.unwrap().path().join("segment.json")) else { continue };
        let Ok(segment) = serde_json::from_slice::<serde_json::Value>(&text) else { continue };
        all.extend(segment["unclaimed"].as_object().into_iter().flat_map(|known| known.keys().cloned()));
    }
    all
}
