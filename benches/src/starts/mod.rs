//! The benchmark of `make bench-starts`: whole starts and stops of containers as users see them, with networks and agent as
//! they are by default. It is run in a Debian with its engines and the package, on this machine's own kernel and clock.

mod agent;
mod at_once;
mod attach;
mod cases;
mod report;
mod systemd;

use std::env::current_exe;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use crate::cases::{Results, record};
use crate::docker::{Daemon, IMAGE};
use crate::image::Image;
use crate::lan::{Lan, ip};
use crate::measure::Job;
use agent::Agent;
use cases::Case;
use systemd::Systemd;

const PARENT: &str = "eth0";
/// What asks for our network.
const OURS: &str = "--network none --annotation io.underlay.networks=lan";
const OURS_BY_CDI: &str = "--network none --device underlay.io/net=lan";
/// The runs of each case that do not count.
const WARM_UP: usize = 2;
/// After each run: what it has left to do does not fall into the next one.
const PAUSE: Duration = Duration::from_millis(400);

/// What is measured on: a parent with a LAN, a network of each engine, and the agent.
struct Bench {
    folder: PathBuf,
    image: Image,
    agent: Agent,
    results: Results,
    rounds: usize,
    _lan: Lan,
}

/// Measures `rounds` runs of each case, and writes what it has found into the folder `out`.
pub fn run(rounds: usize, out: &Path) {
    let mut bench = Bench::new(rounds);
    // Before Docker's daemon, which never rests quite.
    bench.attaches();
    bench.starts();
    let counted = bench.at_once();
    bench.first_starts();
    println!("{}", report::write(out, &bench.results, &counted));
}

impl Bench {
    fn new(rounds: usize) -> Self {
        let folder = PathBuf::from("/run/underlay-bench");
        fs::create_dir_all(&folder).unwrap();
        let lan = Lan::new();
        lan.connect(PARENT, "lan0");
        ip(&format!("addr add 10.210.0.2/16 dev {PARENT}"));
        // A host that answers for its own address, and for no other.
        lan.ip("addr add 10.210.0.1/16 dev lan0");
        let image = Image::new(&folder);
        Job::new(&format!(
            "underlay network create --subnet 10.210.0.0/16 --gateway 10.210.0.1 -o parent={PARENT} lan"
        ))
        .run();
        Job::new(&format!("podman import {} {IMAGE}", image.archive().display())).run();
        Job::new(&format!(
            "podman network create -d macvlan --subnet 10.205.0.0/16 --gateway 10.205.0.1 -o parent={PARENT} bench"
        ))
        .run();
        // The subnet that the agent asks ahead in.
        Job::new(&format!(
            "podman network create -d underlay --subnet 10.210.0.0/16 --gateway 10.210.0.1 -o parent={PARENT} ours"
        ))
        .run();
        for (name, hooks, annotations) in cases::bundles(&program("empty")) {
            for (kind, command) in [("true", "true"), ("sleep", "sleep 1000")] {
                image.bundle(&cases::bundle(&folder, kind, name), command, &annotations, &hooks);
            }
        }
        let mut bench =
            Self { folder, image, agent: Agent::start(), results: Results::new(), rounds, _lan: lan };
        bench.ask_ahead();
        bench
    }

    /// Has the agent ask ahead, as on a host where containers have run before.
    fn ask_ahead(&mut self) {
        Job::new(&format!("podman run -d --name before {OURS} {IMAGE} sleep 1000")).run();
        agent::wait_until_asked_ahead();
        Job::new("podman rm -f -t 0 before").run();
        self.settle();
    }

    /// Lets what is begun come to its end.
    fn settle(&mut self) {
        sleep(PAUSE);
        self.agent.ensure();
    }

    /// The engines' starts and stops, in turns.
    fn starts(&mut self) {
        let docker = Daemon::start(self.folder.join("docker"), &self.image);
        docker.create_macvlan(PARENT);
        // It has the socket of Docker's plugin, too.
        let systemd = Systemd::start(&cases::QUADLETS);
        docker.create_ours(PARENT);
        let cases = cases::all(&self.folder, &docker, &systemd);
        for number in 0..WARM_UP + self.rounds {
            for case in in_turn(&cases, number) {
                self.measure(case, number);
            }
            eprintln!("bench: starts, round {number} of {}", WARM_UP + self.rounds);
        }
    }

    /// The first start on a host, whose agent has asked for nothing yet.
    fn first_starts(&mut self) {
        let run = Job::new(&format!("podman run --rm {OURS} {IMAGE} true"));
        let case = Case::of("podman run --rm, the first start: ours", run);
        for number in 0..WARM_UP + self.rounds {
            self.agent.start_anew();
            self.measure(&case, number);
        }
    }

    /// Run `number` of `case`.
    fn measure(&mut self, case: &Case, number: usize) {
        self.agent.ensure();
        for (name, cost) in case.run(PAUSE) {
            if number >= WARM_UP {
                record(&mut self.results, &name, cost);
            }
        }
    }
}

/// A program of this crate.
fn program(name: &str) -> String {
    current_exe().unwrap().with_file_name(name).display().to_string()
}

/// All of them, in another order in each round.
fn in_turn<T>(all: &[T], round: usize) -> impl Iterator<Item = &T> {
    let (before, after) = all.split_at(round % all.len());
    after.iter().chain(before)
}

/// What all processes here have used until now, in nanoseconds.
fn used() -> u64 {
    used_in(Path::new("/sys/fs/cgroup"))
}

/// What the processes of `cgroup` have used.
fn used_in(cgroup: &Path) -> u64 {
    let text = fs::read_to_string(cgroup.join("cpu.stat")).unwrap();
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap();
    usage.parse::<u64>().unwrap() * 1000
}
