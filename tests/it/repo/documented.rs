//! The commands of README.md and docs/, as they stand there, one after the other, on a machine with underlay installed.
//!
//! Each section of a page is an example by itself: it begins with what the table says is there, and must leave nothing
//! once its containers and networks are removed.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::bed::{Bed, finish, run};
use crate::harness::container::repository;
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::dockerd::Docker;
use crate::harness::fake_docker::Plugin;
use crate::harness::need::Need;
use crate::harness::place::Debian;
use crate::harness::podman;
use crate::harness::rootfs::rootfs;
use crate::harness::test::Test;

/// Which engines a section is about: those of Debian 13 and later know what those of Debian 12 do not (podman before 5,
/// Docker before 25).
#[derive(Clone, Copy, PartialEq)]
enum Of {
    All,
    New,
    Old,
    /// containerd 2 and later.
    Newest,
}
use Of::{All, New, Newest, Old};

/// A section: page, heading, engines, and what is there before, as commands.
type Section = (&'static str, &'static str, Of, &'static [&'static str]);

const PUB_NET: &str =
    "underlay network create --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net";
const WITH_IPV6: &str = "underlay network create --subnet=172.16.86.0/24 --gateway=172.16.86.1 \
                         --subnet=2001:db8:abc8::/64 -o parent=eth0 pub_net";
const SAN: &str = "underlay network create --subnet=10.1.0.0/24 -o parent=eth0 san";
const LAN: &str = "underlay network create --subnet=192.168.1.0/24 --gateway=192.168.1.1 -o parent=eth0 lan";
const STORAGE: &str =
    "underlay network create --subnet=10.2.0.0/24 --gateway=10.2.0.1 -o parent=eth0 storage";
const ISP_A: &str =
    "underlay network create --subnet=172.16.98.0/24 --gateway=172.16.98.1 -o parent=eth0 isp_a";
const ISP_B: &str =
    "underlay network create --subnet=172.16.99.0/24 --gateway=172.16.99.1 -o parent=eth0 isp_b";
const BY_DHCP: &str = "underlay network create --ipam-driver dhcp -o parent=eth0 lan";
const TO_DOCKER: &str =
    "echo '{\"version\": 1, \"dhcp_resolv_conf\": \"docker\"}' > /etc/underlay/underlay.json";
const DB: &str = "podman run -d --network none --annotation io.underlay.networks=pub_net \
                  --annotation io.underlay.identity=db alpine sleep 1000";

/// Its sections want a DHCP server.
const DHCP: &str = "docs/guides/dhcp.md";

/// Its networks want the plugin.
const DOCKER: &str = "docs/guides/docker.md";

