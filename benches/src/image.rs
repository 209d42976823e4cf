//! What all engines start: a root file system with busybox, and bundles of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::measure::Job;

/// A root file system with busybox.
pub struct Image {
    pub rootfs: PathBuf,
}

impl Image {
    /// Makes it in `folder`.
    pub fn new(folder: &Path) -> Self {
        let rootfs = folder.join("rootfs");
        for name in ["bin", "proc", "sys", "dev", "etc", "run", "tmp"] {
            fs::create_dir_all(rootfs.join(name)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        for name in ["true", "sleep"] {
            symlink("busybox", rootfs.join("bin").join(name)).unwrap();
        }
        Self { rootfs }
    }

    /// It as an archive, which engines import.
    pub fn archive(&self) -> PathBuf {
        let archive = self.rootfs.with_extension("tar");
        Job::new(&format!("tar -C {} -cf {} .", self.rootfs.display(), archive.display())).run();
        archive
    }

    /// Makes a bundle for runc and crun at `folder`.
    pub fn bundle(&self, folder: &Path, command: &str, annotations: &Value, hooks: &Value) {
        let mount = |at: &str, kind: &str| json!({"destination": at, "type": kind, "source": kind});
        let words: Vec<_> = command.split_whitespace().collect();
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": words, "cwd": "/", "env": ["PATH=/bin"]},
            "root": {"path": self.rootfs, "readonly": false},
            "mounts": [mount("/proc", "proc"), mount("/sys", "sysfs"), mount("/dev", "tmpfs")],
            "annotations": annotations,
            "hooks": hooks,
            "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]},
        });
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }
}
