//! systemd as process 1 of a pid namespace, with cgroups of its own, for quadlets: podman's containers as services.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::docker::IMAGE;
use crate::measure::Job;

/// Where quadlets lie.
const QUADLETS: &str = "/etc/containers/systemd";
/// What would be in the way of the engines and the agent that the benchmark has started, or has nothing to do here.
const MASKED: [&str; 12] = [
    "containerd.service",
    "docker.service",
    "docker.socket",
    "ldconfig.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-tmpfiles-setup-dev.service",
    "systemd-tmpfiles-setup.service",
    "tmp.mount",
    "underlay-agent.path",
];

/// A running systemd; gone with all its services when dropped.
pub struct Systemd {
    child: Child,
    init: String,
}

impl Systemd {
    /// Boots it, with a service `bench-NAME` for each of `quadlets`: a name, and lines of its section `[Container]`.
    pub fn start(quadlets: &[(&str, &str)]) -> Self {
        for unit in MASKED {
            let _ = symlink("/dev/null", Path::new("/etc/systemd/system").join(unit));
        }
        fs::create_dir_all(QUADLETS).unwrap();
        for (name, lines) in quadlets {
            let text = format!("[Container]\nImage={IMAGE}\nExec=sleep 1000\nStopTimeout=0\n{lines}\n");
            fs::write(Path::new(QUADLETS).join(format!("bench-{name}.container")), text).unwrap();
        }
        let cgroup = "/sys/fs/cgroup/systemd";
        fs::create_dir(cgroup).unwrap();
        // A cgroup has no process if it is to have cgroups with controllers below it, but for those that systemd sees.
        let script = format!(
            "mount --make-rslave /; mount -t proc proc /proc; echo 0 > {cgroup}/cgroup.procs
             exec unshare --cgroup sh -ec 'umount --lazy /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup
             exec env container=bench /lib/systemd/systemd --system --unit=basic.target'"
        );
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--mount", "--ipc", "--fork", "sh", "-ec", &script]);
        let child = unshare.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let init = loop {
            let init = fs::read_to_string(&children).unwrap().trim().to_owned();
            if !init.is_empty() {
                break init;
            }
            sleep(Duration::from_millis(20));
        };
        let systemd = Self { child, init };
        while !systemd.is_up() {
            sleep(Duration::from_millis(100));
        }
        systemd
    }

    /// `systemctl` with the words of `arguments`.
    pub fn job(&self, arguments: &str) -> Job {
        let namespaces = "--pid --mount --net --cgroup --ipc";
        Job::new(&format!("nsenter --target {} {namespaces} systemctl {arguments}", self.init))
    }

    fn is_up(&self) -> bool {
        let job = self.job("is-system-running");
        let mut command = Command::new(&job.words[0]);
        let state = command.args(&job.words[1..]).stderr(Stdio::null()).output().unwrap().stdout;
        matches!(state.as_slice(), b"running\n" | b"degraded\n")
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.init]).status();
        let _ = self.child.wait();
    }
}
