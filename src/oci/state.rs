//! The door to the OCI runtime: the state on a hook's stdin, and the bundle's config.json.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use oci_spec::runtime::State;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dhcp::domain_name::DomainName;
use crate::error::{Error, Kind, Result};
use crate::fs::file::{self, Trust};
use crate::json;
use crate::net::name::NetworkName;
use crate::oci::annotation_set::RawRequest;
use crate::oci::annotations::{Annotations, NETWORKS};
use crate::oci::hooks;

/// No state and no config.json is larger: what is, is not read further.
pub(crate) const LIMIT: u64 = 16 * 1024 * 1024;

/// Where a container has its name servers (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A container that is being created, as the runtime introduces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Created {
    /// The container's id, unchecked.
    pub id: String,
    /// Its first process, if the state tells.
    pub pid: Option<i32>,
    /// Where its config.json is.
    pub bundle: PathBuf,
    /// Its annotations according to the state.
    pub annotations: Option<Annotations>,
}

/// What the bundle tells of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bundle {
    /// Its annotations.
    pub annotations: Annotations,
    /// The networks that hooks of ours in it name: the container's CDI devices.
    pub devices: Vec<NetworkName>,
    /// The path of its network namespace, if that was made before the container.
    pub netns: Option<PathBuf>,
    /// The name that the container calls itself by.
    pub hostname: Option<String>,
    /// The file of the host that is mounted at `/etc/resolv.conf`, if one is.
    pub resolv_conf: Option<PathBuf>,
}

impl Bundle {
    /// The container's name, if it is one of a host (RFC 1123, 2.1).
    pub(crate) fn host_name(&self) -> Option<DomainName> {
        let name = self.hostname.as_deref().filter(|name| !name.contains('_'));
        name.and_then(|name| name.parse().ok())
    }

    /// What the container asks for, if anything.
    pub(crate) fn raw_request(&self) -> Option<RawRequest<'_>> {
        RawRequest::with_devices(&self.annotations, &self.devices)
    }
}

/// Reads the state at `createRuntime` (OCI runtime specification, "State").
///
/// # Errors
/// When it is no state, or lacks id or bundle. `status` is not looked at: runtimes disagree on it here.
pub(crate) fn created(input: impl Read) -> Result<Created> {
    let text = read_to_end(input, "OCI state")?;
    // Read as `stopped` reads it: what is attached can be detached.
    let id = id(&text)?;
    let value = || -> Result<serde_json::Value> {
        let mut state: serde_json::Value = json::object(&text)?;
        if let Some(state) = state.as_object_mut() {
            // The specification lets runtimes add words of their own, which oci-spec refuses.
            state.remove("status");
        }
        Ok(state)
    };
    let read = || -> Result<State> {
        // To note the path of each key costs an eighth of an attach: it is noted where one is wrong.
        serde_json::from_value(value()?).or_else(|_| {
            let named = serde_path_to_error::deserialize(value()?);
            named.map_err(|error| Error::input(error.to_string()))
        })
    };
    let state = read().map_err(|error| error.within("OCI state on stdin").hint(BY_HAND))?;
    if state.bundle().as_os_str().is_empty() {
        return Err(lacks("bundle"));
    }
    Ok(Created {
        id,
        pid: *state.pid(),
        bundle: state.bundle().clone(),
        annotations: state.annotations().clone().map(|annotations| annotations.into_iter().collect()),
    })
}

/// Reads the container id from the state at `poststop`: nothing else there can be relied on (crun says pid 0,
/// youki the dead one, runc none).
///
/// # Errors
/// When it is no state or has no id.
pub(crate) fn stopped(input: impl Read) -> Result<String> {
    id(&read_to_end(input, "OCI state")?)
}

fn id(state: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(default)]
        id: String,
    }
    let Named { id } =
        json::object(state).map_err(|error: Error| error.within("OCI state on stdin").hint(BY_HAND))?;
    if id.is_empty() { Err(lacks("id")) } else { Ok(id) }
}

