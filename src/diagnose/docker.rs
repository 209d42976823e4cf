//! Docker's settings (daemon.json, dockerd(8)): without CDI and without our runtime, it never calls the hooks.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::diagnose::finding::{Area, Finding, Fix, Severity};
use crate::diagnose::system::{CDI, System};
use crate::escape::shell::Line;
use crate::fs::trust;

/// What is known of Docker.
#[derive(Clone, Debug)]
struct Docker {
    /// Its version, if that is known.
    version: Option<(u32, u32)>,
    /// Where its settings are.
    path: String,
    /// Its settings; null if there are none.
    settings: Value,
    /// Where our CDI file belongs.
    cdi_path: String,
    /// Whether it is there.
    has_cdi_file: bool,
}

/// Docker knows `features.cdi` from this version on.
const HAS_CDI: (u32, u32) = (25, 0);
/// And needs it no more from this one on.
const CDI_BY_DEFAULT: (u32, u32) = (28, 2);

/// What keeps the Docker of `system`, if there is one, from attaching containers to our networks.
pub(crate) fn docker(system: &System, has_networks: bool) -> Vec<Finding> {
    Docker::find(system).map(|docker| lacks(&docker, has_networks)).unwrap_or_default()
}

impl Docker {
    /// Finds it by its daemon.
    fn find(system: &System) -> Option<Self> {
        let programs = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];
        let program = programs.into_iter().find(|path| system.has(path))?;
        let (path, settings) = system.files("/etc/docker/daemon.json", "").pop()?;
        Some(Self {
            version: if system.is_this_one() { asked_for_version(program.as_ref()) } else { None },
            path,
            // With settings that it cannot read, Docker does not start, and says so.
            settings: serde_json::from_str(&settings).unwrap_or_default(),
            cdi_path: system.shown(CDI),
            has_cdi_file: system.has(CDI),
        })
    }
}

/// The version that `program` tells, if root alone can change that.
fn asked_for_version(program: &Path) -> Option<(u32, u32)> {
    let program = fs::canonicalize(program).ok()?;
    trust::check_program(&program).ok()?;
    let output = Command::new(program).arg("--version").env_clear().stdin(Stdio::null()).output().ok()?;
    version(&String::from_utf8_lossy(&output.stdout))
}

fn lacks(docker: &Docker, has_networks: bool) -> Vec<Finding> {
    let Docker { version, path, settings, cdi_path, has_cdi_file } = docker;
    if has_our_runtime(settings) {
        return Vec::new();
    }
    let warning = |id, what, fix| {
        let why = "Docker has no hook files: containers ask for networks by CDI devices (docker run --device \
                   underlay.io/net=NAME), or run by the runtime underlay-runtime";
        Finding::new((Area::Docker, Severity::Warning, id), what, why, fix)
    };
    let is_set = settings.pointer("/features/cdi").and_then(Value::as_bool);
    let is_on = match version {
        Some(version) => Some(*version >= HAS_CDI && is_set.unwrap_or(*version >= CDI_BY_DEFAULT)),
        None => is_set,
    };
    match is_on {
        Some(false) => {
            let what = format!("Docker has neither CDI nor the runtime underlay-runtime by {path}");
            let fix = "set features.cdi there to true (Docker 25 and later), or runtimes.underlay.path to \
                       /usr/bin/underlay-runtime, and restart Docker";
            vec![warning("docker-cdi", what, Fix::from(fix))]
        }
        Some(true) if has_networks && !has_cdi_file => {
            let what = format!("there are networks, and no {cdi_path}");
            vec![warning("cdi-file", what, Line::of("underlay cdi").into())]
        }
        _ => Vec::new(),
    }
}

/// Whether a runtime of these settings is ours, whatever it is called.
fn has_our_runtime(settings: &Value) -> bool {
    let runtimes = settings.get("runtimes").and_then(Value::as_object);
    let is_ours = |runtime: &Value| Some(runtime.get("path")?.as_str()?.ends_with("underlay-runtime"));
    runtimes.is_some_and(|runtimes| runtimes.values().any(|runtime| is_ours(runtime) == Some(true)))
}

/// Reads `Docker version 26.1.5+dfsg1, build a72d7cd`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("Docker version ")?.split(['.', ',', '+', '-', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_lacks() {
        let (on, off) = (r#"{"features": {"cdi": true}}"#, r#"{"features": {"cdi": false}}"#);
        let runtime = r#"{"runtimes": {"lan": {"path": "/usr/bin/underlay-runtime"}}}"#;
        for (version, settings, has_cdi_file, expected) in [
            ("Docker version 26.1.5+dfsg1, build a72d7cd", "null", true, &["docker-cdi"][..]),
            ("Docker version 26.1.5+dfsg1, build a72d7cd", on, true, &[]),
            ("Docker version 26.1.5, build a72d7cd", on, false, &["cdi-file"]),
            ("Docker version 25.0.0, build x", "{}", false, &["docker-cdi"]),
            ("Docker version 28.2.0, build x", "null", true, &[]),
            ("Docker version 28.1.1, build x", "null", true, &["docker-cdi"]),
            ("Docker version 29.0.0-rc.1, build x", off, true, &["docker-cdi"]),
            ("Docker version 20.10.24+dfsg1, build 297e128", "null", false, &["docker-cdi"]),
            ("Docker version 20.10.24+dfsg1, build 297e128", runtime, false, &[]),
            ("", "null", false, &[]),
            ("", off, true, &["docker-cdi"]),
        ] {
            let docker = Docker {
                version: super::version(version),
                path: "/etc/docker/daemon.json".to_owned(),
                settings: serde_json::from_str(settings).unwrap(),
                cdi_path: "/etc/cdi/underlay.json".to_owned(),
                has_cdi_file,
            };
            let found = lacks(&docker, true);
            let ids: Vec<_> = found.iter().map(|finding| finding.id).collect();
            assert_eq!(ids, expected, "{version} {settings}");
        }
    }
}