/// Pods need podman 5 here: that of Debian 12 starts none in the guest (`podman_ways::kube_play`). CRIU is in Debian 12
/// alone.
const SECTIONS: [Section; 50] = [
    ("README.md", "underlay", New, &[]),
    ("docs/guides/podman.md", "podman's own commands", New, &[]),
    ("docs/guides/podman.md", "The hook", All, &[PUB_NET]),
    ("docs/guides/podman.md", "podman before 5.0", Old, &[WITH_IPV6, SAN]),
    ("docs/guides/podman.md", "CDI devices", All, &[PUB_NET]),
    ("docs/guides/podman.md", "Pods and other shared namespaces", New, &[PUB_NET]),
    (
        "docs/guides/podman.md",
        "kube play",
        New,
        &[
            LAN,
            "cp $UNDERLAY_REPOSITORY/packaging/examples/lan-pod.yaml .",
            "podman tag alpine docker.io/library/nginx docker.io/nginx/nginx-prometheus-exporter",
        ],
    ),
    ("docs/guides/podman.md", "Together with podman's networks", All, &[PUB_NET]),
    (
        "docs/guides/podman.md",
        "User namespaces",
        All,
        &[PUB_NET, "touch /etc/subuid /etc/subgid", "sed -i /^containers:/d /etc/subuid /etc/subgid"],
    ),
    ("docs/guides/podman.md", "Checkpoint and restore", Old, &[PUB_NET]),
    (DOCKER, "Docker", All, &[]),
    (DOCKER, "Networks of Docker", All, &[]),
    (DOCKER, "Addresses by DHCP", All, &[]),
    (DOCKER, "CDI devices", New, &[PUB_NET, SAN]),
    (DOCKER, "underlay-runtime", New, &[PUB_NET, SAN]),
    (DOCKER, "Docker 20.10 to 23", All, &[PUB_NET]),
    ("docs/guides/engines.md", "ctr", All, &[PUB_NET]),
    ("docs/guides/engines.md", "ctr and CDI", Newest, &[PUB_NET]),
    ("docs/guides/engines.md", "CRI-O and Kubernetes", All, &[]),
    (
        "docs/guides/import.md",
        "Import from podman and Docker",
        All,
        &[
            "podman network create -d macvlan --subnet 192.168.1.0/24 --gateway 192.168.1.1 -o parent=eth0 lan",
            "docker network create -d macvlan --subnet 172.16.86.0/24 --gateway 172.16.86.1 -o parent=eth0 pub_net",
            "docker network create -d macvlan --subnet 10.20.0.0/24 -o parent=eth0.50 --internal backend",
        ],
    ),
    (
        "docs/guides/import.md",
        "Or keep the engine's own commands",
        New,
        &[
            "podman network create -d macvlan --subnet 192.168.1.0/24 --gateway 192.168.1.1 -o parent=eth0 lan",
        ],
    ),
    ("docs/reference/commands.md", "Dry run", All, &[PUB_NET]),
    ("docs/reference/commands.md", "Events and metrics", All, &[PUB_NET, DB]),
    ("docs/reference/commands.md", "Metrics", All, &[PUB_NET, DB, "mkdir -p /var/lib/node_exporter"]),
    // The last one: it leaves the link down.
    ("docs/reference/commands.md", "Troubleshooting", All, &[PUB_NET, "ip link set eth0 down"]),
    ("docs/guides/install.md", "Packages", All, &[]),
    ("docs/guides/install.md", "After a reboot", All, &[PUB_NET]),
    ("docs/guides/conflicts.md", "Address conflict detection", All, &[PUB_NET]),
    (DHCP, "Addresses from the LAN's own DHCP server", All, &[]),
    (DHCP, "podman and quadlets", All, &[BY_DHCP]),
    (DHCP, "Docker and compose", New, &[TO_DOCKER, BY_DHCP]),
    (DHCP, "IPv6", All, &[]),
    (DHCP, "Together with addresses of the ledger", All, &[]),
    ("docs/guides/hosts.md", "Several hosts on one LAN", All, &[]),
    ("docs/guides/host-access.md", "Host access", All, &[]),
    ("docs/guides/identity.md", "Keeping addresses over restarts", All, &[PUB_NET]),
    ("docs/guides/identity.md", "Reserved addresses", All, &[]),
    ("docs/guides/identity.md", "Where addresses are remembered", All, &[PUB_NET, DB]),
    ("docs/guides/links.md", "MTU", All, &[]),
    ("docs/guides/links.md", "Sysctls", All, &[]),
    ("docs/guides/links.md", "Source mode", All, &[]),
    ("docs/guides/links.md", "IPv6 from routers", All, &[]),
    ("docs/guides/links.md", "IPv6 default route", All, &[]),
    ("docs/guides/links.md", "Routes to other networks", All, &[]),
    ("docs/guides/links.md", "Gateway outside of the subnet", All, &[]),
    ("docs/guides/links.md", "No default route by this link", All, &[PUB_NET, STORAGE]),
    ("docs/guides/links.md", "Source routing", All, &[ISP_A, ISP_B]),
    ("docs/guides/vlans.md", "One VLAN for a network", All, &[]),
    ("docs/guides/vlans.md", "A VLAN for each container", All, &[]),
    ("docs/guides/vlans.md", "QinQ", All, &[]),
];

/// Sections whose commands want more of the kernel than macvlan links: a test of their own.
const OF_KERNEL: [(&str, &str, Need); 7] = [
    // ctr asks for a share of the CPUs.
    ("docs/guides/engines.md", "ctr", Need::CpuController),
    ("docs/guides/engines.md", "ctr and CDI", Need::CpuController),
    ("docs/guides/podman.md", "Checkpoint and restore", Need::Criu),
    ("docs/guides/import.md", "Import from podman and Docker", Need::Vlan),
    ("docs/guides/vlans.md", "One VLAN for a network", Need::Vlan),
    ("docs/guides/vlans.md", "A VLAN for each container", Need::Vlan),
    ("docs/guides/vlans.md", "QinQ", Need::Vlan),
];

