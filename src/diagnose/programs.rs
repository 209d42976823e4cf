//! The programs that hook files and the CDI file name: whether they run, and whether others than root can change them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::system::{CDI, System};
use crate::escape::shell::Line;

/// What is wrong with the program `called`, which the file `by` names; `rewrite` writes that file anew.
pub(crate) fn program(system: &System, called: &str, by: &str, rewrite: Line) -> Option<Finding> {
    let path = system.path(called);
    let shown = path.display();
    let finding = |id, what, why, fix: Line| Finding::new((Area::Hooks, Severity::Error, id), what, why, fix);
    let skipped =
        "an engine skips a hook whose program it cannot run, and starts the container without its network";
    match fs::metadata(&path) {
        Err(_) => {
            let what = format!("there is no {shown}, which {by} calls");
            Some(finding("hook-program", what, skipped, rewrite))
        }
        Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
            let what = format!("{shown} cannot be executed, and {by} calls it");
            Some(finding("hook-program", what, skipped, Line::of("chmod 755").path(&path)))
        }
        Ok(_) => {
            let (_, what, fix) = system.fault_on_way_to(&path)?;
            let what = format!("{what}, and {by} calls {shown}");
            let why = "engines run it as root for every container: anyone who can change it is root; or install underlay \
                       where root alone can write, and have the file written anew";
            Some(finding("program-of-others", what, why, fix))
        }
    }
}

/// What is wrong with the programs that our CDI file names.
pub(crate) fn of_cdi(system: &System) -> Vec<Finding> {
    let (by, text) = system.files(CDI, "").pop().unwrap_or_default();
    let programs = in_cdi(&text).into_iter();
    programs.filter_map(|called| program(system, &called, &by, Line::of("underlay cdi"))).collect()
}

/// The programs that the CDI file `text` names.
fn in_cdi(text: &str) -> BTreeSet<String> {
    let spec: Value = serde_json::from_str(text).unwrap_or_default();
    let devices = spec.get("devices").and_then(Value::as_array).into_iter().flatten();
    let hooks = devices.chain([&spec]).filter_map(|item| item.pointer("/containerEdits/hooks")?.as_array());
    hooks.flatten().filter_map(|hook| hook.get("path")?.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path().to_owned());
        let path = root.path().join("a b");
        let found = || {
            let found = program(&system, "/a b", "/h.json", Line::of("write"));
            found.map(|finding| (finding.id, finding.fix.to_string()))
        };
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(found(), Some(("hook-program", "write".to_owned())));
        fs::write(&path, "").unwrap();
        set(0o644);
        assert_eq!(found(), Some(("hook-program", format!("chmod 755 '{}'", path.display()))));
        set(0o775);
        let (id, fix) = found().unwrap();
        assert_eq!(id, "program-of-others");
        assert!(fix.ends_with(&format!(" '{}'", path.display())), "{fix}");
    }

    #[test]
    fn programs_of_devices() {
        let text = r#"{"devices": [{"containerEdits": {"hooks": [{"path": "/b"}, {"path": "/a"}]}},
            {"name": "x"}, {"containerEdits": {"hooks": [{"path": "/a"}, {}]}}], "containerEdits": {"hooks": [{"path": "/c"}]}}"#;
        assert_eq!(in_cdi(text).into_iter().collect::<Vec<_>>(), ["/a", "/b", "/c"]);
        for text in ["", "{", "[]", r#"{"devices": 5}"#] {
            assert!(in_cdi(text).is_empty());
        }
    }
}
