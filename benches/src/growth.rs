//! What becomes of an attach as a network grows.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use crate::cases::{Results, record};
use crate::container::Container;
use crate::host::{Host, PARENT};
use crate::lan::ip;
use crate::measure::{Cost, sum};

/// How many leases, and how many links on the parent, an attach is measured among.
pub const LEASES: [usize; 3] = [10, 1000, 60_000];
pub const LINKS: [usize; 3] = [1, 100, 1000];
pub const AT_ONCE: [usize; 3] = [1, 8, 64];
/// How many containers go up and down in a row.
pub const ROW: usize = 1000;

fn attach(host: &Host, id: &str, networks: &str) -> (Cost, Cost) {
    let mut container = Container::new(&host.folder, id, networks);
    let attach = host.hook("createRuntime", container.state("created")).run();
    container.end();
    (attach, host.hook("poststop", container.state("stopped")).run())
}

/// Makes leases of the pool's addresses, from the first on, but for every `but`-th: of a container that lives on.
fn fill(host: &Host, count: usize, but: usize) {
    for number in 0..count {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 201, 0, 2)) + number as u32);
        let lease = host.segment().join(address.to_string());
        // What is there, or is not, is from before.
        let _ = match but > 0 && number % but == but / 2 {
            true => fs::remove_file(lease),
            false => symlink("../../containers/filler.json", lease),
        };
    }
    // Of a ledger that is changed by another hand no map is true.
    let _ = fs::remove_dir_all(host.maps());
}

/// An attach among more and more leases, then in a pool of which 99.9 % are held.
pub fn leases(host: &Host, times: usize, results: &mut Results) {
    for count in LEASES {
        fill(host, count, 0);
        for number in 0..times {
            let (cost, _) = attach(host, &format!("leases-{count}-{number}"), "m4");
            record(results, &format!("among {count} leases"), cost);
        }
    }
    fill(host, 65_532, 1000);
    for number in 0..times {
        let (cost, _) = attach(host, &format!("full-{number}"), "m4");
        record(results, "in a pool 99.9 % full", cost);
    }
    for lease in fs::read_dir(host.segment()).unwrap().map(|entry| entry.unwrap().path()) {
        if fs::read_link(&lease).is_ok() {
            fs::remove_file(lease).unwrap();
        }
    }
}

/// An attach among more and more links of the parent, all in one namespace without IPv6.
pub fn links(host: &Host, times: usize, results: &mut Results) {
    ip("netns add bench-many");
    let sysctl = ["-n", "-w", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"];
    let status = Command::new("ip")
        .args(["netns", "exec", "bench-many", "sysctl"])
        .args(sysctl)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    let mut made = 0;
    for count in LINKS {
        let mut batch = String::new();
        for number in made..count {
            batch += &format!(
                "link add link {PARENT} name mv{number} netns bench-many type macvlan mode bridge\n"
            );
        }
        made = count;
        let mut command = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        command.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        assert!(command.wait().unwrap().success());
        for number in 0..times {
            let (cost, _) = attach(host, &format!("links-{count}-{number}"), "m4");
            record(results, &format!("among {count} links"), cost);
        }
    }
    ip("netns del bench-many");
}

/// Many attaches begun at once: each from its begin to its end, and all.
pub fn at_once(host: &Host, results: &mut Results) {
    for count in AT_ONCE {
        let containers: Vec<_> = (0..count)
            .map(|number| Container::new(&host.folder, &format!("once-{count}-{number}"), "m4"))
            .collect();
        let begun = Instant::now();
        let costs: Vec<Cost> = thread::scope(|scope| {
            let run = |container: &Container| host.hook("createRuntime", container.state("created")).run();
            let running: Vec<_> =
                containers.iter().map(|container| scope.spawn(move || run(container))).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let all = Cost { wall: begun.elapsed().as_nanos() as u64, ..sum(costs.iter().copied()) };
        record(results, &format!("{count} at once: all"), all);
        costs.into_iter().for_each(|cost| record(results, &format!("{count} at once"), cost));
        for mut container in containers {
            container.end();
            host.hook("poststop", container.state("stopped")).run();
        }
    }
}

/// Containers up and down, one after the other; the cost of each hundred.
pub fn in_a_row(host: &Host, results: &mut Results) {
    for number in 0..ROW {
        let (up, down) = attach(host, &format!("row-{number}"), "m4");
        let hundred = number / 100 * 100;
        record(results, &format!("in a row, from {hundred}: attach"), up);
        record(results, &format!("in a row, from {hundred}: detach"), down);
    }
}
