//! Docker's settings (daemon.json, dockerd(8)): without CDI, or our runtime, it never calls the hooks.

use serde_json::{Map, Value};

use crate::diagnose::finding::{Area, Finding, Fix, Severity};
use crate::escape::shell::Line;

/// What is there of Docker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Docker {
    /// What `dockerd --version` says, if it says anything.
    pub version: String,
    /// Where its settings are.
    pub path: String,
    /// Its settings, if there are any.
    pub settings: Option<String>,
    /// Where our CDI file belongs.
    pub cdi_path: String,
    /// Whether it is there.
    pub has_cdi_file: bool,
}

/// Docker knows CDI from this version on, by `features.cdi`.
const KNOWS_CDI: (u32, u32) = (25, 0);
/// And from this one on without being told.
const CDI_BY_DEFAULT: (u32, u32) = (28, 2);

/// What keeps Docker from attaching containers to our networks.
pub(crate) fn docker(docker: &Docker, has_networks: bool) -> Vec<Finding> {
    let finding =
        |severity, id, what, why: &str, fix: Fix| Finding::new((Area::Docker, severity, id), what, why, fix);
    let settings: Map<String, Value> =
        match docker.settings.as_deref().map_or(Ok(Map::new()), serde_json::from_str) {
            Ok(settings) => settings,
            Err(error) => {
                let what = format!("Docker cannot read {}: {error}", docker.path);
                let why = "dockerd does not start with settings that it cannot read";
                let fix = "correct the file in an editor".into();
                return vec![finding(Severity::Error, "docker-settings", what, why, fix)];
            }
        };
    let why = "Docker has no hook files: containers ask for networks by CDI devices (docker run --device \
               underlay.io/net=NAME), or run by the runtime underlay-runtime";
    if has_our_runtime(&settings) {
        return Vec::new();
    }
    let Some(version) = version(&docker.version) else { return Vec::new() };
    let (major, minor) = version;
    let mut findings = Vec::new();
    let cdi = settings.get("features").and_then(|features| features.get("cdi")).and_then(Value::as_bool);
    if version < KNOWS_CDI {
        let what = format!(
            "Docker {major}.{minor} knows no CDI, and has no runtime underlay-runtime in {}",
            docker.path
        );
        let fix = format!(
            "in {}, set runtimes.underlay.path to \"/usr/bin/underlay-runtime\", restart Docker, and run containers with \
             --runtime underlay",
            docker.path
        );
        return vec![finding(Severity::Warning, "docker-runtime", what, why, fix.into())];
    }
    if !cdi.unwrap_or(version >= CDI_BY_DEFAULT) {
        let what = format!("features.cdi of Docker {major}.{minor} is off in {}", docker.path);
        let fix = format!("in {}, set features.cdi to true, and restart Docker", docker.path);
        findings.push(finding(Severity::Warning, "docker-cdi", what, why, fix.into()));
    }
    if has_networks && !docker.has_cdi_file {
        let what = format!("there are networks, and no {}", docker.cdi_path);
        let fix = Line::of("underlay cdi").into();
        findings.push(finding(Severity::Warning, "cdi-file", what, why, fix));
    }
    findings
}

/// Whether a runtime of these settings is ours, whatever it is called.
fn has_our_runtime(settings: &Map<String, Value>) -> bool {
    let runtimes = settings.get("runtimes").and_then(Value::as_object);
    let path = |runtime: &Value| Some(runtime.get("path")?.as_str()?.ends_with("underlay-runtime"));
    runtimes.is_some_and(|runtimes| runtimes.values().any(|runtime| path(runtime) == Some(true)))
}

/// `Docker version 26.1.5+dfsg1, build a72d7cd`
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("Docker version ")?.split(['.', ',', '+', '-', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_lacks() {
        for (version, settings, has_cdi_file, expected) in [
            ("Docker version 26.1.5+dfsg1, build a72d7cd", None, true, &["docker-cdi"][..]),
            ("Docker version 26.1.5+dfsg1, build a72d7cd", Some(r#"{"features": {"cdi": true}}"#), true, &[]),
            (
                "Docker version 26.1.5, build a72d7cd",
                Some(r#"{"features": {"cdi": true}}"#),
                false,
                &["cdi-file"],
            ),
            ("Docker version 25.0.0, build x", Some("{}"), false, &["docker-cdi", "cdi-file"]),
            ("Docker version 28.2.0, build x", None, true, &[]),
            ("Docker version 28.1.1, build x", None, true, &["docker-cdi"]),
            (
                "Docker version 29.0.0-rc.1, build x",
                Some(r#"{"features": {"cdi": false}}"#),
                true,
                &["docker-cdi"],
            ),
            ("Docker version 20.10.24+dfsg1, build 297e128", None, false, &["docker-runtime"]),
            (
                "Docker version 20.10.24+dfsg1, build 297e128",
                Some(r#"{"runtimes": {"lan": {"path": "/usr/bin/underlay-runtime"}}}"#),
                false,
                &[],
            ),
            ("", None, false, &[]),
            ("Docker version 26.1.5, build a72d7cd", Some("{\"features\": {"), true, &["docker-settings"]),
        ] {
            let found = docker(
                &Docker {
                    version: version.to_owned(),
                    path: "/etc/docker/daemon.json".to_owned(),
                    settings: settings.map(str::to_owned),
                    cdi_path: "/etc/cdi/underlay.json".to_owned(),
                    has_cdi_file,
                },
                true,
            );
            assert_eq!(
                found.iter().map(|finding| finding.id).collect::<Vec<_>>(),
                expected,
                "{version} {settings:?}"
            );
        }
    }
}
