//! The operator's settings and policy: `underlay.json`, which need not exist.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::config::conflict_detection::{self, ANNOUNCEMENTS, Detection};
use crate::config::network::Network;
use crate::config::pattern::Pattern;
use crate::error::{Error, Result};
use crate::json;
use crate::net::name::NetworkName;

/// The version of the settings format that this program reads.
const VERSION: u32 = 1;
/// The longest key with a meaning: `io.underlay.network.` and a network's name. An error shows no more.
const LONGEST_KEY: usize = 148;

/// Settings and policy. Every key has a default. A refusal begins with the key that is the reason.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    version: u32,
    /// Whether annotations may define networks (`io.underlay.network.NAME`).
    inline_networks: bool,
    /// The parents that such definitions, and those through Docker, may name; all by default.
    allowed_parents: Option<Vec<Pattern>>,
    /// The networks that containers may ask for, wherever they are defined; all by default.
    allowed_networks: Option<Vec<Pattern>>,
    /// The most bytes of an annotation of ours, with its key. Kubernetes takes 256 KiB for all annotations of a pod
    /// (`TotalAnnotationSizeLimitB`), execve(2) 128 KiB for one argument; usual annotations have hundreds of bytes.
    max_annotation_bytes: usize,
    /// The most networks that a container may be attached to, and that it may define.
    pub(crate) max_attachments: usize,
    /// The longest wait for the ledger's lock, in milliseconds.
    lock_timeout_ms: u64,
    /// The OCI runtime that `underlay-runtime` executes.
    pub(crate) runtime: Option<PathBuf>,
    /// For networks without the key of that name.
    conflict_detection: Detection,
    /// For networks without the key of that name.
    announcements: u32,
    /// For networks without the key of that name.
    probe_ahead: u64,
    /// What the agent does if another host has the address of a container that runs.
    pub(crate) on_late_conflict: OnLateConflict,
    /// Which engine's `/etc/resolv.conf` gets the name servers of leases.
    pub(crate) dhcp_resolv_conf: DhcpResolvConf,
    /// Whether networks may be defined through Docker, by its users.
    docker_networks: bool,
}

/// See [`Settings::dhcp_resolv_conf`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DhcpResolvConf {
    /// None: it is the engine's.
    #[default]
    Off,
    /// That which Docker mounts into a container, unless the container has name servers of its own.
    Docker,
}

/// See [`Settings::on_late_conflict`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum OnLateConflict {
    /// The operator is told.
    #[default]
    Tell,
    /// The container also gets another address, unless it asked for that one.
    Move,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            version: VERSION,
            inline_networks: false,
            allowed_parents: None,
            allowed_networks: None,
            max_annotation_bytes: 16 * 1024,
            max_attachments: 16,
            lock_timeout_ms: 20_000,
            runtime: None,
            conflict_detection: Detection::default(),
            announcements: ANNOUNCEMENTS,
            probe_ahead: conflict_detection::PROBE_AHEAD,
            on_late_conflict: OnLateConflict::Tell,
            dhcp_resolv_conf: DhcpResolvConf::Off,
            docker_networks: true,
        }
    }
}

impl Settings {
    /// # Errors
    /// Names the key that is wrong.
    pub(crate) fn from_json(text: &[u8]) -> Result<Self> {
        let settings: Self = json::of_version(text, VERSION)?;
        if let Some(path) = settings.runtime.as_ref().filter(|path| !path.is_absolute()) {
            return Err(Error::input(format!("runtime: {} is not an absolute path", path.display()))
                .hint("write the whole path: /usr/bin/crun"));
        }
        conflict_detection::check_announcements(settings.announcements)?;
        conflict_detection::check_probe_ahead(settings.probe_ahead)?;
        Ok(settings)
    }

    /// The network with these settings for what its definition leaves open.
    #[must_use]
    pub(crate) fn complete(&self, mut network: Network) -> Network {
        network.file.conflict_detection.get_or_insert(self.conflict_detection);
        network.file.announcements.get_or_insert(self.announcements);
        network.file.probe_ahead.get_or_insert(self.probe_ahead);
        network
    }

    pub(crate) fn lock_timeout(&self) -> Duration {
        Duration::from_millis(self.lock_timeout_ms)
    }

