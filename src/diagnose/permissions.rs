//! Who can write where nobody but root should, and on what the ledger lies.

use std::path::Path;

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::Line;

/// Who may do what with a file or folder (stat(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Its owner.
    pub uid: u32,
    /// Its permissions.
    pub mode: u32,
}

/// What is wrong with who may write `path`: the hook refuses to read it then.
pub(crate) fn access(path: &Path, access: Access, area: Area) -> Vec<Finding> {
    let shown = path.display();
    let why =
        "underlay believes no file that others than root can write, so no container that needs it starts";
    let finding = |id, what, fix: Line| Finding::new((area, Severity::Error, id), what, why, fix.path(path));
    let mut findings = Vec::new();
    if access.uid != 0 {
        let what = format!("{shown} belongs to user {}, not to root", access.uid);
        findings.push(finding("owner", what, Line::of("chown root")));
    }
    if access.mode & 0o022 != 0 {
        let what = format!("{shown} can be written by others than root (mode {:04o})", access.mode & 0o7777);
        findings.push(finding("mode", what, Line::of("chmod go-w")));
    }
    findings
}

/// The ledger is on a file system that outlives a boot.
pub(crate) fn not_on_tmpfs(path: &Path) -> Finding {
    Finding::new(
        (Area::State, Severity::Warning, "state-dir"),
        format!("the state folder {} is not on a tmpfs", path.display()),
        "after a reboot the ledger would tell of containers that are gone, and each write waits for a disk; mount it \
         while no container runs",
        Line::of("mkdir -p").path(path).and(&Line::of("mount -t tmpfs -o mode=0700 tmpfs").path(path)),
    )
}

/// What `gc` would do, in `steps`.
pub(crate) fn left_over(steps: &[String]) -> Option<Finding> {
    let first = steps.first()?;
    let count = match steps.len() {
        1 => "one thing".to_owned(),
        many => format!("{many} things"),
    };
    Some(Finding::new(
        (Area::State, Severity::Warning, "left-over"),
        format!("{count} of dead containers, or of nobody, are left over, the first: {first}"),
        "addresses and links that nobody uses are held until somebody else needs them",
        Line::of("underlay gc"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_write() {
        let commands = |uid, mode| {
            access(Path::new("/a b"), Access { uid, mode }, Area::State)
                .into_iter()
                .map(|finding| finding.fix.to_string())
                .collect::<Vec<_>>()
        };
        assert!(commands(0, 0o100_600).is_empty() && commands(0, 0o040_755).is_empty());
        assert_eq!(commands(0, 0o100_664), ["chmod go-w '/a b'"]);
        assert_eq!(commands(7, 0o041_777), ["chown root '/a b'", "chmod go-w '/a b'"]);
        assert!(left_over(&[]).is_none());
    }
}
