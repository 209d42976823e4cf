//! The benchmark of `make bench`, to be run in the guest with its instruction clock, as root:
//! `underlay-bench UNDERLAY PROGRAMS RESULTS ROUNDS [quick]`. The parts are measured in turns, one boot for all.
//! `underlay-bench starts ROUNDS RESULTS` is the benchmark of `make bench-starts`, in a Debian on this machine's kernel.

mod bars;
mod cases;
mod container;
mod docker;
mod engines;
mod growth;
mod host;
mod image;
mod lan;
mod measure;
mod plot;
mod report;
mod starts;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cases::Results;
use container::Container;
use docker::Docker;
use engines::Engines;
use host::{Host, has};
use measure::{Job, median};
use report::Counted;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "pause") {
        container::pause();
    }
    if arguments.first().is_some_and(|first| first == "cost") {
        return cost(&arguments[1..]);
    }
    if arguments.first().is_some_and(|first| first == "starts") {
        return starts::run(arguments[1].parse().unwrap(), Path::new(&arguments[2]));
    }
    let [underlay, programs, results_folder] = [0, 1, 2].map(|at| PathBuf::from(&arguments[at]));
    let rounds: usize = arguments[3].parse().unwrap();
    let quick = arguments.get(4).is_some_and(|word| word == "quick");
    let host = Host::new(&underlay, &programs);
    let mut results = Results::new();
    in_rounds("attaches", rounds, &mut results, |number, one| cases::round(&host, number, one));
    if !quick {
        let engines = Engines::new(&host);
        in_rounds("engines", rounds, &mut results, |number, one| engines.round(&host, number, one));
        if has("dockerd") {
            let docker = Docker::start(&host, &engines);
            in_rounds("docker", rounds, &mut results, |_, one| docker.round(one));
        }
    }
    growth::leases(&host, rounds, &mut results);
    eprintln!("bench: leases");
    if !quick {
        growth::links(&host, rounds, &mut results);
        eprintln!("bench: links");
        growth::at_once(&host, &mut results);
        eprintln!("bench: at once");
        growth::in_a_row(&host, &mut results);
    }
    let (attach_calls, detach_calls) = calls(&host);
    let counted = Counted {
        attach_calls,
        detach_calls,
        locked: locked(&host),
        binary: fs::metadata(&underlay).unwrap().len(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned(),
    };
    println!("{}", report::write(&results_folder, &results, &counted));
}

/// Measures in rounds, of which the first, that warms files and caches, does not count.
fn in_rounds(what: &str, rounds: usize, results: &mut Results, round: impl Fn(usize, &mut Results)) {
    for number in 0..=rounds {
        let mut one = Results::new();
        round(number, &mut one);
        if number > 0 {
            one.into_iter().for_each(|(name, costs)| results.entry(name).or_default().extend(costs));
        }
        eprintln!("bench: {what}, round {number} of {rounds}");
    }
}

/// What one command costs: `cost ROUNDS WORD…`, to try out a change; the file that STDIN names is its stdin.
fn cost(arguments: &[String]) {
    let stdin = std::env::var_os("STDIN").map(|path| fs::read(path).unwrap()).unwrap_or_default();
    let job = Job { words: arguments[1..].to_vec(), stdin, ..Job::default() };
    let rounds: usize = arguments[0].parse().unwrap();
    let costs: Vec<_> = (0..=rounds).map(|_| job.run()).skip(1).collect();
    let (cpu, spread) = median(costs.iter().map(|cost| cost.cpu).collect());
    println!("{:.3} M ± {:.3}  {}", cpu as f64 / 1e6, spread as f64 / 1e6, arguments[1..].join(" "));
}

/// How many system calls an attach and the poststop after it make, from execve(2) to exit_group(2).
fn calls(host: &Host) -> (usize, usize) {
    let mut container = Container::new(&host.folder, "calls", "m4");
    let count =
        |job: &Job| strace(host, &[], job).lines().filter(|line| !line.contains("+++ exited")).count();
    let created = count(&host.hook("createRuntime", container.state("created")));
    container.end();
    (created, count(&host.hook("poststop", container.state("stopped"))))
}

/// For how long an attach has the ledger locked, all in all, in nanoseconds. No other calls than those of the lock are
/// traced, or stop for it.
fn locked(host: &Host) -> u64 {
    let mut container = Container::new(&host.folder, "locked", "m4");
    let options = ["--seccomp-bpf", "--trace=fcntl", "--absolute-timestamps=format:unix,precision:ns"];
    let trace = strace(host, &options, &host.hook("createRuntime", container.state("created")));
    container.end();
    host.hook("poststop", container.state("stopped")).run();
    let time = |line: &str| {
        let (seconds, nanoseconds) = line.split_whitespace().nth(1).unwrap().split_once('.').unwrap();
        seconds.parse::<u64>().unwrap() * 1_000_000_000 + nanoseconds.parse::<u64>().unwrap()
    };
    let times = |what: &str| trace.lines().filter(|line| line.contains(what)).map(time).sum::<u64>();
    times("F_UNLCK") - times("F_WRLCK")
}

/// Runs `job`, which must succeed, under strace(1) with `options`; what that writes.
fn strace(host: &Host, options: &[&str], job: &Job) -> String {
    let trace = host.folder.join("trace");
    let mut command = Command::new("strace");
    command.arg("-f").args(options).arg("-o").arg(&trace).args(&job.words).envs(job.env.iter().cloned());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &job.stdin).unwrap();
    assert!(child.wait().unwrap().success());
    fs::read_to_string(&trace).unwrap()
}
