//! podman, as it wants to be called.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::bed::{Bed, finish};

/// podman on the host of `bed`.
pub fn podman(bed: &Bed) -> Command {
    bed.host.command("podman")
}

/// Whether this podman reads annotations as lists: before 5.0 it splits them at commas that are not quoted as in CSV.
pub fn splits_annotations() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let version = finish(Command::new("podman").arg("--version")).unwrap();
        let major = version.rsplit(' ').next().unwrap().split('.').next().unwrap();
        major.parse::<u32>().unwrap() < 5
    })
}

/// Whatever podman starts takes the hooks of this call, not those it was created with.
pub fn with_hooks(bed: &Bed, bundle: &Path) -> Command {
    let mut command = podman(bed);
    command.arg("--hooks-dir").arg(bundle.join("hooks"));
    command
}

/// The process of the container whose folder is `bundle`.
pub fn pid(bundle: &Path) -> i32 {
    fs::read_to_string(bundle.join("pid")).unwrap().trim().parse().unwrap()
}
