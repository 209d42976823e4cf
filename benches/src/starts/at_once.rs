//! Many containers that are started at once.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cases::record;
use crate::docker::IMAGE;
use crate::measure::{Cost, Job};
use crate::starts::cases::{BUNDLES, bundle};
use crate::starts::{Bench, OURS, used};

/// How many.
pub const COUNT: usize = 200;
/// It takes long, and so it is measured so much less often.
const LESS: usize = 4;

/// What is counted of all that were started at once, and of ours.
#[derive(Default)]
pub struct Counted {
    /// How many did not start.
    pub failed: usize,
    /// How many processes of ours were there a second later, at most.
    pub processes: usize,
}

impl Bench {
    /// Starts containers at once.
    pub fn at_once(&mut self) -> Counted {
        let mut counted = Counted::default();
        let rounds = self.rounds.div_ceil(LESS);
        for number in 1..=rounds {
            for name in BUNDLES {
                let bundle = bundle(&self.folder, "sleep", name);
                let crun = |id| format!("crun run --detach --bundle {} once-{id}", bundle.display());
                let cost = start(crun, &mut counted);
                record(&mut self.results, &format!("crun run, {COUNT} at once: {name}"), cost);
                for id in 0..COUNT {
                    Job::new(&format!("crun delete --force once-{id}")).run();
                }
                self.rest();
            }
            for (network, options) in [("none", "--network none"), ("ours", OURS)] {
                let podman = |_| format!("podman run -d {options} {IMAGE} sleep 1000");
                let cost = start(podman, &mut counted);
                record(&mut self.results, &format!("podman run -d, {COUNT} at once: {network}"), cost);
                Job::new("podman rm -f -t 0 --all").run();
                self.rest();
            }
            eprintln!("bench: at once, round {number} of {rounds}");
        }
        counted
    }

    /// Until the kernel has taken their namespaces apart.
    fn rest(&mut self) {
        sleep(Duration::from_secs(2));
        self.settle();
    }
}

/// Starts containers by `command`; what it costs until all run, and a second longer.
fn start(command: impl Fn(usize) -> String, counted: &mut Counted) -> Cost {
    let (begun, begin) = (Instant::now(), used());
    let spawn = |id| {
        let words = command(id);
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
    };
    let all: Vec<_> = (0..COUNT).map(spawn).collect();
    for mut one in all {
        counted.failed += usize::from(!one.wait().unwrap().success());
    }
    let wall = begun.elapsed().as_nanos() as u64;
    sleep(Duration::from_secs(1));
    counted.processes = counted.processes.max(processes());
    Cost { wall, cpu: used() - begin, memory: 0 }
}

/// How many processes of ours there are, the agent among them.
fn processes() -> usize {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let names = processes.filter_map(|process| fs::read_to_string(process.path().join("comm")).ok());
    names.filter(|name| name.trim() == "underlay").count()
}
