//! A Docker daemon on the host of a bed, with containerd below it, and containers of both.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::bed::{Bed, finish, run};
use crate::harness::container::{Container, wait};
use crate::harness::need::Need;
use crate::harness::rootfs::{self, rootfs};

/// The image that all containers are made of.
const IMAGE: &str = "box";

/// The major version of this machine's Docker.
pub fn version() -> u32 {
    static KNOWN: OnceLock<u32> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let said = run("dockerd", &["--version"]).unwrap();
        let version = said.split_whitespace().nth(2).unwrap_or_default();
        version.split('.').next().unwrap().parse().unwrap_or_else(|_| panic!("{said}"))
    })
}

/// Docker 25 and later know CDI.
pub fn knows_cdi() -> bool {
    version() >= 25
}

/// The daemon; gone with all its containers when dropped.
pub struct Docker<'a> {
    bed: &'a Bed,
    daemon: Child,
    _alone: MutexGuard<'static, ()>,
}

/// One daemon at a time: each is a load for a small machine.
static ONE: Mutex<()> = Mutex::new(());

impl<'a> Docker<'a> {
    /// Starts it, with `underlay-runtime` as runtime `underlay`, and once more as `lan`, whose containers are all in
    /// `pub_net`.
    pub fn start(bed: &'a Bed) -> Self {
        let wrapper = bed.wrapper_script();
        let mut settings = json!({
            "runtimes": {
                "underlay": {"path": wrapper},
                "lan": {"path": wrapper, "runtimeArgs": ["--network", "pub_net"]},
            },
        });
        if knows_cdi() {
            settings["features"] = json!({"cdi": true});
            settings["cdi-spec-dirs"] = json!([bed.path("cdi")]);
        }
        Self::with(bed, settings)
    }

    /// Starts it with these settings, besides those that keep it to the bed.
    pub fn with(bed: &'a Bed, settings: Value) -> Self {
        let folder = bed.path("docker");
        fs::create_dir(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let mut config = json!({
            "hosts": [format!("unix://{}", path("sock"))], "data-root": path("data"), "exec-root": path("exec"),
            "pidfile": path("pid"), "storage-driver": "overlay2", "log-driver": "none",
            "bridge": "none", "iptables": false, "ip6tables": false,
        });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        fs::write(folder.join("daemon.json"), config.to_string()).unwrap();
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut docker = Self { bed, daemon: daemon(bed), _alone: alone };
        docker.wait();
        docker.run(&format!("import {} {IMAGE}", rootfs::archive(bed).display())).unwrap();
        docker
    }

    /// Waits until it answers.
    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(180);
        while self.run("info").is_err() {
            assert!(Instant::now() < until, "the daemon does not answer");
            // It gives its containerd fifteen seconds to start, and ends: too few on a machine under load.
            if self.daemon.try_wait().unwrap().is_some() {
                self.daemon = daemon(self.bed);
            }
            thread::sleep(Duration::from_millis(300));
        }
    }

    /// Kills the daemon, and starts it again.
    pub fn kill(&mut self) {
        let file = self.bed.path("docker/exec/containerd/containerd.pid");
        let containerd: i32 = fs::read_to_string(file).unwrap().trim().parse().unwrap();
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        // The kernel kills its containerd. Where this process is the first one, no other reaps that.
        let folder = PathBuf::from(format!("/proc/{containerd}"));
        wait(|| {
            let _ = waitpid(Pid::from_raw(containerd), Some(WaitPidFlag::WNOHANG));
            !folder.exists()
        });
        self.daemon = daemon(self.bed);
        self.wait();
    }

    /// What a reboot of the host does: no process is left, nor what was in memory; then Docker starts.
    pub fn reboot(&mut self) {
        let ids = self.run("ps --quiet --no-trunc").unwrap();
        let pids = self.run(&format!("inspect --format {{{{.State.Pid}}}} {}", ids.replace('\n', " ")));
        let exec = self.bed.path("docker/exec");
        let containerd = fs::read_to_string(exec.join("containerd/containerd.pid")).unwrap();
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        let shims =
            run("pgrep", &["-f", &format!("containerd-shim.*{}", exec.display())]).unwrap_or_default();
        let killed = format!("{shims}\n{containerd}\n{}", pids.unwrap());
        for pid in killed.split_whitespace().map(|pid| pid.parse().unwrap()).filter(|&pid| pid > 0) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            let folder = PathBuf::from(format!("/proc/{pid}"));
            wait(|| {
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
                !folder.exists()
            });
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        for path in mounted.filter(|path| path.starts_with(&exec.display().to_string())) {
            run("umount", &["--lazy", path]).unwrap();
        }
        fs::remove_dir_all(&exec).unwrap();
        fs::remove_dir_all(self.bed.path("run")).unwrap();
        self.daemon = daemon(self.bed);
        self.wait();
    }

