//! The hook files of podman and CRI-O (oci-hooks(5)), without which containers start without their networks.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::system::{CDI, System};
use crate::escape::shell::Line;
use crate::oci::hooks::HookEntry;

/// Where engines read hook files, unless their settings name other folders by `hooks_dir`.
const FOLDER: &str = "/usr/share/containers/oci/hooks.d";

/// The hook files as they are shipped, by stage.
const SHIPPED: [(&str, &str); 2] = [
    ("createRuntime", include_str!("../../hooks.d/underlay-createRuntime.json")),
    ("poststop", include_str!("../../hooks.d/underlay-poststop.json")),
];
/// The program that they call.
const PROGRAM: &str = "/usr/bin/underlay";

/// The engines that read hook files, their programs, and the folders of their settings (containers.conf(5), crio.conf(5)).
const ENGINES: [(&str, &str, &[&str]); 2] = [
    ("podman", "podman", &["/usr/share/containers", "/etc/containers", "/etc/containers/containers.conf.d"]),
    ("CRI-O", "crio", &["/etc/crio", "/etc/crio/crio.conf.d"]),
];

/// What is wrong with the hooks of the engines that are installed.
pub(crate) fn hooks(system: &System) -> Vec<Finding> {
    let folder = system.path(FOLDER);
    let files = system.files(FOLDER, ".json");
    let mut findings = Vec::new();
    for (engine, program, settings) in ENGINES {
        if !["/usr/bin", "/usr/local/bin"].iter().any(|folder| system.has(&format!("{folder}/{program}"))) {
            continue;
        }
        let mut settings = settings.iter().flat_map(|path| system.files(path, ".conf"));
        if let Some((path, _)) = settings.find(|(_, text)| names_others(text)) {
            findings.push(Finding::new(
                (Area::Hooks, Severity::Note, "hook-folders"),
                format!("{engine} reads hook files from the folders that hooks_dir in {path} names"),
                "they are not examined: without underlay's hook files in one of them, containers start without their networks",
                format!("add {} to hooks_dir, unless it is there", folder.display()),
            ));
            continue;
        }
        for (stage, shipped) in SHIPPED {
            let ours: Vec<_> =
                files.iter().filter_map(|(path, text)| Some((path, called(text, stage)?))).collect();
            if ours.is_empty() {
                let path = format!("{}/underlay-{stage}.json", folder.display());
                findings.push(Finding::new(
                    (Area::Hooks, Severity::Error, "hook-missing"),
                    format!("{engine} has no hook for {stage} in {}", folder.display()),
                    "without both, containers start without their networks, or hold addresses after their end, and no \
                     error is reported",
                    Line::of("mkdir -p").word(folder.display()).and(&write(shipped, &path, system)),
                ));
            }
            findings.extend(ours.into_iter().filter_map(|(path, called)| {
                program_of(path, &called, system, write(shipped, path, system))
            }));
        }
    }
    findings
}

/// The command that writes a hook file. It calls the program where it is installed, or else this one.
fn write(shipped: &str, path: &str, system: &System) -> Line {
    let own = env::current_exe().ok().filter(|_| !system.has(PROGRAM));
    let own = own.map_or_else(|| PROGRAM.to_owned(), |own| own.to_string_lossy().into_owned());
    // In one line.
    let file: Value = serde_json::from_str(&shipped.replace(PROGRAM, &own)).unwrap_or_default();
    Line::of("printf '%s\\n'").word(file).text(">").word(path)
}

/// Whether these settings, in TOML, name folders of hook files, and not [`FOLDER`] in the same line.
fn names_others(text: &str) -> bool {
    let mut settings = text.lines().filter_map(|line| line.split_once('='));
    settings.any(|(key, value)| key.trim() == "hooks_dir" && !value.contains(&format!("\"{FOLDER}\"")))
}

/// The program that the hook file `text` has called, if that is ours for `stage`.
fn called(text: &str, stage: &str) -> Option<String> {
    let file: Value = serde_json::from_str(text).ok()?;
    let hook = file.get("hook")?;
    let is_at_stage = file.get("stages")?.as_array()?.iter().any(|at| at == stage);
    let is_ours = is_at_stage && serde_json::from_value::<HookEntry>(hook.clone()).ok()?.is_ours(stage);
    hook.get("path")?.as_str().filter(|_| is_ours).map(str::to_owned)
}

/// What is wrong with the program `called`, which the file `by` names; `rewrite` writes that file anew.
fn program_of(by: &str, called: &str, system: &System, rewrite: Line) -> Option<Finding> {
    let path = system.path(called);
    let shown = path.display();
    let skipped =
        "an engine skips a hook whose program it cannot run, and starts the container without its network";
    let (id, what, why, fix) = match fs::metadata(&path) {
        Err(_) => ("hook-program", format!("there is no {shown}, which {by} calls"), skipped, rewrite),
        Ok(found) if !found.is_file() || found.permissions().mode() & 0o111 == 0 => {
            let what = format!("{shown} cannot be executed, and {by} calls it");
            ("hook-program", what, skipped, Line::of("chmod 755").path(&path))
        }
        Ok(_) => {
            let (_, what, fix) = system.fault_on_way_to(&path)?;
            let why = "engines run it as root for every container: anyone who can change it is root; or install underlay \
                       where root alone can write, and have the file written anew";
            ("program-of-others", format!("{what}, and {by} calls {shown}"), why, fix)
        }
    };
    Some(Finding::new((Area::Hooks, Severity::Error, id), what, why, fix))
}

/// What is wrong with the programs that our CDI file names.
pub(crate) fn of_cdi(system: &System) -> Vec<Finding> {
    let (by, text) = system.files(CDI, "").pop().unwrap_or_default();
    let programs = in_cdi(&text).into_iter();
    programs.filter_map(|called| program_of(&by, &called, system, Line::of("underlay cdi"))).collect()
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
    fn settings_name_other_folders() {
        for (text, expected) in [
            ("", false),
            ("# hooks_dir = [\"/a\"]\n[engine]\n", false),
            ("[engine]\n  hooks_dir = [\"/a\", '/b']  # both\n", true),
            ("[crio.runtime]\nhooks_dir=[\n  \"/a\",\n]\nx = 1\n", true),
            ("hooks_dir_of = [\"/a\"]", false),
            ("hooks_dir = [\"/usr/share/containers/oci/hooks.d\", \"/a\"]", false),
        ] {
            assert_eq!(names_others(text), expected, "{text}");
        }
    }

    #[test]
    fn what_files_call() {
        for (stage, shipped) in SHIPPED {
            assert_eq!(called(shipped, stage).as_deref(), Some(PROGRAM));
            assert_eq!(called(shipped, "prestart"), None);
            for (from, to) in [("\"hook\"", "\"other\""), ("\"stages\"", "\"x\""), ("}", "")] {
                assert_eq!(called(&shipped.replace(from, to), stage), None, "{from}");
            }
        }
        assert_eq!(called(SHIPPED[0].1, "poststop"), None);
    }

    #[test]
    fn what_is_wrong() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path().to_owned());
        let path = root.path().join("a b");
        let found = || {
            let found = program_of("/h.json", "/a b", &system, Line::of("write"));
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
