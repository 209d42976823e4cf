//! What is measured next to each other: attaches and detaches, ours and others'.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use crate::container::Container;
use crate::host::{Host, PARENT, has};
use crate::lan::ifindex;
use crate::measure::{Cost, Job, median, sum};

/// All costs by name.
pub type Results = BTreeMap<String, Vec<Cost>>;

pub fn record(results: &mut Results, name: &str, cost: Cost) {
    results.entry(name.to_owned()).or_default().push(cost);
}

/// The median instructions (wall: with all waiting) of `name`.
pub fn typical(results: &Results, name: &str, of: impl Fn(&Cost) -> u64) -> Option<(u64, u64)> {
    Some(median(results.get(name)?.iter().map(of).collect()))
}

/// One round of everything that attaches a bare namespace.
pub fn round(host: &Host, number: usize, results: &mut Results) {
    let id = |what: &str| format!("{what}-{number}");
    record(results, "empty program", Job::new(&host.program("empty")).run());
    for (name, networks) in [
        ("underlay macvlan", "m4"),
        ("underlay macvlan dual stack", "m46"),
        ("underlay ipvlan", "i4"),
        ("underlay ipvlan dual stack", "i46"),
        ("underlay three attachments", "m4;second;third"),
        ("underlay macvlan on a VLAN", "vlan"),
        ("underlay macvlan with detection", "probed"),
    ] {
        if name.contains("ipvlan") && !host.ipvlan || name.contains("VLAN") && !host.vlan {
            continue;
        }
        let mut container = Container::new(&host.folder, &id(&name.replace(' ', "-")), networks);
        record(
            results,
            &format!("{name}: attach"),
            host.hook("createRuntime", container.state("created")).run(),
        );
        container.end();
        record(results, &format!("{name}: detach"), host.hook("poststop", container.state("stopped")).run());
    }
    let v4 = "10.201.250.9/16 10.201.0.1";
    let v6 = "2001:db8:201::fa09/64 2001:db8:201::1";
    for (name, kind, parent, addresses) in [
        ("raw macvlan", "macvlan", PARENT.to_owned(), v4.to_owned()),
        ("raw macvlan dual stack", "macvlan", PARENT.to_owned(), format!("{v4} {v6}")),
        ("raw ipvlan", "ipvlan", format!("{PARENT}i"), v4.to_owned()),
    ] {
        if kind == "ipvlan" && !host.ipvlan {
            continue;
        }
        let parent = ifindex(&parent);
        let container = Container::new(&host.folder, &id(&name.replace(' ', "-")), "");
        let raw = format!("{} {kind} {} {parent} {addresses}", host.program("raw"), container.pid());
        record(results, &format!("{name}: attach"), Job::new(&raw).run());
    }
    others(host, number, results);
}

/// The same by iproute2, CNI and netavark.
fn others(host: &Host, number: usize, results: &mut Results) {
    let mut container = Container::new(&host.folder, &format!("ip-{number}"), "");
    container.mount();
    let name = &container.id;
    let on_host = format!("link add link {PARENT} name eth0 netns {name} type macvlan mode bridge\n");
    let inside = "link set eth0 up\naddr add 10.201.250.9/16 dev eth0\nroute add default via 10.201.0.1\n";
    let jobs =
        [Job::new("ip -batch -").stdin(on_host), Job::new(&format!("ip -n {name} -batch -")).stdin(inside)];
    record(results, "ip -batch: attach", sum(jobs.iter().map(Job::run)));
    drop(container);
    if has(CNI_MACVLAN) {
        cni(host, number, results);
    }
    if has(NETAVARK) {
        netavark(host, number, results);
    }
}

const CNI_MACVLAN: &str = "/usr/lib/cni/macvlan";
const NETAVARK: &str = "/usr/lib/podman/netavark";

fn cni(host: &Host, number: usize, results: &mut Results) {
    let mut container = Container::new(&host.folder, &format!("cni-{number}"), "");
    let netns = container.mount();
    let config = json!({
        "cniVersion": "1.0.0", "name": "bench", "type": "macvlan", "master": PARENT, "mode": "bridge",
        "ipam": {"type": "host-local", "dataDir": host.folder.join("cni"),
                 "ranges": [[{"subnet": "10.201.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]},
    });
    let job = |command: &str| {
        Job::new(CNI_MACVLAN)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &container.id)
            .env("CNI_NETNS", netns.display().to_string())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni")
            .stdin(config.to_string())
    };
    record(results, "CNI macvlan + host-local: ADD", job("ADD").run());
    record(results, "CNI macvlan + host-local: DEL", job("DEL").run());
}

fn netavark(host: &Host, number: usize, results: &mut Results) {
    let mut container = Container::new(&host.folder, &format!("netavark-{number}"), "");
    let netns = container.mount();
    let network = json!({
        "name": "bench", "id": "0".repeat(64), "driver": "macvlan", "network_interface": PARENT,
        "subnets": [{"subnet": "10.201.0.0/16", "gateway": "10.201.0.1"}], "ipv6_enabled": false, "internal": false,
        "dns_enabled": false, "ipam_options": {"driver": "host-local"},
    });
    let asked = json!({
        "container_id": container.id, "container_name": container.id,
        "networks": {"bench": {"interface_name": "eth0", "static_ips": ["10.201.250.9"]}},
        "network_info": {"bench": network},
    });
    fs::create_dir_all(host.folder.join("netavark")).unwrap();
    for command in ["setup", "teardown"] {
        let job = Job::new(&format!(
            "{NETAVARK} --config {} {command} {}",
            host.folder.join("netavark").display(),
            netns.display()
        ));
        record(results, &format!("netavark: {command}"), job.stdin(asked.to_string()).run());
    }
}
