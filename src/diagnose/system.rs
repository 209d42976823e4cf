//! Reads the files of other programs, and tells whether others than root can write a file. Files of other programs are below
//! a root folder, so that a system that is mounted elsewhere can be examined.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::fs::file::{self, Trust};
use crate::fs::trust::{self, Fault, faults};

/// No file that is read is larger.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Where our CDI file is.
pub(crate) const CDI: &str = "/etc/cdi/underlay.json";

/// The files of a system.
#[derive(Clone, Debug)]
pub(crate) struct System {
    root: PathBuf,
}

impl System {
    /// That of the folder `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the file that the system calls `path` is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether there is such a file or folder.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Whether it is the system that this program runs on: of another one nothing is run.
    pub(crate) fn is_this_one(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The files of the folder `path` whose names end in `ending`, in the order of these, or else the file `path`; each with
    /// its text, which is empty if it cannot be read.
    pub(crate) fn files(&self, path: &str, ending: &str) -> Vec<(String, String)> {
        let path = self.path(path);
        let mut files = match fs::read_dir(&path) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => vec![path],
        };
        files.retain(|path| path.to_string_lossy().ends_with(ending));
        files.sort();
        let read = |path: &PathBuf| {
            let text = file::read(path, LIMIT, Trust::Anybody).ok().flatten().unwrap_or_default();
            (path.to_string_lossy().into_owned(), String::from_utf8_lossy(&text).into_owned())
        };
        files.iter().map(read).collect()
    }

    /// What lets others than root put another file in the place of `path`: its own permissions, or those of a folder above
    /// it.
    pub(crate) fn fault_on_way_to(&self, path: &Path) -> Option<Fault> {
        // Symbolic links of another system would lead into this one.
        let path = if self.is_this_one() { fs::canonicalize(path).ok()? } else { path.to_owned() };
        let is_above = |part: &&Path| !self.is_this_one() && self.root.starts_with(part);
        path.ancestors().filter(|part| !is_above(part)).find_map(|part| {
            let metadata = fs::symlink_metadata(part).ok()?;
            trust::check_part(part, &metadata).err()?;
            faults(part, metadata.uid(), metadata.mode()).into_iter().next()
        })
    }
}

/// What is wrong with the permissions of `path`, a file or folder of ours, if it is there.
pub(crate) fn permissions(path: &Path, area: Area) -> Vec<Finding> {
    let Ok(metadata) = fs::metadata(path) else { return Vec::new() };
    let why = "underlay reads no file that others than root can write, so no container that needs it starts";
    let finding = |(id, what, fix): Fault| Finding::new((area, Severity::Error, id), what, why, fix);
    faults(path, metadata.uid(), metadata.mode()).into_iter().map(finding).collect()
}
