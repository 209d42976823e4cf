//! The hook files of podman and CRI-O (oci-hooks(5)), and where their settings say these are.

use serde_json::Value;

use super::programs::{self, Program};
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::Line;

/// Where both read hooks, if nothing else is said.
pub(crate) const DEFAULT_DIR: &str = "/usr/share/containers/oci/hooks.d";

/// The stages that underlay serves, with its hook files as they are shipped.
const SHIPPED: [(&str, &str); 2] = [
    ("createRuntime", include_str!("../../hooks.d/underlay-createRuntime.json")),
    ("poststop", include_str!("../../hooks.d/underlay-poststop.json")),
];

/// An engine that reads hook files, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Engine {
    /// Its name.
    pub name: &'static str,
    /// Its hook folders; of two files of one name the one in the later folder counts.
    pub folders: Vec<String>,
}

/// A file of a hook folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HookFile {
    /// The folder.
    pub folder: String,
    /// Its name there, which ends in `.json`.
    pub name: String,
    /// What it says.
    pub text: String,
}

/// The folders that `hooks_dir` names in settings in TOML (containers.conf(5), crio.conf(5)): those of the last text
/// that names any.
pub(crate) fn folders<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let named = texts.into_iter().filter_map(hooks_dir).last();
    named.unwrap_or_else(|| vec![DEFAULT_DIR.to_owned()])
}

/// The strings of the array `hooks_dir`, which no other table than theirs has.
fn hooks_dir(text: &str) -> Option<Vec<String>> {
    let without_comment = |line: &'_ str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let mut lines = text.lines().map(without_comment);
    let first = lines.find_map(|line| {
        let rest = line.strip_prefix("hooks_dir")?.trim_start().strip_prefix('=')?;
        Some(rest.trim().to_owned())
    })?;
    let mut array = first;
    while !array.contains(']') {
        array.push_str(&lines.next()?);
    }
    let inside = array.strip_prefix('[')?.split(']').next()?;
    let quoted = |item: &str| {
        let item = item.trim();
        let unquoted = |quote| item.strip_prefix(quote)?.strip_suffix(quote);
        unquoted('"').or_else(|| unquoted('\'')).map(str::to_owned)
    };
    Some(inside.split(',').filter_map(quoted).collect())
}

/// What is wrong with the hooks of `engines`, which find `files`; hooks that are written anew call `program`. `runs`
/// tells of a program whether it does, and where it is.
pub(crate) fn hooks(
    engines: &[Engine],
    files: &[HookFile],
    program: &str,
    runs: impl Fn(&str) -> (Program, String),
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Engine { name: engine, folders } in engines {
        let finding =
            |id, what, why: &str, fix: Line| Finding::new((Area::Hooks, Severity::Error, id), what, why, fix);
        let mut read: Vec<&HookFile> = Vec::new();
        for folder in folders {
            for file in files.iter().filter(|file| file.folder == *folder) {
                read.retain(|earlier| earlier.name != file.name);
                read.push(file);
            }
        }
        let mut served = Vec::new();
        for file in read {
            let path = format!("{}/{}", file.folder, file.name);
            match hook(&file.text) {
                Err(error) => {
                    let what = format!("{engine} cannot read the hook file {path}: {error}");
                    let why = "with one bad hook file no container starts at all";
                    let ours = SHIPPED.iter().find(|(stage, _)| file.name == shipped_name(stage));
                    let fix = match ours {
                        Some((stage, _)) => write(&file.folder, stage, program),
                        None => Line::of("mv").word(&path).word(format!("{path}.off")),
                    };
                    findings.push(finding("hook-syntax", what, why, fix));
                    // It is told of already.
                    served.extend(ours.map(|(stage, _)| *stage));
                }
                Ok(hook) => {
                    let Some((stage, _)) = SHIPPED.iter().find(|(stage, _)| hook.calls(stage)) else {
                        continue;
                    };
                    served.push(*stage);
                    let (found, called) = runs(&hook.path);
                    findings.extend(programs::program(
                        &found,
                        &called,
                        &path,
                        write_as(&path, stage, program),
                    ));
                }
            }
        }
        let first = folders.first().map_or(DEFAULT_DIR, String::as_str);
        for (stage, _) in SHIPPED.iter().filter(|(stage, _)| !served.contains(stage)) {
            let what = format!("{engine} has no hook for {stage} in {}", folders.join(", "));
            let why = match *stage {
                "poststop" => "what a container held is taken back only when somebody else needs it",
                _ => "containers start without their networks, and nobody says so",
            };
            findings.push(finding("hook-missing", what, why, write(first, stage, program)));
        }
    }
    findings
}

/// What a hook file has a runtime call.
#[derive(Debug)]
struct Hook {
    path: String,
    args: Vec<String>,
    stages: Vec<String>,
}

impl Hook {
    /// Whether it calls `underlay hook STAGE` at that stage.
    fn calls(&self, stage: &str) -> bool {
        let of_ours =
            self.args.last().is_some_and(|last| last == stage) && self.args.iter().any(|arg| arg == "hook");
        of_ours && self.stages.iter().any(|at| at == stage)
    }
}

