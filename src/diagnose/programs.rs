//! The programs that hook files and the CDI file name: whether they run, and who could change them.

use std::path::PathBuf;

use serde_json::Value;

use super::permissions::Access;
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::{self, Line};

/// What is there of a hook's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// It can be run.
    Runs,
    /// There is a file, which cannot be.
    NotExecutable,
    /// There is none.
    Missing,
    /// It can be run, and others than root can put another in its place: by this file or folder.
    OfOthers(PathBuf, Access),
}

/// What is wrong with the program at `called`, which the file `path` names; `rewrite` writes that file anew.
pub(crate) fn program(found: &Program, called: &str, path: &str, rewrite: Line) -> Option<Finding> {
    let finding = |id, what, why, fix: Line| Finding::new((Area::Hooks, Severity::Error, id), what, why, fix);
    let passed_over = "an engine passes over a hook whose program it cannot run, and starts the container without its network";
    match found {
        Program::Runs => None,
        Program::NotExecutable => {
            let what = format!("{} cannot be executed, which {path} calls", shell::word(called));
            let fix = Line::of("chmod 755").word(called);
            Some(finding("hook-program", what, passed_over, fix))
        }
        Program::Missing => {
            let what = format!("there is no {}, which {path} calls", shell::word(called));
            Some(finding("hook-program", what, passed_over, rewrite))
        }
        Program::OfOthers(part, access) => {
            let shown = part.display();
            let (whose, fix) = match access.uid {
                0 => (
                    format!("can be written by others than root (mode {:04o})", access.mode & 0o7777),
                    Line::of("chmod go-w"),
                ),
                uid => (format!("belongs to user {uid}, not to root"), Line::of("chown root")),
            };
            let what = format!("{shown} {whose}, and {path} calls {}", shell::word(called));
            let why = "engines run it as root for every container: whoever can change it is root; or install underlay where \
                       root alone can write, and have the file written anew";
            Some(finding("program-of-others", what, why, fix.path(part)))
        }
    }
}

/// The programs that the CDI file `text` names, each once.
pub(crate) fn of_cdi(text: &str) -> Vec<String> {
    let spec: Value = serde_json::from_str(text).unwrap_or_default();
    let items =
        |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let devices = items(&spec, "devices");
    let edits = devices.iter().chain([&spec]).filter_map(|device| device.get("containerEdits"));
    let hooks = edits.flat_map(|edits| items(edits, "hooks"));
    let mut programs: Vec<String> =
        hooks.filter_map(|hook| hook.get("path").and_then(Value::as_str).map(str::to_owned)).collect();
    programs.sort();
    programs.dedup();
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong() {
        let found = |found: Program| {
            program(&found, "/a b", "/h.json", Line::of("write"))
                .map(|finding| (finding.id, finding.fix.to_string()))
        };
        assert_eq!(found(Program::Runs), None);
        assert_eq!(found(Program::NotExecutable), Some(("hook-program", "chmod 755 '/a b'".to_owned())));
        assert_eq!(found(Program::Missing), Some(("hook-program", "write".to_owned())));
        let of = |uid, mode| found(Program::OfOthers("/x y".into(), Access { uid, mode }));
        assert_eq!(of(7, 0o40_755), Some(("program-of-others", "chown root '/x y'".to_owned())));
        assert_eq!(of(0, 0o40_775), Some(("program-of-others", "chmod go-w '/x y'".to_owned())));
    }

    #[test]
    fn programs_of_devices() {
        let text = r#"{"devices": [{"containerEdits": {"hooks": [{"path": "/b"}, {"path": "/a"}]}},
            {"name": "x"}, {"containerEdits": {"hooks": [{"path": "/a"}, {}]}}], "containerEdits": {"hooks": [{"path": "/c"}]}}"#;
        assert_eq!(of_cdi(text), ["/a", "/b", "/c"]);
        for text in ["", "{", "[]", r#"{"devices": 5}"#] {
            assert!(of_cdi(text).is_empty());
        }
    }
}
