//! The crash matrix of Docker's plugin: for each call that changes something, the plugin is killed at each system call that it makes
//! from the connection on, or one of them fails. Unless it is answered with success, Docker calls again, and goes on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use nix::libc;
use serde_json::{Value, json};

use crate::engines::docker_plugin::age;
use crate::harness::bed::Bed;
use crate::harness::fake_docker::{FakeDocker, FirstTry, call, command, connect, outcome};
use crate::harness::mishaps::{ERRORS, assert_ended, steps, trace_service_to, turns};
use crate::harness::need::Need;
use crate::harness::test::Test;
use crate::harness::tracer::{Call, Mishap};

/// One call of so many is tried where there is no time for all.
const STRIDE: usize = 5;

/// The address for which no endpoint comes.
const OTHER: &str = "172.16.86.99";

/// A method, and the address that the call is about if others like it come before.
type Of = (&'static str, Option<&'static str>);

/// Docker's calls that change something, or that the next ones depend on.
const CALLS: [Of; 8] = [
    ("IpamDriver.RequestPool", None),
    ("IpamDriver.RequestAddress", Some("")),
    ("IpamDriver.ReleaseAddress", Some(OTHER)),
    ("NetworkDriver.CreateNetwork", None),
    ("NetworkDriver.DeleteNetwork", None),
    ("NetworkDriver.CreateEndpoint", None),
    ("NetworkDriver.Join", None),
    ("NetworkDriver.DeleteEndpoint", None),
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for what in CALLS {
        let mut add = |kind: &str, run: fn(Of)| {
            let name = format!("crash_docker::{kind}::{}", what.0.split('.').next_back().unwrap());
            tests.push(Test::new(name, &[Need::Macvlan], move || run(what)));
        };
        add("killed", |what| matrix(what, |_| Mishap::Kill));
        add("error", |what| {
            turns().for_each(|turn| matrix(what, |at| Mishap::Error(ERRORS[(at + turn) % ERRORS.len()])));
        });
    }
    tests
}

/// How long an answer may take: the plugin waits for no other process here.
const PATIENCE: Duration = Duration::from_secs(10);

/// A call of a plugin that has a mishap at its system call number `at`, counted from its connection on.
struct Attempt<'a> {
    bed: &'a Bed,
    socket: PathBuf,
    of: Of,
    at: usize,
    mishap: Mishap,
    /// Is told how it went.
    done: Sender<Tried>,
}

/// What became of it.
struct Tried {
    /// The system call of the mishap, if there were so many.
    hit: Option<Call>,
    /// Whether Docker was told that it is done.
    is_done: bool,
    said: String,
}

impl FirstTry for Attempt<'_> {
    fn is_for(&self, method: &str, body: &Value) -> bool {
        method == self.of.0 && self.of.1.is_none_or(|address| body["Address"] == address)
    }

    fn call(self: Box<Self>, body: &Value) -> io::Result<Value> {
        let is_answered = AtomicBool::new(false);
        let (traced, hit, answer) = thread::scope(|scope| {
            let client = scope.spawn(|| self.ask(body, &is_answered));
            let begins = |call: &Call| call.number == libc::SYS_accept4;
            // The connection is closed then, of which the plugin takes note.
            let is_over = || is_answered.load(Ordering::Relaxed);
            let plugin = command(self.bed, &self.socket, 600);
            let (traced, hit) = trace_service_to(&plugin, begins, is_over, self.at, self.mishap);
            (traced, hit, client.join().unwrap())
        });
        let (mishap, at, (method, _)) = (self.mishap, self.at, self.of);
        let said = format!("{mishap:?} at call {at} of {method} ({hit:?}): {answer:?}: {}", traced.stderr);
        assert_ended(&traced, hit, &said);
        assert!(!traced.stderr.contains("panicked") || traced.code().is_none(), "{said}");
        let is_done = answer.as_ref().is_ok_and(|answer| outcome(answer.clone()).is_ok());
        self.done.send(Tried { hit, is_done, said }).unwrap();
        answer
    }
}

impl Attempt<'_> {
    /// The answer, which comes in time, or how the connection ended.
    fn ask(&self, body: &Value, is_answered: &AtomicBool) -> io::Result<Value> {
        let until = Instant::now() + PATIENCE;
        let mut stream = loop {
            match connect(&self.socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < until, "{error}"),
            }
            thread::sleep(Duration::from_millis(1));
        };
        let start = Instant::now();
        let answer = call(&mut stream, self.of.0, body);
        is_answered.store(true, Ordering::Relaxed);
        let time = start.elapsed();
        assert!(time < PATIENCE, "{:?} at call {} of {}: {time:?}", self.mishap, self.at, self.of.0);
        answer
    }
}

fn matrix(of: Of, mishap: impl Fn(usize) -> Mishap) {
    let bed = Bed::new();
    let docker = FakeDocker::start(&bed);
    // The folders, once.
    life(&bed, &docker);
    let before = bed.host_state();
    steps(&format!("docker::{}", of.0), STRIDE, |at| {
        let (done, tried) = mpsc::channel();
        let (mishap, socket) = (mishap(at), docker.plugin.socket.clone());
        let attempt = Attempt { bed: &bed, socket, of, at, mishap, done };
        *docker.plugin.first.borrow_mut() = Some(Box::new(attempt));
        life(&bed, &docker);
        let Tried { hit, is_done, said } = tried.try_recv().expect("the call was made");
        bed.gc();
        // An address of which Docker was not told, or that was released by half, waits for an endpoint that does not come. A network
        // whose definition cannot be read counts as removed, and what was requested in it is not released.
        let may_wait = !is_done || of.0 == "IpamDriver.ReleaseAddress";
        if may_wait && bed.records().iter().all(|id| id.starts_with("docker-")) {
            age(&bed);
            bed.gc();
        }
        assert_eq!(bed.gc(), "", "{said}: a second gc");
        assert_eq!((bed.leases(), bed.macs(), bed.records()), Default::default(), "{said}");
        assert_eq!(bed.host_state(), before, "{said}: the host");
        let networks = fs::read_dir(bed.path("data/docker/networks")).unwrap().count();
        assert_eq!(networks, 0, "{said}: files of networks");
        hit.is_some()
    });
}

/// The calls of a container's life, and of an address for which no endpoint comes.
fn life(bed: &Bed, docker: &FakeDocker<'_>) {
    let network =
        docker.create("172.16.86.0/24", "172.16.86.1", json!({"parent": "eth0"}), json!({})).unwrap();
    let web = docker.run(&network, "").unwrap();
    docker.request(&network, OTHER).unwrap();
    assert!(bed.answers(web.address.split('/').next().unwrap()));
    bed.gc();
    assert_eq!((bed.run("check"), bed.gc()), Default::default());
    docker.release(&network, OTHER);
    docker.stop(&network, &web);
    docker.remove(&network);
}