    /// Whether the annotation `key` is small enough.
    ///
    /// # Errors
    /// Names the limit, and the annotation.
    pub(crate) fn allow_annotation(&self, key: &str, value: &str) -> Result<()> {
        let (bytes, limit) = (key.len() + value.len(), self.max_annotation_bytes);
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::input(format!(
            "max_annotation_bytes: annotation {key:.LONGEST_KEY$} has {bytes} bytes, and {limit} are allowed"
        ))
        .hint("shorten it, or have the limit raised"))
    }

    /// Whether a container may be attached to `count` networks; `subject` begins the sentence that refuses it.
    ///
    /// # Errors
    /// Names the limit.
    pub(crate) fn allow_count(&self, subject: &str, count: usize) -> Result<()> {
        let limit = self.max_attachments;
        if count <= limit {
            return Ok(());
        }
        Err(Error::input(format!("max_attachments: {subject} {count} networks, and {limit} are allowed"))
            .hint("ask for fewer, or have the limit raised"))
    }

    /// Whether containers may ask for the network `name`, even if it does not exist.
    ///
    /// # Errors
    /// Names the setting that forbids it.
    pub(crate) fn allow_network(&self, name: &NetworkName) -> Result<()> {
        if matches_any(self.allowed_networks.as_deref(), name.as_str()) {
            return Ok(());
        }
        Err(Error::input(format!("allowed_networks: network {name} is not for containers here"))
            .hint("ask for another network, or have a pattern added that matches its name"))
    }

    /// Whether `network` may be defined through Docker.
    ///
    /// # Errors
    /// Names the setting that forbids it.
    pub(crate) fn allow_docker_network(&self, network: &Network) -> Result<()> {
        if self.docker_networks {
            return self.allow_parent(network, "definitions through Docker");
        }
        Err(Error::input("docker_networks: networks are not defined through Docker here")
            .hint("name one that exists, -o network=NAME; `underlay network create` makes it"))
    }

    /// Whether a container may use its own definition of `network`.
    ///
    /// # Errors
    /// Names the setting or key that forbids it.
    pub(crate) fn allow_inline(&self, network: &Network) -> Result<()> {
        let name = &network.name;
        let refuse = |key: &str, why: &str, hint: &str| {
            let text = format!("{key}: network {name} is defined by an annotation, which {why}");
            Err(Error::input(text).hint(hint))
        };
        if !self.inline_networks {
            let hint = "create it with `underlay network create`, or set \"inline_networks\": true";
            return refuse("inline_networks", "is not allowed here", hint);
        }
        // Annotations must not give the host links, addresses and routes.
        if network.file.host_access.is_some() {
            let hint = "create it with `underlay network create --host-access`";
            return refuse("host_access", "cannot change the host's routes", hint);
        }
        // The kernel applies the longest that any link asks for to all links of the parent.
        if network.file.bcqueuelen.is_some() {
            let hint = "leave it out, or create the network with `underlay network create -o bcqueuelen=`";
            return refuse("bcqueuelen", "cannot change the queue of all links of a parent", hint);
        }
        self.allow_parent(network, "definitions in annotations")
    }

    /// Whether the parent of `network` is for `definitions` of this kind.
    fn allow_parent(&self, network: &Network, definitions: &str) -> Result<()> {
        let name = &network.name;
        // A VLAN is matched by its full name. In a network of many VLANs, the VLAN of each attachment is checked later.
        let parent = match &network.trunk {
            Some(trunk) => trunk.long_name(),
            None => Some(network.parent.to_string()),
        };
        let Some(parent) = parent else { return Ok(()) };
        if matches_any(self.allowed_parents.as_deref(), &parent) {
            return Ok(());
        }
        Err(Error::input(format!(
            "allowed_parents: network {name} names parent {parent}, which is not for {definitions}"
        ))
        .hint("use another parent, or have a pattern added that matches its name"))
    }
}

