//! Our hooks in a config.json: how they are written, and how they are recognized.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::json;
use crate::net::name::NetworkName;

/// The stages of the OCI runtime specification ("POSIX-platform Hooks") that underlay serves.
pub(crate) const STAGES: [&str; 2] = ["createRuntime", "poststop"];
/// The first argument of our hooks, whatever the file is called.
const PROGRAM: &str = "underlay";
/// The time limit of a hook in seconds, as in the files of `hooks.d`.
const TIMEOUT: u32 = 30;

/// A hook as it is written to config.json.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Hook {
    path: PathBuf,
    args: Vec<String>,
    timeout: u32,
}

/// How hooks call underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its absolute path.
    pub path: PathBuf,
    /// The options before the subcommand, which name its folders if those are not the default ones.
    pub options: Vec<String>,
}

impl Program {
    /// The hook for `stage`. It attaches the container to `network`, and to the networks that the container asks for.
    pub(crate) fn hook(&self, stage: &str, network: Option<&NetworkName>) -> Hook {
        let mut args = vec![PROGRAM.to_owned()];
        args.extend(self.options.iter().cloned());
        args.extend(["hook".to_owned(), stage.to_owned()]);
        args.extend(network.into_iter().flat_map(|name| ["--network".to_owned(), name.to_string()]));
        Hook { path: self.path.clone(), args, timeout: TIMEOUT }
    }
}

/// A hook in a config.json. Its arguments tell whether it is ours, because our file may have several names.
#[derive(Deserialize)]
pub(crate) struct HookEntry {
    args: Option<Vec<String>>,
}

impl HookEntry {
    /// Whether it is our hook for `stage`.
    pub(crate) fn is_ours(&self, stage: &str) -> bool {
        self.options(stage).is_some()
    }

    /// The network that it names, if it is ours.
    fn network(&self) -> Option<&str> {
        match self.options("createRuntime")? {
            [flag, name] if flag == "--network" => Some(name),
            [both] => both.strip_prefix("--network="),
            _ => None,
        }
    }

    /// The arguments behind the stage, if it is our hook for `stage`.
    fn options(&self, stage: &str) -> Option<&[String]> {
        let (program, rest) = self.args.as_deref()?.split_first()?;
        let at = rest.windows(2).position(|pair| pair == ["hook", stage])?;
        (program == PROGRAM).then(|| rest.get(at + 2..)).flatten()
    }
}

/// The networks that our hooks name, in order: those of the container's CDI devices, or of its runtime. `hooks` is the value
/// of that key in config.json.
///
/// # Errors
/// Names the hook that cannot be read.
pub(crate) fn networks(hooks: &str) -> Result<Vec<NetworkName>> {
    #[derive(Deserialize)]
    struct Hooks {
        #[serde(rename = "createRuntime")]
        create_runtime: Option<Vec<HookEntry>>,
    }
    let hooks: Option<Hooks> = json::read(hooks.as_bytes()).map_err(|error| error.within("hooks"))?;
    let listed = hooks.and_then(|hooks| hooks.create_runtime).unwrap_or_default();
    let (mut networks, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, hook) in listed.iter().enumerate() {
        let Some(name) = hook.network() else { continue };
        let at = |error: Error| error.within(format!("hooks.createRuntime[{index}]"));
        let name: NetworkName = name.parse().map_err(at)?;
        if seen.insert(name.clone()) {
            networks.push(name);
        }
    }
    Ok(networks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(options: &[&str]) -> Program {
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Program { path: "/usr/bin/underlay".into(), options }
    }

    #[test]
    fn as_in_the_hook_files() {
        for (stage, file) in STAGES.iter().zip([
            include_str!("../../hooks.d/underlay-createRuntime.json"),
            include_str!("../../hooks.d/underlay-poststop.json"),
        ]) {
            let file: serde_json::Value = serde_json::from_str(file).unwrap();
            assert_eq!(serde_json::to_value(program(&[]).hook(stage, None)).unwrap(), file["hook"]);
        }
    }

    #[test]
    fn known_again() {
        let lan: NetworkName = "lan".parse().unwrap();
        for options in [&[][..], &["--config-dir", "/etc/hook"]] {
            for network in [None, Some(&lan)] {
                let text = serde_json::to_string(&program(options).hook("createRuntime", network)).unwrap();
                let hook: HookEntry = serde_json::from_str(&text).unwrap();
                assert!(hook.is_ours("createRuntime") && !hook.is_ours("poststop"));
                assert_eq!(hook.network(), network.map(NetworkName::as_str));
            }
        }
        for args in [
            r#"{}"#,
            r#"{"args": null}"#,
            r#"{"args": []}"#,
            r#"{"args": ["other", "hook", "createRuntime", "--network", "lan"]}"#,
            r#"{"args": ["underlay", "createRuntime", "--network", "lan"]}"#,
        ] {
            assert!(!serde_json::from_str::<HookEntry>(args).unwrap().is_ours("createRuntime"), "{args}");
        }
    }

    #[test]
    fn networks_of_devices() {
        let read = |hooks: &[&str]| {
            let hooks: Vec<_> =
                hooks.iter().map(|args| format!(r#"{{"path": "/x", "args": {args}}}"#)).collect();
            let text = format!(r#"{{"poststop": 5, "createRuntime": [{}]}}"#, hooks.join(","));
            networks(&text).map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        let of = |name: &str| format!(r#"["underlay", "hook", "createRuntime", "--network", "{name}"]"#);
        let plain = r#"["underlay", "hook", "createRuntime"]"#;
        assert_eq!(read(&[&of("wan"), "null", plain, &of("lan"), &of("wan")]).unwrap(), "wan lan");
        assert_eq!(read(&[r#"["underlay", "hook", "createRuntime", "--network=lan"]"#]).unwrap(), "lan");
        assert_eq!(read(&[plain]).unwrap(), "");
        let error = read(&[plain, &of("a/b")]).unwrap_err().to_string();
        assert_eq!(error, "hooks.createRuntime[1]: network name \"a/b\" is not usable");
        // As many as config.json has room for take no longer than it takes to read them.
        let many: Vec<_> = (0..150_000).map(|number| of(&format!("n{number}"))).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        let begin = std::time::Instant::now();
        assert_eq!(read(&many).unwrap().split(' ').count(), many.len());
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
        assert!(networks("null").unwrap().is_empty() && networks("{}").unwrap().is_empty());
        let error = networks(r#"{"createRuntime": 5}"#).unwrap_err().to_string();
        assert!(error.starts_with("hooks: createRuntime: invalid type: integer `5`"), "{error}");
    }
}
