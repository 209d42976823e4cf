//! podman, as it wants to be called.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::bed::{Bed, binary, finish};
use crate::harness::container::repository;
use crate::harness::rootfs;

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

/// Writes the files of hooks.d into the folder `bundle`, as they are shipped, but led to this bed's binary and files.
pub fn write_hooks(bed: &Bed, bundle: &Path) {
    let hooks = bundle.join("hooks");
    fs::create_dir_all(&hooks).unwrap();
    for name in ["underlay-createRuntime.json", "underlay-poststop.json"] {
        let path = repository().join("hooks.d").join(name);
        let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let arguments: Vec<_> = file["hook"]["args"].as_array().unwrap().clone();
        let (first, rest) = arguments.split_first().unwrap();
        let dirs = bed.dirs().map(Value::from);
        file["hook"]["path"] = binary().display().to_string().into();
        file["hook"]["args"] = [std::slice::from_ref(first), &dirs, rest].concat().into();
        fs::write(hooks.join(name), file.to_string()).unwrap();
    }
}

/// Whatever podman starts takes the hooks of this call, not those it was created with; without any of a bed's, the
/// package's.
pub fn with_hooks(bed: &Bed, bundle: &Path) -> Command {
    let mut command = podman(bed);
    let hooks = bundle.join("hooks");
    if hooks.exists() {
        command.arg("--hooks-dir").arg(hooks);
    }
    command
}

/// Makes an image of the tests' root file system.
pub fn import(bed: &Bed, name: &str) {
    finish(podman(bed).arg("import").arg(rootfs::archive(bed)).arg(name)).unwrap();
}

/// The process of the container whose folder is `bundle`.
pub fn pid(bundle: &Path) -> i32 {
    fs::read_to_string(bundle.join("pid")).unwrap().trim().parse().unwrap()
}
