//! Files and folders that others than root can write.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::Line;

/// What lets others write a file: the id of the finding, a sentence that begins with the path, and the command that fixes
/// it.
pub(crate) type Fault = (&'static str, String, Line);

/// What lets others than root write `path`, whose owner and mode are these.
pub(crate) fn faults(path: &Path, uid: u32, mode: u32) -> Vec<Fault> {
    let mut faults = Vec::new();
    let shown = path.display();
    if uid != 0 {
        let what = format!("{shown} belongs to user {uid}, not to root");
        faults.push(("owner", what, Line::of("chown root").path(path)));
    }
    if mode & 0o022 != 0 {
        let what = format!("{shown} can be written by others than root (mode {:04o})", mode & 0o7777);
        faults.push(("mode", what, Line::of("chmod go-w").path(path)));
    }
    faults
}

/// What is wrong with the permissions of `path`, a file or folder of ours, if it is there.
pub(crate) fn permissions(path: &Path, area: Area) -> Vec<Finding> {
    let Ok(metadata) = fs::metadata(path) else { return Vec::new() };
    let why = "underlay reads no file that others than root can write, so no container that needs it starts";
    let finding = |(id, what, fix): Fault| Finding::new((area, Severity::Error, id), what, why, fix);
    faults(path, metadata.uid(), metadata.mode()).into_iter().map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_write() {
        let commands = |uid, mode| {
            let faults = faults(Path::new("/a b"), uid, mode).into_iter();
            faults.map(|(_, _, fix)| fix.to_string()).collect::<Vec<_>>()
        };
        assert!(commands(0, 0o100_600).is_empty() && commands(0, 0o040_755).is_empty());
        assert_eq!(commands(0, 0o100_664), ["chmod go-w '/a b'"]);
        assert_eq!(commands(7, 0o041_777), ["chown root '/a b'", "chmod go-w '/a b'"]);
    }
}