/// What a section wants of the kernel.
fn kernel(section: &Section) -> Need {
    let found = OF_KERNEL.iter().find(|(page, heading, _)| (*page, *heading) == (section.0, section.1));
    found.map_or(Need::Macvlan, |(_, _, need)| *need)
}

/// Commands of which another test, or what `make test` runs besides, sees to it that they work.
const ELSEWHERE: [(&str, &str); 7] = [
    ("make demo", "demo::podman"),
    ("make deb", "packages::installed_upgraded_purged"),
    ("make rpm", "packages::rpm_installed_upgraded_erased"),
    ("make install", "tests/packages"),
    ("dpkg --install", "packages::installed_upgraded_purged"),
    ("rpm --install", "packages::rpm_installed_upgraded_erased"),
    ("rpm --upgrade", "packages::rpm_installed_upgraded_erased"),
];

/// Commands that end with 1: what is wrong is what they are there to show.
const FINDS: [&str; 1] = ["underlay doctor"];

/// The image that all examples are made of. Its ping is one that needs no rights, as Alpine's is. podman's has a
/// command, for pods name none.
const IMAGE: [&str; 7] = [
    "cp -a $ROOTFS image",
    "cp -L --parents $(ldd $(which ping) | grep -o '/[^ ]*') image",
    "cp --remove-destination $(which ping) image/bin/ping",
    "tar -C image -cf alpine.tar .",
    "podman import --change 'CMD [\"sleep\", \"1000\"]' alpine.tar docker.io/library/alpine:latest",
    "docker import alpine.tar alpine:latest",
    "docker save alpine:latest | ctr image import -",
];

/// What is taken away after a section.
const AFTER: [&str; 8] = [
    "podman pod rm --all --force --time 0",
    "podman rm --all --force --time 0",
    "podman network prune --force",
    "docker ps --all --quiet | xargs --no-run-if-empty docker rm --force",
    "docker network prune --force",
    "ctr task ls -q | xargs --no-run-if-empty ctr task rm --force",
    "ctr container ls -q | xargs --no-run-if-empty ctr container rm",
    "underlay network ls -q | xargs --no-run-if-empty underlay network rm",
];

/// One test for each page, and for what it wants of the kernel.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    let mut pages: Vec<_> = SECTIONS.iter().map(|section| (section.0, kernel(section))).collect();
    pages.dedup();
    for (page, kernel) in pages {
        let programs = ["podman", "dockerd", "ctr", "script"].map(Need::Program);
        let server = (page == DHCP).then_some(Kind::Dnsmasq.need());
        let needs = [&[Need::Installed, Need::Macvlan, kernel][..], &programs, server.as_slice()].concat();
        let stem = Path::new(page).file_stem().unwrap().to_str().unwrap();
        let mut name = stem.replace('-', "_").to_lowercase();
        if kernel != Need::Macvlan {
            name = format!("{name}::{kernel}");
        }
        // The folders of the machine are everybody's.
        let test = Test::new(format!("documented::{name}"), &needs, move || run_page(page, kernel)).alone();
        let sections = || of(page, kernel).map(|section| section.2);
        tests.push(match () {
            () if sections().all(|of| of == New) => test.of(&Debian::SINCE_13),
            () if sections().all(|of| of == Old) => test.of(&[Debian::Bookworm]),
            () => test,
        });
    }
    tests
}

/// The sections of a page that want this of the kernel.
fn of(page: &str, wanted: Need) -> impl Iterator<Item = &'static Section> {
    SECTIONS.iter().filter(move |section| section.0 == page && kernel(section) == wanted)
}

/// Whether this machine's engines are those a section is about.
fn fits(of: Of) -> bool {
    match of {
        All => true,
        Newest => run("ctr", &["--version"]).is_ok_and(|version| version.contains(" 2.")),
        New => !podman::splits_annotations(),
        Old => podman::splits_annotations(),
    }
}

