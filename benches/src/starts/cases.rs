//! What users wait for: starts and stops of one container, by each engine, without a network, in a macvlan network of its own,
//! in ours, and in a network of its own with driver `underlay`.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::docker::{Daemon, IMAGE};
use crate::engines::{by_stage, hooks};
use crate::measure::{Cost, Job};
use crate::starts::systemd::Systemd;
use crate::starts::{OURS, OURS_BY_CDI, used};

/// Commands, one after the other, and what is measured of them.
pub struct Case {
    /// Not measured, as what comes after.
    before: Vec<Job>,
    /// Each with the names of the results that its time counts to.
    measured: Vec<(Vec<String>, Job)>,
    after: Vec<Job>,
}

impl Case {
    /// The case `name` of one command.
    pub fn of(name: &str, job: Job) -> Self {
        Self { before: Vec::new(), measured: vec![(vec![name.to_owned()], job)], after: Vec::new() }
    }

    /// Runs it. What is used in the `pause` after the last command counts as well: by what it has left behind, as the agent's
    /// work and podman's cleanup.
    pub fn run(&self, pause: Duration) -> Vec<(String, Cost)> {
        aside(&self.before, pause);
        let mut results: Vec<(String, Cost)> = Vec::new();
        for (names, job) in &self.measured {
            let begin = used();
            let wall = job.run().wall;
            for name in names {
                match results.iter_mut().find(|(known, _)| known == name) {
                    Some((_, cost)) => cost.wall += wall,
                    None => results.push((name.clone(), Cost { wall, cpu: begin, memory: 0 })),
                }
            }
        }
        sleep(pause);
        let end = used();
        results.iter_mut().for_each(|(_, cost)| cost.cpu = end - cost.cpu);
        aside(&self.after, pause);
        results
    }
}

fn aside(jobs: &[Job], pause: Duration) {
    for job in jobs {
        job.run();
        sleep(pause);
    }
}

/// Bundles for crun and runc: the name, hooks and annotations of each. What does nothing at the same stages, as `empty`, costs
/// what any hook does.
pub fn bundles(empty: &str) -> [(&'static str, Value, Value); 3] {
    let at_both = |program| by_stage(&hooks(program));
    [
        ("none", json!({}), json!({})),
        ("empty hooks", at_both(empty), json!({})),
        ("ours", at_both("/usr/bin/underlay"), json!({"io.underlay.networks": "lan"})),
    ]
}

/// The names of these bundles, and of what is made of them.
pub const BUNDLES: [&str; 3] = ["none", "empty hooks", "ours"];

/// The folder of the bundle `name` that runs `program`.
pub fn bundle(folder: &Path, program: &str, name: &str) -> PathBuf {
    folder.join(format!("{program}-{}", name.replace(' ', "-")))
}

/// Containers as services of systemd: the name of each, and its network.
pub const QUADLETS: [(&str, &str); 3] = [
    ("none", "Network=none"),
    ("own", "Network=bench"),
    ("ours", "Network=none\nPodmanArgs=--annotation=io.underlay.networks=lan"),
];

/// All cases.
pub fn all(folder: &Path, docker: &Daemon, systemd: &Systemd) -> Vec<Case> {
    let podman = |arguments: &str| Job::new(&format!("podman {arguments}"));
    let docker = |arguments: &str| docker.job(arguments);
    let mut cases = Vec::new();
    for (network, options) in [
        ("none", "--network none"),
        ("its macvlan", "--network bench"),
        ("ours", OURS),
        ("its network of ours", "--network ours"),
    ] {
        let run = |options: &str, command: &str| podman(&format!("run {options} {IMAGE} {command}"));
        cases.push(Case::of(&format!("podman run --rm: {network}"), run(&format!("--rm {options}"), "true")));
        let (both, remove) =
            (format!("podman run -d and rm -f: {network}"), format!("podman rm -f: {network}"));
        let start = run(&format!("-d --name removed {options}"), "sleep 1000");
        cases.push(Case {
            before: Vec::new(),
            measured: vec![(vec![both.clone()], start), (vec![both, remove], podman("rm -f -t 0 removed"))],
            after: Vec::new(),
        });
        if network != "its macvlan" {
            cases.push(Case {
                before: vec![run(&format!("-d --name stopped {options}"), "sleep 1000")],
                measured: vec![(vec![format!("podman stop: {network}")], podman("stop -t 0 stopped"))],
                after: vec![podman("rm stopped")],
            });
        }
    }
    for (network, options) in [
        ("none", "--network none"),
        ("its macvlan", "--network bench"),
        ("ours", OURS_BY_CDI),
        ("its network of ours", "--network ours"),
    ] {
        cases.push(Case::of(
            &format!("docker run --rm: {network}"),
            docker(&format!("run --rm {options} {IMAGE} true")),
        ));
        if network != "its macvlan" {
            cases.push(Case {
                before: vec![docker(&format!("run -d --name stopped {options} {IMAGE} sleep 1000"))],
                measured: vec![(vec![format!("docker stop: {network}")], docker("stop -t 0 stopped"))],
                after: vec![docker("rm stopped")],
            });
        }
    }
    for ((name, _), network) in QUADLETS.iter().zip(["none", "its macvlan", "ours"]) {
        let systemctl = |verb: &str| {
            (
                vec![format!("systemctl {verb} of a quadlet: {network}")],
                systemd.job(&format!("{verb} bench-{name}")),
            )
        };
        let measured = vec![systemctl("start"), systemctl("stop")];
        cases.push(Case { before: Vec::new(), measured, after: Vec::new() });
    }
    for runtime in ["crun", "runc"] {
        for name in BUNDLES {
            let bundle = bundle(folder, "true", name);
            let run = format!("{runtime} run --bundle {} {runtime}-bench", bundle.display());
            cases.push(Case::of(&format!("{runtime} run: {name}"), Job::new(&run)));
        }
    }
    cases
}
