//! Storms: many containers come and go at once, some hooks are killed, some poststops never come. No address ever has
//! two live holders, and in the end the ledger is what the kernel says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::bed::Bed;
use crate::harness::container::{
    Container,
    Engine::{self, Bare},
    wait,
};
use crate::harness::dice::Dice;
use crate::harness::need::Need;
use crate::harness::place::{self, soak};
use crate::harness::test::{Named, Test};
use crate::harness::tracer::trace;

/// How many hooks run at a time.
const WORKERS: usize = 16;

pub fn tests() -> Vec<Test> {
    let all: [Named; 3] = [
        ("of_256_addresses", &[Need::Macvlan], || storm("10.0.0.0/24")),
        ("of_65534_addresses", &[Need::Macvlan], || storm("10.1.0.0/16")),
        ("an_attach_costs_no_more_among_many", &[Need::Macvlan], growth),
    ];
    let mut tests: Vec<_> =
        all.map(|(name, needs, run)| Test::new(format!("storms::{name}"), needs, run)).into();
    for engine in [Engine::Crun, Engine::Runc] {
        let needs = [Need::Macvlan, Need::Engine(engine)];
        let name = format!("storms::forty_at_once::{engine}");
        tests.push(Test::new(name, &needs, move || forty(engine)).alone());
    }
    tests
}

/// Who has which address, from the moment its hook has come back until its process is killed.
type Holders = Mutex<BTreeMap<String, String>>;

fn storm(subnet: &str) {
    // 500 containers where there is time, or hardware.
    let all = if place::is_guest() && !soak() { 40 } else { 500 };
    let bed = Bed::new();
    bed.create(&format!("--subnet {subnet} -o parent=eth0 lan"));
    let holders = Holders::default();
    let next = AtomicUsize::new(0);
    let killed = AtomicUsize::new(0);
    let alive: Vec<Container<'_>> = thread::scope(|scope| {
        let work = |worker: usize| {
            let (bed, holders, next, killed) = (&bed, &holders, &next, &killed);
            scope.spawn(move || {
                let mut dice = Dice(worker as u64 + 1);
                let mut alive = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= all {
                        return alive;
                    }
                    let web = bed.container(Bare, &format!("c{number}")).networks("lan").without_hooks();
                    let web = web.start().unwrap();
                    if dice.below(8) == 0 {
                        killed.fetch_add(1, Ordering::Relaxed);
                        kill_the_hook(bed, &web, "createRuntime", &mut dice);
                        end(bed, web, &mut dice);
                        continue;
                    }
                    let made = web.hook("createRuntime");
                    assert_eq!(made.code, 0, "{made:?}");
                    let address = web.addresses("eth0").remove(0);
                    let before = holders.lock().unwrap().insert(address.clone(), web.id.clone());
                    assert_eq!(before, None, "{address} is also that of {}", web.id);
                    alive.push((address, web));
                    if alive.len() > dice.below(8) as usize {
                        let (address, web) = alive.swap_remove(dice.below(alive.len() as u64) as usize);
                        holders.lock().unwrap().remove(&address);
                        end(bed, web, &mut dice);
                    }
                }
            })
        };
        let workers: Vec<_> = (0..WORKERS).map(work).collect();
        let alive = workers.into_iter().flat_map(|worker| worker.join().unwrap());
        alive.map(|(_, container)| container).collect()
    });
    eprintln!(
        "storms: {all} containers in {subnet}, {} hooks killed, {} live",
        killed.into_inner(),
        alive.len()
    );

    // Where a namespace goes while it is looked into, as those of other tests do, what may be its container's is kept.
    wait(|| bed.gc().is_empty());
    let mut records: Vec<_> = alive.iter().map(|container| format!("{}.json", container.id)).collect();
    records.sort();
    assert_eq!(bed.records(), records);
    let mut addresses: Vec<_> = alive.iter().flat_map(|container| container.addresses("eth0")).collect();
    addresses.iter_mut().for_each(|address| address.truncate(address.find('/').unwrap()));
    addresses.sort();
    let mut leases: Vec<_> =
        bed.leases().iter().map(|lease| lease.split_once('/').unwrap().1.to_owned()).collect();
    leases.sort();
    assert_eq!(leases, addresses);
    alive.into_iter().for_each(Container::stop);
    bed.assert_nothing_held();
}

