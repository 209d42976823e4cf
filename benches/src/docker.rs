//! Docker: a daemon starts its containers, so what they take is told by the clock, which counts the instructions of all.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::cases::{Results, record};
use crate::engines::Engines;
use crate::host::{Host, PARENT};
use crate::image::Image;
use crate::measure::Job;

/// The image of all containers.
pub const IMAGE: &str = "bench";

/// A daemon with files of its own, and the image; stopped when dropped.
pub struct Daemon {
    folder: PathBuf,
    process: Child,
}

impl Daemon {
    /// Starts it, with its files in `folder`. It finds our networks in /etc/cdi.
    pub fn start(folder: PathBuf, image: &Image) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let config = json!({
            "hosts": [format!("unix://{}", path("sock"))], "data-root": path("data"), "exec-root": path("exec"),
            "pidfile": path("pid"), "storage-driver": "overlay2", "log-driver": "none",
            "bridge": "none", "iptables": false, "ip6tables": false, "features": {"cdi": true},
        });
        fs::write(folder.join("daemon.json"), config.to_string()).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("dockerd");
        command.arg("--config-file").arg(folder.join("daemon.json")).stdin(Stdio::null());
        let process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let daemon = Self { folder, process };
        while !daemon.succeeds("info") {
            thread::sleep(Duration::from_millis(200));
        }
        daemon.job(&format!("import {} {IMAGE}", image.archive().display())).run();
        daemon
    }

    /// `docker` with the words of `arguments`.
    pub fn job(&self, arguments: &str) -> Job {
        Job::new(&format!("docker --host unix://{} {arguments}", self.folder.join("sock").display()))
    }

    /// Makes the network `bench` of its own, on `parent`.
    pub fn create_macvlan(&self, parent: &str) {
        let subnet = "--subnet 10.206.0.0/16 --gateway 10.206.0.1";
        self.job(&format!("network create -d macvlan {subnet} -o parent={parent} bench")).run();
    }

    /// Makes its network `ours` with driver `underlay`, on `parent`.
    pub fn create_ours(&self, parent: &str) {
        let options = "-d underlay --ipam-driver underlay --subnet 10.210.0.0/16 --gateway 10.210.0.1";
        self.job(&format!("network create {options} -o parent={parent} ours")).run();
    }

    fn succeeds(&self, arguments: &str) -> bool {
        let job = self.job(arguments);
        let mut command = Command::new(&job.words[0]);
        command.args(&job.words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It ends on a signal only, and takes its containerd along.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// A daemon with the network `bench` of its own.
pub struct Docker(Daemon);

impl Docker {
    pub fn start(host: &Host, engines: &Engines) -> Self {
        let daemon = Daemon::start(host.folder.join("docker"), &engines.image);
        daemon.create_macvlan(PARENT);
        Self(daemon)
    }

    /// One container of each kind.
    pub fn round(&self, results: &mut Results) {
        for (name, options) in [
            ("no network", "--network none"),
            ("our hook", "--network none --device underlay.io/net=m4"),
            ("its macvlan", "--network bench"),
        ] {
            let cost = self.0.job(&format!("run --rm {options} {IMAGE} /bin/true")).run();
            record(results, &format!("docker run, {name}"), cost);
        }
    }
}