/// Reads what engines insist on: version 1.0.0, an absolute path, known stages. The older version 0.1.0 has none.
fn hook(text: &str) -> Result<Hook, String> {
    let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let strings = |value: &Value| {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    let at =
        |keys: &[&str]| keys.iter().try_fold(&file, |value, key| value.get(key)).cloned().unwrap_or_default();
    match at(&["version"]).as_str() {
        None | Some("" | "0.1.0") => {
            return Ok(Hook { path: String::new(), args: Vec::new(), stages: Vec::new() });
        }
        Some("1.0.0") => {}
        Some(other) => return Err(format!("version {other:?} is not known")),
    }
    let path = at(&["hook", "path"]).as_str().unwrap_or_default().to_owned();
    if !path.starts_with('/') {
        return Err(format!("hook.path {path:?} is no absolute path"));
    }
    if !at(&["when"]).is_object() {
        return Err("when is missing".to_owned());
    }
    let stages = strings(&at(&["stages"]));
    if stages.is_empty() {
        return Err("stages is missing".to_owned());
    }
    const STAGES: [&str; 7] = [
        "precreate",
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    match stages.iter().find(|stage| !STAGES.contains(&stage.as_str())) {
        Some(stage) => Err(format!("stage {stage:?} is not known")),
        None => Ok(Hook { path, args: strings(&at(&["hook", "args"])), stages }),
    }
}

fn shipped_name(stage: &str) -> String {
    format!("underlay-{stage}.json")
}

/// The command that writes our hook file of `stage` into `folder`.
fn write(folder: &str, stage: &str, program: &str) -> Line {
    let path = format!("{folder}/{}", shipped_name(stage));
    Line::of("mkdir -p").word(folder).and(&write_as(&path, stage, program))
}

fn write_as(path: &str, stage: &str, program: &str) -> Line {
    let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == stage).map_or("", |(_, text)| *text);
    // In one line, with the program where it is.
    let mut file: Value = serde_json::from_str(shipped).unwrap_or_default();
    if let Some(called) = file.pointer_mut("/hook/path") {
        *called = program.into();
    }
    Line::of("printf '%s\\n'").word(file).text(">").word(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_name_folders() {
        let default = [DEFAULT_DIR];
        for (texts, expected) in [
            (&[][..], &default[..]),
            (&["# hooks_dir = [\"/a\"]\n[engine]\n"], &default),
            (&["[engine]\nhooks_dir = [\"/a\", '/b']  # both\n"], &["/a", "/b"]),
            (&["[engine]\nhooks_dir=[\n  \"/a\",\n  # none\n  \"/b\",\n]\nx = 1\n"], &["/a", "/b"]),
            (&["hooks_dir = [\"/a\"]", "[engine]\nx = 1", "hooks_dir = [\"/b\"]"], &["/b"]),
            (&["hooks_dir_of = [\"/a\"]"], &default),
            (&["hooks_dir = []"], &[]),
            // A file that is cut short says nothing.
            (&["hooks_dir = [\"/a\""], &default),
        ] {
            assert_eq!(folders(texts.iter().copied()), expected, "{texts:?}");
        }
    }

    #[test]
    fn files_are_read_as_engines_do() {
        for (_, shipped) in SHIPPED {
            hook(shipped).unwrap();
        }
        let good = r#"{"version": "1.0.0", "hook": {"path": "/x"}, "when": {}, "stages": ["prestart"]}"#;
        hook(good).unwrap();
        for (from, to, error) in [
            ("{\"version", "\"version", "trailing characters at line 1 column 10"),
            ("1.0.0", "2.0.0", "version \"2.0.0\" is not known"),
            ("\"/x\"", "\"x\"", "hook.path \"x\" is no absolute path"),
            ("[\"prestart\"]", "[]", "stages is missing"),
            ("prestart", "prestop", "stage \"prestop\" is not known"),
            ("when", "whom", "when is missing"),
        ] {
            assert_eq!(hook(&good.replace(from, to)).unwrap_err(), error);
        }
    }

    #[test]
    fn what_engines_find() {
        let engine = |folders: &[&str]| Engine {
            name: "podman",
            folders: folders.iter().map(|&folder| folder.to_owned()).collect(),
        };
        let file = |folder: &str, name: &str, text: &str| HookFile {
            folder: folder.to_owned(),
            name: name.to_owned(),
            text: text.to_owned(),
        };
        let shipped = SHIPPED.map(|(stage, text)| file("/a", &shipped_name(stage), text));
        let found = |folders: &[&str], files: &[HookFile], program: Program| {
            let runs = |path: &str| (program.clone(), path.to_owned());
            let findings = hooks(&[engine(folders)], files, "/usr/bin/underlay", runs);
            findings.into_iter().map(|finding| (finding.id, finding.fix.to_string())).collect::<Vec<_>>()
        };
        let ids = |found: &[(&'static str, String)]| found.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        assert_eq!(found(&["/a"], &shipped, Program::Runs), []);
        assert_eq!(found(&["/b", "/a"], &shipped, Program::Runs), []);
        assert_eq!(ids(&found(&["/b"], &shipped, Program::Runs)), ["hook-missing", "hook-missing"]);
        assert_eq!(ids(&found(&["/a"], &shipped[..1], Program::Runs)), ["hook-missing"]);
        assert_eq!(ids(&found(&["/a"], &shipped, Program::Missing)), ["hook-program", "hook-program"]);
        let chmod = found(&["/a"], &shipped[1..], Program::NotExecutable);
        assert_eq!(chmod[0], ("hook-program", "chmod 755 /usr/bin/underlay".to_owned()));
        // A file of the same name in a later folder counts alone.
        let broken = file("/b", &shipped_name("poststop"), "{");
        let with_broken = [&shipped[..], &[broken]].concat();
        assert_eq!(found(&["/b", "/a"], &with_broken, Program::Runs), []);
        let found_broken = found(&["/a", "/b"], &with_broken, Program::Runs);
        assert_eq!(ids(&found_broken), ["hook-syntax"]);
        assert!(found_broken[0].1.ends_with(" > /b/underlay-poststop.json"), "{found_broken:?}");
        let other = [&shipped[..], &[file("/a", "other.json", "{")]].concat();
        assert_eq!(found(&["/a"], &other, Program::Runs)[0].1, "mv /a/other.json /a/other.json.off");
    }
}