/// Calls the hook and kills it some time later.
fn kill_the_hook(bed: &Bed, web: &Container<'_>, stage: &str, dice: &mut Dice) {
    let mut command = bed.underlay(&format!("hook {stage}"));
    let state = bed.path(&format!("{}.state", web.id));
    fs::write(&state, web.state_at(stage)).unwrap();
    command.stdin(fs::File::open(state).unwrap()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    thread::sleep(Duration::from_micros(dice.below(40_000)));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Most containers end as they should; some without a word, some while their poststop is killed.
fn end(bed: &Bed, mut web: Container<'_>, dice: &mut Dice) {
    web.kill();
    match dice.below(4) {
        0 => {}
        1 => kill_the_hook(bed, &web, "poststop", dice),
        _ => {
            let stopped = web.hook("poststop");
            // That it has waited is no matter.
            let waits = |line: &&str| line.starts_with("[WARN ] waiting for the ledger, which ");
            let said: Vec<_> = stopped.stderr.lines().filter(|line| !waits(line)).collect();
            assert_eq!((stopped.code, said), (0, vec![]));
        }
    }
    web.forget();
}

/// Forty containers start at once and get forty addresses; they stop at once, and nothing is left.
fn forty(engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", "--subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10");
    let start =
        |index: usize| bed.container(engine, &format!("c{index}")).networks("pub_net").start().unwrap();
    let containers: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..40).map(|index| scope.spawn(move || start(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let addresses: BTreeSet<_> =
        containers.iter().flat_map(|container| container.addresses("eth0")).collect();
    assert_eq!(addresses.len(), 80);
    assert_eq!((bed.leases().len(), bed.records().len(), bed.ps().len()), (80, 40, 40));
    assert!(containers[39].reaches("172.16.86.1"));
    thread::scope(|scope| {
        for container in containers {
            scope.spawn(move || container.stop());
        }
    });
    bed.assert_nothing_held();
}

/// An attach among 60,000 others makes at most 1.3 times as many system calls as one among ten. The emulated guest makes
/// do with 3,000.
fn growth() {
    let crowd = if place::is_guest() && !soak() { 3_000 } else { 60_000 };
    let bed = Bed::new();
    bed.create("--subnet 10.0.0.0/16 -o parent=eth0 lan");
    let count = |id: &str| {
        let web = bed.container(Bare, id).networks("lan").without_hooks().start().unwrap();
        let mut calls = 0;
        let traced =
            trace(&bed.underlay("hook createRuntime"), web.state_at("createRuntime").as_bytes(), |call| {
                calls = call.count;
                None
            });
        assert_eq!(traced.code(), Some(0), "{traced:?}");
        (calls, web)
    };
    let (_, first) = count("first");
    let text = fs::read_to_string(bed.path("run/containers").join(format!("{}.json", first.id))).unwrap();
    let segment = bed.path("run/segments").join(bed.leases()[0].split('/').next().unwrap());
    let mut number = 1;
    let mut fill = |to: u32| {
        for n in number..to {
            let (id, address) = (format!("filler{n}"), std::net::Ipv4Addr::from(0x0a00_0002 + n));
            let record = text.replace(&first.id, &id).replace("10.0.0.1/", &format!("{address}/"));
            fs::write(bed.path("run/containers").join(format!("{id}.json")), record).unwrap();
            symlink(format!("../../containers/{id}.json"), segment.join(address.to_string())).unwrap();
        }
        number = to;
        // As if the last of them had been the last attach.
        let path = segment.join("segment.json");
        let mut known: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let last = std::net::Ipv4Addr::from(0x0a00_0002 + to - 1).to_string();
        known["cursors"]
            .as_object_mut()
            .unwrap()
            .values_mut()
            .for_each(|cursor| *cursor = last.clone().into());
        fs::write(path, known.to_string()).unwrap();
    };
    fill(10);
    let (few, among_few) = count("few");
    among_few.stop();
    fill(crowd);
    let (many, among_many) = count("many");
    eprintln!("storms: an attach is {few} system calls among 10 leases, {many} among {crowd}");
    assert!(many * 10 <= few * 13, "{few} system calls among 10 leases, {many} among {crowd}");
    among_many.stop();
    first.stop();
}