/// Reads the bundle's config.json; without one, the state's annotations are taken, which are the same. The hook was
/// called for the network `named`, if for one.
///
/// # Errors
/// When config.json cannot be read, or is missing and the state has no annotations.
pub(crate) fn bundle(state: &Created, named: Option<&NetworkName>) -> Result<Bundle> {
    let mut bundle = match read_config(&state.bundle, named.is_some())? {
        Some(bundle) => bundle,
        None => match &state.annotations {
            Some(annotations) => Bundle { annotations: annotations.clone(), ..Bundle::default() },
            // crun has announced a bundle of "/" (containers/crun#2025), and leaves out annotations when there
            // are none: then nothing is asked for.
            None if state.bundle == Path::new("/") => Bundle::default(),
            None => {
                return Err(no_config(&state.bundle)
                    .hint("the bundle of the OCI state must hold the container's config.json"));
            }
        },
    };
    if let Some(named) = named.filter(|named| !bundle.devices.contains(named)) {
        bundle.devices.push(named.clone());
    }
    Ok(bundle)
}

/// Reads the config.json of the bundle in `folder`.
///
/// # Errors
/// When there is none, or it cannot be read.
pub(crate) fn bundle_at(folder: &Path) -> Result<Bundle> {
    read_config(folder, true)?.ok_or_else(|| no_config(folder).hint("name the folder that holds it"))
}

fn read_config(bundle: &Path, devices: bool) -> Result<Option<Bundle>> {
    let path = config_path(bundle);
    let text = file::read(&path, LIMIT, Trust::Anybody)?;
    text.map(|text| config(&text, devices).map_err(|error| error.within(path.display()))).transpose()
}

/// Where the config.json of a bundle is (OCI runtime specification, "Filesystem Bundle").
pub(crate) fn config_path(bundle: &Path) -> PathBuf {
    bundle.join("config.json")
}

fn no_config(bundle: &Path) -> Error {
    Error::new(Kind::NotFound, format!("{} does not exist", config_path(bundle).display()))
}

const BY_HAND: &str = "OCI runtimes call this hook; a person wants `underlay --help`";

fn lacks(key: &str) -> Error {
    Error::input(format!("OCI state on stdin has no {key}")).hint(BY_HAND)
}