/// Whether a command needs Docker, or the containerd below it.
fn of_docker(command: &str) -> bool {
    ["docker ", "ctr "].iter().any(|program| command.starts_with(program))
}

/// The machine that a page's sections run on, one after the other.
struct Machine<'a> {
    bed: &'a Bed,
    docker: Option<Docker<'a>>,
}

fn run_page(page: &str, kernel: Need) {
    let found = examples(page);
    let sections: Vec<_> = of(page, kernel).filter(|section| fits(section.2)).collect();
    let commands = |section: &Section| {
        let (_, commands) = found.iter().find(|(heading, _)| heading == section.1).unwrap();
        section.3.iter().copied().chain(commands.iter().map(String::as_str)).collect::<Vec<_>>()
    };
    let docker = sections.iter().flat_map(|section| commands(section)).any(of_docker);
    let bed = Bed::new();
    let options =
        Options { dns: vec![Ipv4Addr::new(10, 77, 0, 1)], domain: Some("example.net"), ..Options::default() };
    let _server = [DHCP, DOCKER].contains(&page).then(|| Server::start(&bed, Kind::Dnsmasq, options));
    let _plugin = [DOCKER, "README.md"].contains(&page).then(|| Plugin::installed(&bed));
    let docker = docker.then(|| Docker::with(&bed, daemon_settings()));
    let machine = Machine { bed: &bed, docker };
    machine.all(&IMAGE).unwrap();
    for section in sections {
        machine.run_section(&format!("{page}: {}", section.1), &commands(section));
    }
    machine.shell("podman rmi --all --force").unwrap();
}

impl Machine<'_> {
    /// Runs a line as who sits at a terminal, which `-it` wants.
    fn shell(&self, line: &str) -> Result<String, String> {
        let mut shell = self.bed.host.command("script");
        shell.args(["-qec", line, "/dev/null"]).env("SHELL", "/bin/sh").current_dir(self.bed.path(""));
        shell.env("UNDERLAY_REPOSITORY", repository()).env("ROOTFS", rootfs());
        finish(shell.envs(self.docker.iter().flat_map(Docker::variables)))
    }

    /// Runs all lines, but for those of Docker where it is not; what went wrong.
    fn all(&self, lines: &[&str]) -> Result<(), String> {
        let lines = lines.iter().filter(|line| self.docker.is_some() || !of_docker(line));
        let failed: Vec<_> = lines.filter_map(|line| self.shell(line).err()).collect();
        if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
    }

    fn run_section(&self, title: &str, commands: &[&str]) {
        forget();
        let links = self.links();
        let ran = commands.iter().try_for_each(|command| self.run_command(command));
        let removed = self.all(&AFTER);
        if let Err(error) = ran.and(removed) {
            panic!("{title}: {error}\n{}", run("underlay", &["events"]).unwrap_or_default());
        }
        assert_eq!(run("underlay", &["ps", "--format", "json"]).unwrap(), "[]\n", "{title}");
        assert_eq!(held(Path::new("/run/underlay")), [""; 0], "{title}");
        assert_eq!(self.links(), links, "{title}");
        forget();
    }

    /// Runs a command, and looks that a container it starts is attached.
    fn run_command(&self, command: &str) -> Result<(), String> {
        if ELSEWHERE.iter().any(|(start, _)| command.starts_with(start)) {
            return Ok(());
        }
        let before = attached();
        match (self.shell(command), FINDS.contains(&command)) {
            (Ok(_), false) => {}
            (Err(found), true) if found.contains("exit status: 1\n") => {}
            (Ok(said) | Err(said), _) => return Err(format!("{command}: {said}")),
        }
        match attached().difference(&before).count() {
            0 if command.contains(" run -d ") => Err(format!("{command}: nothing is attached by it")),
            _ => Ok(()),
        }
    }

    fn links(&self) -> BTreeSet<String> {
        let shown = self.bed.host.ip("-brief link");
        shown.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    }
}

