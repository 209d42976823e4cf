//! Docker: a daemon starts its containers, so what they take is told by the clock, which counts the instructions of all.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::cases::{Results, record};
use crate::engines::{Engines, hook};
use crate::host::{Host, PARENT};
use crate::measure::Job;

const IMAGE: &str = "bench";

/// A daemon with nothing of its own but the network `bench`, and a CDI device of ours.
pub struct Docker {
    folder: PathBuf,
    daemon: Child,
}

impl Docker {
    pub fn start(host: &Host, engines: &Engines) -> Self {
        let folder = host.folder.join("docker");
        fs::create_dir_all(folder.join("cdi")).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let program = host.underlay.display().to_string();
        let edits = ["createRuntime", "poststop"].map(|stage| {
            let mut hook = hook(host, Some(&program), stage);
            hook["hookName"] = stage.into();
            hook
        });
        let device = json!({
            "cdiVersion": "0.6.0", "kind": "underlay.io/net",
            "devices": [{"name": "m4", "containerEdits": {"hooks": edits}}],
        });
        fs::write(folder.join("cdi/underlay.json"), device.to_string()).unwrap();
        let config = json!({
            "hosts": [format!("unix://{}", path("sock"))], "data-root": path("data"), "exec-root": path("exec"),
            "pidfile": path("pid"), "storage-driver": "overlay2", "log-driver": "none",
            "bridge": "none", "iptables": false, "ip6tables": false,
            "features": {"cdi": true}, "cdi-spec-dirs": [path("cdi")],
        });
        fs::write(folder.join("daemon.json"), config.to_string()).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("dockerd");
        command.arg("--config-file").arg(folder.join("daemon.json")).stdin(Stdio::null());
        let daemon = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let docker = Self { folder, daemon };
        while !docker.succeeds("info") {
            thread::sleep(Duration::from_millis(200));
        }
        let archive = docker.folder.join("image.tar").display().to_string();
        Job::new(&format!("tar -C {} -cf {archive} .", engines.rootfs.display())).run();
        docker.job(&format!("import {archive} {IMAGE}")).run();
        docker
            .job(&format!(
                "network create -d macvlan --subnet 10.206.0.0/16 --gateway 10.206.0.1 -o parent={PARENT} bench"
            ))
            .run();
        docker
    }

    /// `docker` with the words of `arguments`.
    fn job(&self, arguments: &str) -> Job {
        Job::new(&format!("docker --host unix://{} {arguments}", self.folder.join("sock").display()))
    }

    fn succeeds(&self, arguments: &str) -> bool {
        let job = self.job(arguments);
        let mut command = Command::new(&job.words[0]);
        command.args(&job.words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    /// One container of each kind.
    pub fn round(&self, results: &mut Results) {
        for (name, options) in [
            ("no network", "--network none"),
            ("our hook", "--network none --device underlay.io/net=m4 --annotation io.underlay.networks=m4"),
            ("its macvlan", "--network bench"),
        ] {
            let cost = self.job(&format!("run --rm {options} {IMAGE} /bin/true")).run();
            record(results, &format!("docker run, {name}"), cost);
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // It ends on a signal only, and takes its containerd along.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
    }
}