fn matches_any(allowed: Option<&[Pattern]>, name: &str) -> bool {
    allowed.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Settings {
        Settings::from_json(text.as_bytes()).unwrap()
    }

    fn said(outcome: Result<()>) -> String {
        outcome.map_or_else(|error| error.to_string(), |()| "allowed".to_owned())
    }

    #[test]
    fn reads() {
        assert_eq!(read("{}"), Settings::default());
        let settings = read(
            r#"{"version": 1, "inline_networks": true, "allowed_parents": ["eth0"], "allowed_networks": [],
                "max_annotation_bytes": 5, "max_attachments": 5, "lock_timeout_ms": 5}"#,
        );
        assert!(settings.inline_networks);
        assert_eq!(settings.lock_timeout(), Duration::from_millis(5));
        for (text, message) in [
            ("[]", "is not a JSON object"),
            (r#"{"version": 2}"#, "version 2 is not known"),
            (r#"{"x": 1}"#, "x: unknown field `x`"),
            (r#"{"inline_networks": 1}"#, "inline_networks: invalid type"),
            (r#"{"allowed_parents": "eth0"}"#, "allowed_parents: invalid type"),
            (
                r#"{"allowed_parents": ["eth0", "eth["]}"#,
                "allowed_parents[1]: pattern \"eth[\" is not usable: ",
            ),
            (r#"{"allowed_networks": [""]}"#, "allowed_networks[0]: pattern \"\" is not usable: it is empty"),
            (r#"{"max_attachments": -1}"#, "max_attachments: invalid value"),
            (r#"{"dhcp_resolv_conf": "podman"}"#, "dhcp_resolv_conf: unknown variant `podman`"),
            (r#"{"runtime": "crun"}"#, "runtime: crun is not an absolute path"),
            (r#"{"max_annotation_bytes": "1k"}"#, "max_annotation_bytes: invalid type"),
            ("{} x", "trailing characters"),
        ] {
            let error = Settings::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
        }
    }

    #[test]
    fn inline_definitions() {
        let definition = |text: &[u8]| Network::from_json(&"lan".parse().unwrap(), text).unwrap();
        let on_vlan = definition(br#"{"version": 1, "driver": "macvlan", "parent": "eth1.5"}"#);
        let on_dummy = definition(br#"{"version": 1, "driver": "macvlan"}"#);
        let refused = "inline_networks: network lan is defined by an annotation, which is not allowed here";
        let at = |parent: &str| {
            format!(
                "allowed_parents: network lan names parent {parent}, which is not for definitions in annotations"
            )
        };
        for (text, vlan, dummy) in [
            ("{}", refused, refused),
            (r#"{"allowed_parents": ["*"]}"#, refused, refused),
            (r#"{"inline_networks": true}"#, "allowed", "allowed"),
            (r#"{"inline_networks": true, "allowed_parents": []}"#, &at("eth1.5"), &at("ul-lan")),
            (r#"{"inline_networks": true, "allowed_parents": ["eth1"]}"#, &at("eth1.5"), &at("ul-lan")),
            (r#"{"inline_networks": true, "allowed_parents": ["br*", "eth1.*"]}"#, "allowed", &at("ul-lan")),
            (r#"{"inline_networks": true, "allowed_parents": ["ul-*"]}"#, &at("eth1.5"), "allowed"),
        ] {
            assert_eq!(said(read(text).allow_inline(&on_vlan)), vlan, "{text}");
            assert_eq!(said(read(text).allow_inline(&on_dummy)), dummy, "{text}");
        }
        let of_all = definition(br#"{"version": 1, "driver": "macvlan", "parent": "eth1", "bcqueuelen": 9}"#);
        let refused = "bcqueuelen: network lan is defined by an annotation, which cannot change the queue of all links of a \
                       parent";
        assert_eq!(said(read(r#"{"inline_networks": true}"#).allow_inline(&of_all)), refused);
    }

    #[test]
    fn names() {
        for (text, allowed) in [
            ("{}", true),
            (r#"{"allowed_networks": []}"#, false),
            (r#"{"allowed_networks": ["lan", "web-*"]}"#, true),
            (r#"{"allowed_networks": ["san"]}"#, false),
        ] {
            let expected = if allowed {
                "allowed"
            } else {
                "allowed_networks: network web-1 is not for containers here"
            };
            assert_eq!(said(read(text).allow_network(&"web-1".parse().unwrap())), expected, "{text}");
        }
    }
}
