//! A day in the life of a host whose containers have addresses by DHCP, with leases of seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::addresses::dhcp::{bed, lan};
use crate::addresses::identity::{have, start};
use crate::harness::agent::Agent;
use crate::harness::bed::Bed;
use crate::harness::container::{Container, wait};
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::dice::Dice;
use crate::harness::need::Need;
use crate::harness::place;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    vec![Test::new("dhcp_day::a_day", &[Need::Macvlan, Kind::Kea.need()], a_day).alone().in_one()]
}

/// The pids of the containers that live, by name: those whose hook has come back, until they are killed.
type Living = Mutex<BTreeMap<String, i32>>;

/// The containers of a host, all of which are there but for moments.
struct Host<'a> {
    bed: &'a Bed,
    living: &'a Living,
    /// With their MAC addresses.
    containers: Vec<Option<(Container<'a>, String)>>,
    /// How often one was started.
    starts: usize,
    dice: Dice,
}

impl<'a> Host<'a> {
    fn name(number: usize) -> String {
        format!("c{number}")
    }

    fn start(&mut self, number: usize) {
        self.starts += 1;
        let (name, id) = (Self::name(number), format!("c{number}-{}", self.starts));
        let container = start(self.bed, &id, &name, "lan");
        self.living.lock().unwrap().insert(name, container.pid);
        let mac = have(&container).1;
        self.containers[number] = Some((container, mac));
    }

    fn stop(&mut self, number: usize) {
        self.living.lock().unwrap().remove(&Self::name(number));
        self.containers[number].take().unwrap().0.stop();
    }

    /// Lets one be created again, of the same identity.
    fn restart_one(&mut self) {
        let number = self.dice.below(self.containers.len() as u64) as usize;
        self.stop(number);
        self.start(number);
    }

    /// Kills the agent, and starts another one some time later.
    fn another_agent(&mut self, agent: Agent) -> Agent {
        drop(agent);
        thread::sleep(Duration::from_millis(self.dice.below(400)));
        Agent::start(self.bed)
    }

    /// Containers are restarted and agents killed for `time`.
    fn live(&mut self, mut agent: Agent, time: Duration) -> Agent {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.restart_one();
            thread::sleep(Duration::from_millis(self.dice.below(150)));
            if self.dice.below(6) == 0 {
                agent = self.another_agent(agent);
            }
        }
        agent
    }

    fn each(&self) -> impl Iterator<Item = &Container<'a>> {
        self.containers.iter().flatten().map(|(container, _)| container)
    }

    /// Waits until all have an address that `is_right`, and that the server knows by their MAC addresses.
    #[track_caller]
    fn wait_for_leases(&self, server: &Server<'_>, is_right: impl Fn(Ipv4Addr) -> bool) {
        wait(|| {
            let known: BTreeMap<_, _> =
                server.leases().into_iter().map(|lease| (lease.mac, lease.address)).collect();
            self.containers.iter().flatten().all(|(container, mac)| {
                let own = known.get(mac).filter(|&&address| is_right(address));
                own.is_some_and(|&address| addresses(container.pid) == [address])
            })
        });
    }
}

/// The addresses of the LAN that the namespace of a process has (proc_pid_net(5), `fib_trie`).
fn addresses(pid: i32) -> Vec<Ipv4Addr> {
    // The process may have ended.
    let text = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    let local = lines.windows(2).filter(|two| two[1].contains("/32 host LOCAL"));
    let found = local.filter_map(|two| two[0].trim().strip_prefix("|-- ")?.parse().ok());
    let found: BTreeSet<Ipv4Addr> = found.filter(|address: &Ipv4Addr| address.octets()[0] == 10).collect();
    found.into_iter().collect()
}

/// The addresses that more than one container has now, and which have them.
fn doubles(living: &Living) -> BTreeMap<Ipv4Addr, Vec<String>> {
    // What is not alive any more is forgotten before it is killed.
    let living = living.lock().unwrap();
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (name, pid) in living.iter() {
        for address in addresses(*pid) {
            found.entry(address).or_default().push(name.clone());
        }
    }
    found.retain(|_, names| names.len() > 1);
    found
}

/// Looks for addresses that two containers have at once, until it is told to stop.
fn watch(living: &Living, is_over: &AtomicBool) -> Vec<String> {
    let mut seen = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let found = doubles(living);
        // One may have lost it while the other one was not looked at yet.
        if !found.is_empty() {
            let again = doubles(living);
            seen.extend(
                found.iter().filter(|(address, _)| again.contains_key(address)).map(|one| format!("{one:?}")),
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
    seen
}

/// Tells the one that watches that it is over, also after a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn a_day() {
    let containers = if place::is_guest() { 15 } else { 50 };
    let bed = bed("-o dhcp_timeout=26");
    let before = bed.host_state();
    let mut server = Server::start(&bed, Kind::Kea, Options::short().range(10, 109));
    let (living, is_over) = (Living::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&living, &is_over));
        let over = Over(&is_over);
        let agent = Agent::start(&bed);
        let mut host = Host { bed: &bed, living: &living, containers: Vec::new(), starts: 0, dice: Dice(1) };
        host.containers.resize_with(containers, || None);
        (0..containers).for_each(|number| host.start(number));
        let is_first = |address| (lan(10)..=lan(109)).contains(&address);
        host.wait_for_leases(&server, is_first);
        let agent = host.live(agent, Duration::from_secs(8));
        host.wait_for_leases(&server, is_first);

        // The server is gone until all leases are over, and has another range then.
        server.stop();
        thread::sleep(Duration::from_secs(3));
        let agent = host.another_agent(agent);
        wait(|| host.each().all(|container| addresses(container.pid).is_empty()));
        let agent = host.another_agent(agent);
        server.change(|options| options.range = [lan(110), lan(209)]);
        let is_second = |address| (lan(110)..=lan(209)).contains(&address);
        host.wait_for_leases(&server, is_second);
        let agent = host.live(agent, Duration::from_secs(5));

        // The host is suspended for longer than leases last, and the kernel's time stands still.
        let signal = |signal| kill(Pid::from_raw(agent.pid() as i32), signal).unwrap();
        signal(Signal::SIGSTOP);
        for container in host.each() {
            for address in container.addresses("eth0") {
                let change =
                    format!("addr change {address} dev eth0 valid_lft forever preferred_lft forever");
                container.run("ip", &change);
            }
        }
        wait(|| server.leases().is_empty());
        signal(Signal::SIGCONT);
        host.wait_for_leases(&server, is_second);
        let _agent = host.live(agent, Duration::from_secs(5));
        host.wait_for_leases(&server, is_second);
        for container in host.each() {
            assert!(
                container.routes("-4")[0].starts_with("default via 10.77.0.1 "),
                "{:?}",
                container.routes("-4")
            );
        }
        assert_eq!(bed.run("check"), "");
        (0..containers).for_each(|number| host.stop(number));
        bed.assert_nothing_held();
        wait(|| server.leases().is_empty());
        wait(|| bed.host_state() == before);
        eprintln!("dhcp_day: {} starts", host.starts);
        drop(over);
        assert_eq!(watching.join().unwrap(), [] as [String; 0], "addresses that two containers had at once");
    });
}
