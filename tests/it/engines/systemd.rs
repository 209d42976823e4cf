//! systemd on the host of a bed: process 1 of a pid namespace of its own, with units and cgroups of its own, which sees
//! this machine's files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::agent::{tasks, unclaimed};
use crate::harness::bed::{Bed, finish, run};
use crate::harness::container::wait;
use crate::harness::fake_docker::{FakeDocker, Plugin};
use crate::harness::need::Need;
use crate::harness::podman;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    use Need::{Installed, Macvlan, Program, Vlan};
    let all: [Named; 2] = [
        ("boot_and_journal", &[Macvlan, Vlan, Installed, Program("systemctl")], boot_and_journal),
        ("plugin_of_docker", &[Macvlan, Installed, Program("systemctl")], plugin_of_docker),
    ];
    // What systemd runs has the folders of the package.
    all.map(|(name, needs, run)| Test::new(format!("systemd::{name}"), needs, run).alone()).into()
}

/// The plugin is started by its socket as often as it is needed, and has all rights that its unit leaves it.
fn plugin_of_docker() {
    let bed = Bed::installed();
    let systemd = Systemd::start(&bed);
    systemd.run("systemctl", "start underlay-docker.socket");
    let is_active = || {
        systemd
            .command("systemctl")
            .args(["is-active", "underlay-docker.service"])
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(!is_active());
    let docker = FakeDocker::with(Plugin::of_systemd(&bed));
    assert!(is_active());
    let parent = json!({"parent": "eth0"});
    let network = docker.create("172.16.86.0/24", "172.16.86.1", parent, json!({})).unwrap();
    let container = docker.run(&network, "").unwrap();
    // The next one of an installation that other tests have used.
    assert!(bed.answers(container.address.trim_end_matches("/24")));
    wait(|| !is_active());
    docker.stop(&network, &container);
    docker.remove(&network);
    bed.assert_nothing_held();
    assert!(is_active());
    systemd.run("systemctl", "stop underlay-docker.socket underlay-docker.service");
}

/// Where quadlets lie.
const QUADLETS: &str = "/etc/containers/systemd";

/// Units that would change this machine for the other tests (a containerd that is gone leaves its socket, which dockerd
/// would wait for), or are of no use here and slow.
const MASKED: &str = "tmp.mount docker.socket docker.service containerd.service ldconfig.service \
    kmod-static-nodes.service systemd-sysctl.service systemd-modules-load.service \
    systemd-remount-fs.service systemd-sysusers.service systemd-update-done.service \
    systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
    systemd-tmpfiles-setup-dev-early.service systemd-journal-catalog-update.service";

/// A running systemd; gone with all its services when dropped.
pub struct Systemd {
    child: Child,
    init: i32,
    cgroup: PathBuf,
    log: PathBuf,
}

impl Systemd {
    /// Boots it as far as `basic.target`.
    pub fn start(bed: &Bed) -> Self {
        let cgroup = Path::new("/sys/fs/cgroup").join(&bed.host.name);
        fs::create_dir(&cgroup).unwrap();
        fs::create_dir_all(QUADLETS).unwrap();
        // Its own cgroup has no process but those it sees, and may so have cgroups with controllers below it.
        let script = format!(
            "mount --make-rslave /; mount -t proc proc /proc
             echo 0 > {0}/cgroup.procs; exec unshare --cgroup sh -ec '
             umount --lazy /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
             mkdir -p /run/systemd; mount -t tmpfs tmpfs /run/systemd; mkdir /run/systemd/system
             for unit in {MASKED}; do ln -s /dev/null /run/systemd/system/$unit; done
             exec env container=test /lib/systemd/systemd --system --unit=basic.target'",
            cgroup.display()
        );
        let mut unshare = bed.host.command("unshare");
        unshare.args(["--pid", "--mount", "--ipc", "--fork", "sh", "-ec", &script]);
        let log = bed.path("systemd.log");
        let file = fs::File::create(&log).unwrap();
        unshare.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = unshare.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let init = || fs::read_to_string(&children).unwrap_or_default().trim().parse::<i32>().ok();
        wait(|| init().is_some());
        let systemd = Self { init: init().unwrap(), child, cgroup, log };
        let state = || systemd.command("systemctl").arg("is-system-running").output().unwrap().stdout;
        wait(|| [&b"running\n"[..], b"degraded\n"].contains(&state().as_slice()));
        systemd
    }

    /// A program in its namespaces.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.init.to_string(),
            "--pid",
            "--mount",
            "--net",
            "--cgroup",
            "--ipc",
            program,
        ]);
        command
    }

    /// Runs `program`; what it prints.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &str) -> String {
        finish(self.command(program).args(arguments.split_whitespace())).unwrap()
    }

    /// What the journal has.
    pub fn journal(&self, arguments: &str) -> String {
        let mut command = self.command("journalctl");
        finish(command.args(["--no-pager", "--boot"]).args(arguments.split_whitespace())).unwrap()
    }

    /// Lays a quadlet where podman's generator finds it, and has the generator run.
    pub fn quadlet(&self, name: &str, text: &str) {
        fs::write(Path::new(QUADLETS).join(name), text).unwrap();
        self.run("systemctl", "daemon-reload");
    }

    /// The network namespace of podman's container `name`, as the machine outside sees it.
    pub fn netns_of(&self, name: &str) -> PathBuf {
        let pid = self.run("podman", &format!("inspect --format {{{{.State.Pid}}}} {name}"));
        PathBuf::from(format!("/proc/{}/root/proc/{}/ns/net", self.init, pid.trim()))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
            for (program, arguments) in [("systemctl", "list-jobs"), ("journalctl", "--boot --lines 40")] {
                let mut command = self.command(program);
                eprintln!(
                    "{}",
                    finish(command.arg("--no-pager").args(arguments.split(' ')))
                        .unwrap_or_else(|error| error)
                );
            }
        }
        let _ = fs::remove_dir_all(QUADLETS);
        // With it, all in its pid namespace are killed.
        let _ = run("kill", &["-9", &self.init.to_string()]);
        let _ = self.child.wait();
        let gone =
            || run("find", &[&self.cgroup.display().to_string(), "-depth", "-type", "d", "-delete"]).is_ok();
        wait(|| gone() && !self.cgroup.exists());
    }
}