/// Makes underlay forget all: each section is by itself.
fn forget() {
    for path in ["/run/underlay", "/var/lib/underlay"] {
        let _ = fs::remove_dir_all(path);
    }
    for path in ["/run/underlay.made", "/etc/underlay/underlay.json"] {
        let _ = fs::remove_file(path);
    }
}

/// The containers that are attached.
fn attached() -> BTreeSet<String> {
    let shown: Vec<Value> =
        serde_json::from_str(&run("underlay", &["ps", "--format", "json"]).unwrap()).unwrap();
    let attached = shown.iter().filter(|record| record["state"] == "attached");
    attached.map(|record| record["container"].to_string()).collect()
}

/// What the ledger in `folder` holds: records and leases, but no hints.
fn held(folder: &Path) -> Vec<String> {
    let folders = ["containers", "parents", "host_links"].map(|name| folder.join(name));
    let segments =
        fs::read_dir(folder.join("segments")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let files =
        folders.into_iter().chain(segments).flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    let names = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "segment.json").collect()
}

/// What docs/guides/docker.md puts into daemon.json, all of it at once.
fn daemon_settings() -> Value {
    let text = page(DOCKER);
    let mut all = serde_json::Map::new();
    for block in text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        for (key, value) in serde_json::from_str::<serde_json::Map<_, _>>(block).unwrap() {
            let known = all.entry(key).or_insert_with(|| json!({}));
            known.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        }
    }
    all.into()
}

fn page(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// The headings of a page that have commands below, and these: the lines of `sh` blocks, and those of blocks without a
/// language that begin with `$ `, each with the lines that continue it.
fn examples(name: &str) -> Vec<(String, Vec<String>)> {
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    let mut block = None;
    for line in page(name).lines().map(str::trim_start) {
        if let Some(language) = line.strip_prefix("```") {
            block = block.is_none().then(|| language.to_owned());
            let known = ["", "sh", "json", "yaml", "toml", "ini"].contains(&language);
            assert!(known, "{name}: are there commands in blocks of {language}?");
            continue;
        }
        if let (None, Some(heading)) = (&block, line.strip_prefix('#')) {
            sections.push((heading.trim_start_matches(['#', ' ']).to_owned(), Vec::new()));
        }
        let Some((_, commands)) = sections.last_mut() else { continue };
        match (&block, commands.last_mut().filter(|last| last.ends_with('\\'))) {
            (Some(_), Some(last)) => *last = format!("{last}\n{line}"),
            (Some(language), None) => {
                let prompt = if language == "sh" { "" } else { "$ " };
                let command = line.strip_prefix(prompt).filter(|_| language == "sh" || language.is_empty());
                commands.extend(
                    command.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
                );
            }
            (None, _) => {}
        }
    }
    sections.retain(|(_, commands)| !commands.is_empty());
    sections
}

/// No page, section or command is forgotten, and the tables name nothing that is gone. Takes the names of all tests, and
/// the documents of the repository.
pub fn complete(names: &BTreeSet<String>, documents: &[PathBuf]) {
    let pages = documents.iter().filter(|page| page.starts_with("docs") || page.as_os_str() == "README.md");
    let pages: Vec<_> = pages.map(|page| page.to_str().unwrap()).collect();
    assert!(pages.len() > 15, "{pages:?}");
    let mut elsewhere = BTreeSet::new();
    let mut found = BTreeSet::new();
    for page in pages {
        for (heading, commands) in examples(page) {
            for command in &commands {
                assert!(!command.contains('…'), "{page}: {command} cannot be run as it stands");
            }
            let of = |command: &String| ELSEWHERE.iter().find(|(start, _)| command.starts_with(start));
            elsewhere.extend(commands.iter().filter_map(of));
            if commands.iter().any(|command| of(command).is_none()) {
                found.insert(format!("{page}: {heading}"));
            }
        }
    }
    let table: BTreeSet<_> = SECTIONS.iter().map(|section| format!("{}: {}", section.0, section.1)).collect();
    assert_eq!(found, table, "sections with commands, and those that are run");
    assert_eq!(elsewhere, ELSEWHERE.iter().collect(), "what is tested elsewhere");
    for (command, test) in ELSEWHERE {
        let exists = names.contains(test) || repository().join(test).exists();
        assert!(exists, "{command} is not tested: there is no {test}");
    }
}
