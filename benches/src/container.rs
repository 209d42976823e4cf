//! Processes with a network namespace of their own, in place of containers, and what a runtime would say of them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

/// A process that waits in a network namespace of its own.
pub struct Container {
    process: Child,
    pub id: String,
    pub bundle: PathBuf,
    /// A path that the namespace is mounted at, as engines do, if there is one.
    pub mounted: Option<PathBuf>,
}

/// The container's process: says when it is ready.
pub fn pause() -> ! {
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    // Runtimes set `lo` up.
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    println!("ready");
    loop {
        sleep(Duration::from_secs(3600));
    }
}

impl Container {
    /// A container that asks for `networks`.
    pub fn new(folder: &Path, id: &str, networks: &str) -> Self {
        let bundle = folder.join(id);
        fs::create_dir_all(&bundle).unwrap();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["/bin/true"], "cwd": "/"},
            "root": {"path": "rootfs"},
            "annotations": {"io.underlay.networks": networks},
            "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}, {"type": "mount"}]},
        });
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        let mut pause = Command::new("/proc/self/exe");
        let mut process = pause.arg("pause").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        process.stdout.take().unwrap().read_exact(&mut [0; 6]).unwrap();
        Self { process, id: id.to_owned(), bundle, mounted: None }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Mounts its namespace at /run/netns.
    pub fn mount(&mut self) -> PathBuf {
        let path = Path::new("/run/netns").join(&self.id);
        fs::create_dir_all("/run/netns").unwrap();
        fs::write(&path, "").unwrap();
        let namespace = format!("/proc/{}/ns/net", self.pid());
        assert!(Command::new("mount").args(["--bind", &namespace]).arg(&path).status().unwrap().success());
        self.mounted = Some(path.clone());
        path
    }

    /// The OCI state at `status`.
    pub fn state(&self, status: &str) -> String {
        let pid = if status == "stopped" { 0 } else { self.pid() };
        json!({"ociVersion": "1.0.2", "id": self.id, "pid": pid, "status": status, "bundle": self.bundle})
            .to_string()
    }

    /// Ends the process; its namespace goes too, unless it is mounted. Returns when the kernel has taken it apart.
    pub fn end(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        sleep(Duration::from_millis(150));
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end();
        if let Some(path) = &self.mounted {
            let _ = Command::new("umount").arg(path).status();
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_dir_all(&self.bundle);
    }
}
