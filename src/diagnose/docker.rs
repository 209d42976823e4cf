//! Docker's settings (daemon.json, dockerd(8)): without CDI and without our runtime, it never calls the hooks.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::diagnose::finding::{Area, Finding, Fix, Severity};
use crate::diagnose::system::{CDI, System};
use crate::escape::shell::Line;
use crate::fs::trust;
use crate::ledger::Store;

/// Docker knows `features.cdi` from this version on.
const HAS_CDI: (u32, u32) = (25, 0);
/// And needs it no more from this one on.
const CDI_BY_DEFAULT: (u32, u32) = (28, 2);

/// Where Docker calls its driver `underlay`.
const SOCKET: &str = "/run/docker/plugins/underlay.sock";

/// What keeps the Docker of `system`, if there is one, from attaching containers to our networks.
pub(crate) fn docker(store: &Store, system: &System, has_networks: bool) -> Option<Finding> {
    // A damaged file is told of when Docker calls.
    let count = store.docker_networks().unwrap_or_default().len();
    if count > 0 {
        // It needs neither CDI nor our runtime.
        return not_called(system, count);
    }
    let programs = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];
    let program = programs.into_iter().find(|path| system.has(path))?;
    let version = if system.is_this_one() { version_of(program.as_ref()) } else { None };
    lacks(system, version, has_networks)
}

/// What keeps Docker from calling its driver, of which it has so many networks.
fn not_called(system: &System, count: usize) -> Option<Finding> {
    let networks = if count == 1 { "a network".to_owned() } else { format!("{count} networks") };
    let path = system.path(SOCKET);
    let what =
        format!("Docker has {networks} with driver underlay, and nothing listens at {}", path.display());
    let why = "containers of these networks do not start, and Docker waits for the driver each time it starts itself, half a \
               minute for each network";
    let fix = Line::of("systemctl enable --now underlay-docker.socket");
    let found = Finding::new((Area::Docker, Severity::Error, "docker-plugin"), what, why, fix);
    let is_served = system.has(SOCKET) && (!system.is_this_one() || is_listening(&path));
    (!is_served).then_some(found)
}

/// Whether a process listens at `path` (proc_net(5), `unix`): the file of a socket outlives it.
fn is_listening(path: &Path) -> bool {
    /// `__SO_ACCEPTCON`, in the column of flags.
    const LISTENS: &str = "00010000";
    let sockets = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    sockets.lines().any(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        matches!(words.as_slice(), [_, _, _, flags, .., last] if *flags == LISTENS && Path::new(last) == path)
    })
}

/// The version that `program` tells, if root alone can change that.
fn version_of(program: &Path) -> Option<(u32, u32)> {
    let program = fs::canonicalize(program).ok()?;
    trust::check_program(&program).ok()?;
    let output = Command::new(program).arg("--version").env_clear().stdin(Stdio::null()).output().ok()?;
    version(&String::from_utf8_lossy(&output.stdout))
}

/// What it lacks, being of this version, if that is known.
fn lacks(system: &System, version: Option<(u32, u32)>, has_networks: bool) -> Option<Finding> {
    let (path, settings) = system.files("/etc/docker/daemon.json", "").pop().unwrap_or_default();
    // With settings that it cannot read, Docker does not start, and says so.
    let settings: Value = serde_json::from_str(&settings).unwrap_or_default();
    if has_our_runtime(&settings) {
        return None;
    }
    let is_set = settings.pointer("/features/cdi").and_then(Value::as_bool);
    let is_on = match version {
        Some(version) => version >= HAS_CDI && is_set.unwrap_or(version >= CDI_BY_DEFAULT),
        None => is_set?,
    };
    let (id, what, fix) = match is_on {
        false => (
            "docker-cdi",
            format!("Docker has neither CDI nor the runtime underlay-runtime by {path}"),
            "set features.cdi there to true (Docker 25 and later), or runtimes.underlay.path to \
             /usr/bin/underlay-runtime, and restart Docker"
                .into(),
        ),
        true if has_networks && !system.has(CDI) => (
            "cdi-file",
            format!("there are networks, and no {}", system.path(CDI).display()),
            Fix::from(Line::of("underlay cdi")),
        ),
        true => return None,
    };
    let why = "Docker has no hook files: containers ask for networks by CDI devices (docker run --device \
               underlay.io/net=NAME), or run by the runtime underlay-runtime";
    Some(Finding::new((Area::Docker, Severity::Warning, id), what, why, fix))
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
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            };
            write("etc/docker/daemon.json", settings);
            if has_cdi_file {
                write("etc/cdi/underlay.json", "");
            }
            let found = lacks(&System::new(root.path().to_owned()), super::version(version), true);
            let ids: Vec<_> = found.iter().map(|finding| finding.id).collect();
            assert_eq!(ids, expected, "{version} {settings}");
        }
    }
}