    /// Ends the daemon, and starts it again. Returns how long it took until it answered.
    pub fn restart(&mut self) -> Duration {
        self.end();
        let start = Instant::now();
        self.daemon = daemon(self.bed);
        while !self.answers() {
            assert!(start.elapsed() < Duration::from_secs(180), "the daemon does not answer");
            assert!(self.daemon.try_wait().unwrap().is_none(), "the daemon has ended");
            thread::sleep(Duration::from_millis(10));
        }
        start.elapsed()
    }

    fn end(&mut self) {
        let _ = kill(Pid::from_raw(self.daemon.id() as i32), Signal::SIGTERM);
        let _ = self.daemon.wait();
    }

    /// Whether it answers. It listens before it does; the answer is waited for.
    fn answers(&self) -> bool {
        let ask = || {
            let mut stream = UnixStream::connect(self.bed.path("docker/sock"))?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).map(|()| status.ends_with(b" 200"))
        };
        ask().unwrap_or(false)
    }

    /// The command line.
    pub fn command(&self) -> Command {
        let mut command = self.bed.host.command("docker");
        command.arg("--host").arg(format!("unix://{}", self.bed.path("docker/sock").display()));
        command
    }

    /// What leads `docker` and `ctr` to it.
    pub fn variables(&self) -> [(&'static str, PathBuf); 2] {
        let sock = format!("unix://{}", self.bed.path("docker/sock").display());
        [("DOCKER_HOST", sock.into()), ("CONTAINERD_ADDRESS", self.socket())]
    }

    /// Runs `docker`; what it prints, or what went wrong.
    pub fn run(&self, arguments: &str) -> Result<String, String> {
        finish(self.command().args(arguments.split_whitespace()))
    }

    /// Starts a container that sleeps.
    pub fn start_container(&self, name: &str, options: &str) -> Result<Container<'a>, String> {
        self.run(&format!("run --detach --network none --name {name} {options} {IMAGE} sleep 1000"))?;
        Ok(self.container(name))
    }

    /// The running container `name`.
    #[track_caller]
    pub fn container(&self, name: &str) -> Container<'a> {
        let shown = self.run(&format!("inspect --format {{{{.Id}}}}/{{{{.State.Pid}}}} {name}")).unwrap();
        let (id, pid) = shown.trim().split_once('/').unwrap();
        Container::of_another(self.bed, id.to_owned(), pid.parse().unwrap())
    }

    /// `ctr`, with this daemon's containerd.
    pub fn ctr(&self, arguments: &str) -> Result<String, String> {
        let mut command = self.bed.host.command("ctr");
        command.arg("--address").arg(self.socket());
        finish(command.args(arguments.split_whitespace()))
    }

    fn socket(&self) -> PathBuf {
        self.bed.path("docker/exec/containerd/containerd.sock")
    }

    /// Starts a container that sleeps by containerd alone.
    pub fn start_by_ctr(&self, id: &str, options: &str) -> Result<Container<'a>, String> {
        let rootfs = rootfs();
        // ctr 1.7 and later ask for a share of the CPUs, which the cgroup may have no controller for.
        let has_cpu = Need::CpuController.missing().is_none();
        let shares = has_cpu || !self.ctr("run --help")?.contains("--cpu-shares");
        let shares = if shares { "" } else { "--cpu-shares 0" };
        self.ctr(&format!(
            "run --detach --null-io {shares} {options} --rootfs {} {id} /bin/sleep 1000",
            rootfs.display()
        ))?;
        let tasks = self.ctr("task ls")?;
        let row = tasks.lines().find(|row| row.split_whitespace().next() == Some(id));
        let pid = row.and_then(|row| row.split_whitespace().nth(1)).unwrap().parse().unwrap();
        Ok(Container::of_another(self.bed, id.to_owned(), pid))
    }
}

/// Starts the daemon, as its file of settings says.
fn daemon(bed: &Bed) -> Child {
    let folder = bed.path("docker");
    let log = fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    let mut command = bed.host.command("dockerd");
    command.arg("--config-file").arg(folder.join("daemon.json"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    command.spawn().unwrap()
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.bed.path("docker/log")).unwrap_or_default();
            let last = log.lines().rev().take(20).collect::<Vec<_>>();
            eprintln!("{}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"), self.bed.log());
        }
        if let Ok(all) = self.run("ps --all --quiet") {
            let _ = self.run(&format!("rm --force {}", all.replace('\n', " ")));
        }
        self.end();
    }
}