/// Reads `input` to its end, also what is too much: a runtime may die of SIGPIPE if its hook does not
/// (containers/crun#1943).
/// Reads the whole of `input`, which is `what` on stdin.
///
/// # Errors
/// When it cannot be read, or is larger than [`LIMIT`].
pub(crate) fn read_to_end(mut input: impl Read, what: &str) -> Result<Vec<u8>> {
    let failed = |error: io::Error| Error::io("read", Path::new("stdin"), &error);
    let mut text = Vec::new();
    input.by_ref().take(LIMIT + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > LIMIT {
        io::copy(&mut input, &mut io::sink()).map_err(failed)?;
        return Err(Error::input(format!("{what} on stdin is larger than {LIMIT} bytes")));
    }
    Ok(text)
}

/// The little of config.json that concerns us; an odd field elsewhere is not our business. Hooks are looked at if the
/// container is ours by its annotations, or `devices` says that it may be ours without.
pub(crate) fn config(text: &[u8], devices: bool) -> Result<Bundle> {
    #[derive(Deserialize)]
    struct Config<'a> {
        annotations: Option<Annotations>,
        #[serde(borrow)]
        hostname: Option<&'a RawValue>,
        #[serde(borrow)]
        mounts: Option<&'a RawValue>,
        #[serde(borrow)]
        hooks: Option<&'a RawValue>,
        #[serde(borrow)]
        linux: Option<&'a RawValue>,
    }
    #[derive(Default, Deserialize)]
    struct Linux {
        namespaces: Option<Vec<Namespace>>,
    }
    #[derive(Deserialize)]
    struct Namespace {
        #[serde(rename = "type")]
        kind: String,
        path: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Mount {
        destination: PathBuf,
        source: Option<PathBuf>,
    }
    let config: Config<'_> = json::object(text)?;
    let annotations = config.annotations.unwrap_or_default();
    let is_asked = annotations.contains_key(NETWORKS);
    let hooks = config.hooks.filter(|_| is_asked || devices);
    let devices = hooks.map(|hooks| hooks::networks(hooks.get())).transpose()?.unwrap_or_default();
    if !is_asked && devices.is_empty() {
        return Ok(Bundle { annotations, ..Bundle::default() });
    }
    let linux = config.linux.map(|raw| json::read::<Option<Linux>>(raw.get().as_bytes()));
    let linux = linux.transpose().map_err(|error| error.within("linux"))?.flatten().unwrap_or_default();
    let netns =
        linux.namespaces.unwrap_or_default().into_iter().find(|namespace| namespace.kind == "network");
    let netns = netns.and_then(|namespace| namespace.path).filter(|path| path.is_absolute());
    // Any other value than a text is none: the runtime judges it.
    let hostname = config.hostname.and_then(|raw| json::read(raw.get().as_bytes()).ok());
    let mounts = config.mounts.and_then(|raw| json::read::<Vec<Mount>>(raw.get().as_bytes()).ok());
    // Of two mounts at one place, the last one is seen.
    let resolv_conf =
        mounts.unwrap_or_default().into_iter().rfind(|mount| mount.destination == Path::new(RESOLV_CONF));
    let resolv_conf = resolv_conf.and_then(|mount| mount.source).filter(|source| source.is_absolute());
    Ok(Bundle { annotations, devices, netns, hostname, resolv_conf })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_the_runtimes() {
        let annotations = Annotations::from([("io.underlay.networks".to_owned(), "lan".to_owned())]);
        for (text, pid, with_annotations) in [
            // runc 1.1.15
            (
                r#"{"ociVersion":"1.0.2-dev","id":"web","status":"creating","pid":77,"bundle":"/b","annotations":{"io.underlay.networks":"lan"}}"#,
                Some(77),
                true,
            ),
            // crun 1.21
            (
                r#"{"ociVersion":"1.0","id":"web","pid":77,"root":"/b/rootfs","bundle":"/b","status":"created","annotations":{"io.underlay.networks":"lan"}}"#,
                Some(77),
                true,
            ),
            (
                r#"{"ociVersion":"1.0","id":"web","pid":0,"root":"/b/rootfs","bundle":"/b","status":"a word of its own"}"#,
                Some(0),
                false,
            ),
            // youki 0.5
            (
                r#"{"ociVersion":"v1.0.2","id":"web","status":"creating","pid":77,"bundle":"/b","annotations":null}"#,
                Some(77),
                false,
            ),
        ] {
            let expected = Created {
                id: "web".to_owned(),
                pid,
                bundle: "/b".into(),
                annotations: with_annotations.then(|| annotations.clone()),
            };
            assert_eq!(created(text.as_bytes()).unwrap(), expected, "{text}");
            assert_eq!(stopped(text.as_bytes()).unwrap(), "web");
        }
        assert_eq!(stopped(&br#"{"id":"web","pid":"?","bundle":7,"annotations":[]}"#[..]).unwrap(), "web");
    }

    #[test]
    fn states_that_are_none() {
        for (text, message) in [
            (&b""[..], "OCI state on stdin: EOF while parsing a value at line 1 column 0"),
            (br#"{"id":"web","#, "OCI state on stdin: EOF while parsing a value at line 1 column 12"),
            (b"{\"id\":\"\xff\"}", "OCI state on stdin: id: invalid unicode code point at line 1 column 8"),
            (b"[]", "OCI state on stdin: is not a JSON object"),
            (b"{}", "OCI state on stdin has no id"),
            (br#"{"id":"web"}"#, "OCI state on stdin has no bundle"),
            (br#"{"id":"web","id":"db"}"#, "OCI state on stdin: duplicate field `id` at line 1 column 16"),
            (
                br#"{"id":7,"bundle":"/b"}"#,
                "OCI state on stdin: id: invalid type: integer `7`, expected a string at line 1 column 7",
            ),
        ] {
            assert_eq!(created(text).unwrap_err().to_string(), message);
        }
        assert!(stopped(&b"{}"[..]).is_err() && stopped(&b""[..]).is_err() && stopped(&b"[]"[..]).is_err());
        let huge = format!("{{\"id\":\"{}\"}}", "x".repeat(LIMIT as usize));
        let mut rest = huge.as_bytes();
        assert_eq!(
            created(&mut rest).unwrap_err().to_string(),
            "OCI state on stdin is larger than 16777216 bytes"
        );
        assert!(rest.is_empty(), "stdin is read to its end");
    }

    fn state(bundle: &Path, annotations: Option<Annotations>) -> Created {
        Created { id: "web".to_owned(), pid: Some(1), bundle: bundle.to_owned(), annotations }
    }

    #[test]
    fn bundles() {
        let folder = tempfile::tempdir().unwrap();
        let state = state(folder.path(), None);
        let read = |text: &str| {
            std::fs::write(folder.path().join("config.json"), text).unwrap();
            bundle(&state, None)
                .map_err(|error| error.to_string().rsplit("config.json: ").next().unwrap().to_owned())
        };
        assert_eq!(read("{}").unwrap(), Bundle::default());
        assert_eq!(read(r#"{"annotations": null, "linux": 7}"#).unwrap(), Bundle::default(), "not ours");
        let mounted = |mounts: &str| {
            let text = format!(r#"{{"annotations": {{"io.underlay.networks": "lan"}}, "mounts": {mounts}}}"#);
            read(&text).unwrap().resolv_conf
        };
        let at = r#"{"destination": "/etc/resolv.conf", "type": "bind", "source""#;
        let proc = r#"{"destination": "/proc", "type": "proc"}"#;
        assert_eq!(mounted(&format!(r#"[{proc}, {at}: "/a"}}, {at}: "/b"}}]"#)), Some("/b".into()));
        for none in [format!("[{proc}]"), format!(r#"[{at}: "b"}}]"#), "7".to_owned(), "[7]".to_owned()] {
            assert_eq!(mounted(&none), None, "{none}");
        }
        let ours = |linux: &str| {
            read(&format!(r#"{{"annotations": {{"io.underlay.networks": "lan"}}, "linux": {linux}}}"#))
        };
        assert_eq!(ours("null").unwrap().netns, None);
        assert_eq!(ours(r#"{"namespaces": [{"type": "pid"}, {"type": "network"}]}"#).unwrap().netns, None);
        let pinned = ours(r#"{"namespaces": [{"type": "network", "path": "/run/netns/a"}]}"#).unwrap();
        assert_eq!(pinned.netns, Some("/run/netns/a".into()));
        assert_eq!(
            ours("7").unwrap_err(),
            "linux: invalid type: integer `7`, expected struct Linux at line 1 column 1"
        );
        assert_eq!(
            read(r#"{"annotations": {"a": 7}}"#).unwrap_err(),
            "annotations.a: invalid type: integer `7`, expected a string at line 1 column 23"
        );
        assert_eq!(
            read(r#"{"annotations": ["a"]}"#).unwrap_err(),
            "annotations: invalid type: sequence, expected a map at line 1 column 16"
        );
        assert!(read("").is_err());
    }

    #[test]
    fn a_missing_config() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            bundle(&state(folder.path(), None), None).unwrap_err().to_string().ends_with("does not exist")
        );
        let annotations = Annotations::from([("a".to_owned(), "b".to_owned())]);
        assert_eq!(
            bundle(&state(folder.path(), Some(annotations.clone())), None).unwrap().annotations,
            annotations
        );
        assert_eq!(bundle(&state(Path::new("/"), None), None).unwrap(), Bundle::default());
        std::fs::create_dir(folder.path().join("config.json")).unwrap();
        let error = bundle(&state(folder.path(), Some(annotations)), None).unwrap_err().to_string();
        assert!(error.ends_with("is not a regular file"), "{error}");
    }
}
