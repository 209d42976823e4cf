//! What the containers of all engines run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::bed::{Bed, finish};

/// A root file system of busybox, made once for all tests; [`clean_up`] removes it.
pub fn rootfs() -> PathBuf {
    static MADE: OnceLock<()> = OnceLock::new();
    let folder = rootfs_path();
    MADE.get_or_init(|| {
        for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let busybox = finish(Command::new("which").arg("busybox")).expect("busybox (package busybox-static)");
        fs::copy(busybox.trim(), folder.join("bin/busybox")).unwrap();
        for name in ["sh", "sleep", "ip", "ping", "cat"] {
            symlink("busybox", folder.join("bin").join(name)).unwrap();
        }
    });
    folder
}

/// It as an archive, which engines make images of.
pub fn archive(bed: &Bed) -> PathBuf {
    let archive = bed.path("image.tar");
    finish(Command::new("tar").arg("-C").arg(rootfs()).arg("-cf").arg(&archive).arg(".")).unwrap();
    archive
}

/// Removes what all tests share.
pub fn clean_up() {
    let _ = fs::remove_dir_all(rootfs_path());
}

fn rootfs_path() -> PathBuf {
    std::env::temp_dir().join(format!("ultest-{}-rootfs", std::process::id()))
}