/// An image with the name that the example of a quadlet has, and the example itself, in `network`.
pub fn example(bed: &Bed, network: &str) -> String {
    podman::import(bed, "docker.io/library/nginx:latest");
    let text = fs::read_to_string(
        crate::harness::container::repository().join("packaging/examples/lan-web.container"),
    )
    .unwrap();
    let asked = "lan:ip=192.168.1.210";
    assert!(text.contains(asked), "{text}");
    text.replace(asked, network).replace("\n\n[Service]", "\nExec=sleep 1000\nStopTimeout=0\n\n[Service]")
}

/// What the package's service makes at boot, and what the journal has of containers that are services themselves.
fn boot_and_journal() {
    let bed = Bed::installed();
    let before = bed.host_state();
    bed.create("--subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net");
    bed.create("--subnet=10.50.0.0/24 --host-access=10.50.0.9 -o parent=eth0.50 office");
    bed.host.ip("link del eth0.50");
    let systemd = Systemd::start(&bed);
    // Whoever is online by then has the links.
    systemd.run("systemctl", "start multi-user.target --no-block");
    wait(|| systemd.journal("--unit underlay-boot").contains("ulh-office"));
    wait(|| {
        systemd
            .command("systemctl")
            .args(["is-active", "--quiet", "underlay-boot"])
            .status()
            .unwrap()
            .success()
    });
    assert!(bed.host.ip("addr show dev ulh-office").contains("10.50.0.9/32"));

    if !podman::splits_annotations() {
        restarted(&bed, &systemd);
    }
    drop(systemd);
    bed.run("network rm pub_net office");
    assert_eq!(bed.host_state(), before);
    bed.assert_nothing_held();
}

/// A quadlet is restarted, and dies and comes again, as the same host on the LAN.
fn restarted(bed: &Bed, systemd: &Systemd) {
    let text = example(bed, "pub_net:ip=172.16.86.10");
    systemd.quadlet("lan-web.container", &text);
    systemd.run("systemctl", "start lan-web");
    let attached = || -> Option<Value> {
        let all: Vec<Value> = serde_json::from_str(&systemd.run("underlay", "ps --format json")).unwrap();
        let runs = |one: &Value| one["state"] == "attached" && one["alive"] == true;
        all.into_iter().find(|one| runs(one) && one["attachments"][0]["network"] == "pub_net")
    };
    let first = attached().unwrap_or_else(|| panic!("{}", systemd.run("underlay", "ps --format json")));
    assert!(bed.answers("172.16.86.10"));
    // The hook has left the agent word, and systemd has started it; it may do what its unit lets it.
    let is_active = |unit: &str| {
        let mut command = systemd.command("systemctl");
        command.args(["is-active", "--quiet", unit]).status().unwrap().success()
    };
    assert!(is_active("underlay-agent.path"));
    wait(|| is_active("underlay-agent.service"));
    wait(|| tasks(bed) == 0);
    wait(|| !unclaimed(bed).is_empty());
    systemd.run("systemctl", "kill --signal KILL underlay-agent");
    wait(|| systemd.journal("--unit underlay-agent").contains("Scheduled restart job"));
    wait(|| is_active("underlay-agent.service"));
    let said = systemd.journal("--unit underlay-agent");
    assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    // The doctor tells when nothing starts it, and its fix does.
    let doctor = || systemd.command("underlay").arg("doctor").output().unwrap().stdout;
    let doctor = || String::from_utf8_lossy(&doctor()).into_owned();
    assert!(doctor().contains("agent: all is well"), "{}", doctor());
    systemd.run("systemctl", "disable --now underlay-agent.path");
    assert!(
        doctor().contains("underlay-agent.path is not active: nothing starts the agent [agent]"),
        "{}",
        doctor()
    );
    systemd.run("systemctl", "enable --now underlay-agent.path");
    assert!(doctor().contains("agent: all is well"), "{}", doctor());
    systemd.run("systemctl", "restart lan-web");
    let second = attached().expect("it is attached again");
    assert_ne!(second["container"], first["container"]);
    let mac = |record: &Value| record["attachments"][0]["mac"].clone();
    assert_eq!(mac(&second), mac(&first));
    systemd.run("systemctl", "kill --signal KILL lan-web");
    wait(|| {
        attached()
            .is_some_and(|third| third["container"] != second["container"] && mac(&third) == mac(&first))
    });
    assert!(bed.answers("172.16.86.10"));
    // By its fields, as the page says.
    let container = second["container"].as_str().unwrap();
    let query = format!("SYSLOG_IDENTIFIER=underlay UNDERLAY_EVENT=attached UNDERLAY_CONTAINER={container}");
    let said: Value = serde_json::from_str(&systemd.journal(&format!("{query} --output json"))).unwrap();
    assert_eq!((&said["UNDERLAY_NETWORKS"], &said["PRIORITY"]), (&"pub_net".into(), &"6".into()));
    let message = format!("attached {container} pub_net:eth0,172.16.86.10/24");
    assert_eq!(said["MESSAGE"], message);
    systemd.run("systemctl", "stop lan-web");
    assert!(attached().is_none());
}
