//! The hook files of podman and CRI-O (oci-hooks(5)), without which containers start without their networks.

use std::env;

use serde_json::Value;

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::programs;
use crate::diagnose::system::System;
use crate::escape::shell::Line;
use crate::oci::hooks::Listed;

/// Where engines read hook files, unless their settings name other folders by `hooks_dir`.
const FOLDER: &str = "/usr/share/containers/oci/hooks.d";

/// The hook files as they are shipped, with the stages that they are for.
const SHIPPED: [(&str, &str); 2] = [
    ("createRuntime", include_str!("../../hooks.d/underlay-createRuntime.json")),
    ("poststop", include_str!("../../hooks.d/underlay-poststop.json")),
];
/// The program that they call.
const PROGRAM: &str = "/usr/bin/underlay";

/// The engines that read hook files: their programs, and their settings, which are files or folders of `.conf` files
/// (containers.conf(5), crio.conf(5)).
const ENGINES: [(&str, [&str; 2], &[&str]); 2] = [
    (
        "podman",
        ["/usr/bin/podman", "/usr/local/bin/podman"],
        &[
            "/usr/share/containers/containers.conf",
            "/etc/containers/containers.conf",
            "/etc/containers/containers.conf.d",
        ],
    ),
    ("CRI-O", ["/usr/bin/crio", "/usr/local/bin/crio"], &["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"]),
];

/// What is wrong with the hooks of the engines that are installed.
pub(crate) fn hooks(system: &System) -> Vec<Finding> {
    let folder = system.shown(FOLDER);
    let files = system.files(FOLDER, ".json");
    let mut findings = Vec::new();
    for (engine, programs, settings) in ENGINES {
        if !programs.iter().any(|program| system.has(program)) {
            continue;
        }
        let mut settings = settings.iter().flat_map(|path| system.files(path, ".conf"));
        if let Some((path, _)) = settings.find(|(_, text)| names_folders(text)) {
            findings.push(Finding::new(
                (Area::Hooks, Severity::Note, "hook-folders"),
                format!("{engine} reads hook files from the folders that hooks_dir in {path} names"),
                "without underlay's hook files in one of them, containers start without their networks",
                format!("add {folder} to hooks_dir, unless it is there"),
            ));
            continue;
        }
        for (stage, shipped) in SHIPPED {
            let write = |path: &str| {
                let file = shipped.replace(PROGRAM, &own_program(system));
                // In one line.
                let file: Value = serde_json::from_str(&file).unwrap_or_default();
                Line::of("printf '%s\\n'").word(file).text(">").word(path)
            };
            let ours = files.iter().filter_map(|(path, text)| Some((path, called(text, stage)?)));
            let mut ours = ours.peekable();
            if ours.peek().is_none() {
                let why = match stage {
                    "poststop" => "what a container held stays reserved until another container needs it",
                    _ => "containers start without their networks, and no error is reported",
                };
                findings.push(Finding::new(
                    (Area::Hooks, Severity::Error, "hook-missing"),
                    format!("{engine} has no hook for {stage} in {folder}"),
                    why,
                    Line::of("mkdir -p")
                        .word(&folder)
                        .and(&write(&format!("{folder}/underlay-{stage}.json"))),
                ));
            }
            findings.extend(
                ours.filter_map(|(path, program)| programs::program(system, &program, path, write(path))),
            );
        }
    }
    findings
}

/// Whether these settings, in TOML, name folders of hook files. Which ones is not read.
fn names_folders(text: &str) -> bool {
    let key = |line: &str| line.split_once('=').map(|(key, _)| key.trim() == "hooks_dir");
    text.lines().any(|line| key(line) == Some(true))
}

/// The program that the hook file `text` has called, if that is ours for `stage`.
fn called(text: &str, stage: &str) -> Option<String> {
    let file: Value = serde_json::from_str(text).ok()?;
    let hook = file.get("hook")?;
    let is_at_stage = file.get("stages")?.as_array()?.iter().any(|at| at == stage);
    let is_ours = is_at_stage && serde_json::from_value::<Listed>(hook.clone()).ok()?.is_ours(stage);
    hook.get("path")?.as_str().filter(|_| is_ours).map(str::to_owned)
}

/// The program that hook files are to call: where it is installed, or else this one.
fn own_program(system: &System) -> String {
    let own = env::current_exe().ok().filter(|_| !system.has(PROGRAM));
    own.map_or_else(|| PROGRAM.to_owned(), |own| own.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_folders() {
        for (text, expected) in [
            ("", false),
            ("# hooks_dir = [\"/a\"]\n[engine]\n", false),
            ("[engine]\n  hooks_dir = [\"/a\", '/b']  # both\n", true),
            ("[crio.runtime]\nhooks_dir=[\n  \"/a\",\n]\nx = 1\n", true),
            ("hooks_dir_of = [\"/a\"]", false),
        ] {
            assert_eq!(names_folders(text), expected, "{text}");
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
}
