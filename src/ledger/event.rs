//! Events. Their format is stable: docs/reference/commands.md.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dhcp::lease::Server;
use crate::error::Error;
use crate::escape::printable;
use crate::ledger::record::Record;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, IfName, NetworkName};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    /// A container was attached.
    Attached(Container),
    /// A stopped container was detached.
    Detached(Container),
    /// Links and leases of a container that exited without poststop were reclaimed.
    Reclaimed(Container),
    /// Another host on the LAN has an address that was allocated to a container or to the host's own link.
    Conflict {
        /// The container's id; `None` for the host's own link.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<ContainerId>,
        network: NetworkName,
        address: IpAddr,
        /// The MAC address of the other host.
        mac: MacAddr,
    },
    /// Another host on the LAN has an address that a container uses already: see
    /// [`Asked`](crate::ledger::asked::Asked).
    Duplicate {
        container: ContainerId,
        network: NetworkName,
        address: IpAddr,
        /// The MAC address of the other host.
        mac: MacAddr,
    },
    /// A container has got another address, because another host has the one that it had.
    Moved {
        container: ContainerId,
        network: NetworkName,
        /// The addresses that it has no more.
        from: Vec<IpAddr>,
        /// Those that it has now.
        to: Vec<IpNet>,
    },
    /// A DHCP server has given a container that runs an address, where it had none.
    Leased { container: ContainerId, network: NetworkName, address: IpNet, server: Server },
    /// A DHCP server has renewed the lease of a container.
    Renewed { container: ContainerId, network: NetworkName, address: IpNet, server: Server },
    /// A container has no address by DHCP any more.
    Lost { container: ContainerId, network: NetworkName, address: IpAddr, reason: String },
    /// The hook has failed.
    Failed {
        /// The stage of the OCI runtime specification.
        stage: String,
        /// The container's id as the runtime gives it, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// The error message.
        error: String,
        /// The hint of the error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// A container with its links.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    pub container: ContainerId,
    /// Its links, in order.
    pub attachments: Vec<Attachment>,
}

/// A link of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub network: NetworkName,
    /// Its name in the container.
    pub ifname: IfName,
    /// Its MAC address, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    pub addresses: Vec<IpNet>,
}

/// The priority of an event, by the numbers of syslog(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// `LOG_ERR`
    Error = 3,
    /// `LOG_WARNING`
    Warning = 4,
    /// `LOG_INFO`
    Info = 6,
}

impl From<&Record> for Container {
    fn from(record: &Record) -> Self {
        let attachments = record.attachments().iter().map(|attached| Attachment {
            network: attached.network.clone(),
            ifname: attached.ifname.clone(),
            mac: attached.mac,
            addresses: attached.addresses.clone(),
        });
        Self { container: record.container.clone(), attachments: attachments.collect() }
    }
}

impl Event {
    /// The names of all kinds, as [`Event::kind`] returns them.
    pub(crate) const KINDS: [&str; 10] = [
        "attached",
        "detached",
        "reclaimed",
        "conflict",
        "duplicate",
        "moved",
        "leased",
        "renewed",
        "lost",
        "failed",
    ];

    /// Returns the event for a failure of the hook at `stage`; `container` is its id, if it could be read.
    pub(crate) fn failed(stage: &str, container: Option<&str>, error: &Error) -> Self {
        Self::Failed {
            stage: stage.to_owned(),
            container: container.map(str::to_owned),
            error: printable::message(&error.to_string()),
            hint: error.hint_text().map(printable::message),
        }
    }

    /// Returns the name of its kind.
    pub(crate) fn kind(&self) -> &'static str {
        let [attached, detached, reclaimed, conflict, duplicate, moved, leased, renewed, lost, failed] =
            Self::KINDS;
        match self {
            Self::Attached(_) => attached,
            Self::Detached(_) => detached,
            Self::Reclaimed(_) => reclaimed,
            Self::Conflict { .. } => conflict,
            Self::Duplicate { .. } => duplicate,
            Self::Moved { .. } => moved,
            Self::Leased { .. } => leased,
            Self::Renewed { .. } => renewed,
            Self::Lost { .. } => lost,
            Self::Failed { .. } => failed,
        }
    }

    pub(crate) fn priority(&self) -> Priority {
        match self {
            Self::Attached(_) | Self::Detached(_) | Self::Leased { .. } | Self::Renewed { .. } => {
                Priority::Info
            }
            Self::Reclaimed(_) | Self::Conflict { .. } | Self::Moved { .. } => Priority::Warning,
            Self::Duplicate { .. } | Self::Lost { .. } | Self::Failed { .. } => Priority::Error,
        }
    }

    /// Returns the id of its container, if it has one.
    pub(crate) fn container(&self) -> Option<&str> {
        match self {
            Self::Attached(of) | Self::Detached(of) | Self::Reclaimed(of) => Some(of.container.as_str()),
            Self::Conflict { container, .. } => container.as_ref().map(ContainerId::as_str),
            Self::Duplicate { container, .. }
            | Self::Moved { container, .. }
            | Self::Leased { container, .. }
            | Self::Renewed { container, .. }
            | Self::Lost { container, .. } => Some(container.as_str()),
            Self::Failed { container, .. } => container.as_deref(),
        }
    }

    /// Returns its networks, each once, in order.
    pub(crate) fn networks(&self) -> Vec<&NetworkName> {
        match self {
            Self::Attached(of) | Self::Detached(of) | Self::Reclaimed(of) => {
                let mut seen = BTreeSet::new();
                let all = of.attachments.iter().map(|one| &one.network);
                all.filter(|network| seen.insert(*network)).collect()
            }
            Self::Conflict { network, .. }
            | Self::Duplicate { network, .. }
            | Self::Moved { network, .. }
            | Self::Leased { network, .. }
            | Self::Renewed { network, .. }
            | Self::Lost { network, .. } => {
                vec![network]
            }
            Self::Failed { .. } => Vec::new(),
        }
    }
}

fn list(addresses: &[impl ToString]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Event {
    /// One line, unless a text in it has several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attached(of) | Self::Detached(of) | Self::Reclaimed(of) => {
                write!(f, "{} {}", self.kind(), of.container)?;
                for Attachment { network, ifname, addresses, .. } in &of.attachments {
                    write!(f, " {network}:{ifname}")?;
                    addresses.iter().try_for_each(|address| write!(f, ",{address}"))?;
                }
                Ok(())
            }
            Self::Conflict { container, network, address, mac } => {
                match container {
                    Some(container) => write!(f, "container {container}: ")?,
                    None => write!(f, "the host: ")?,
                }
                write!(f, "address {address} of network {network} is in use on the LAN, by {mac}")
            }
            Self::Duplicate { container, network, address, mac } => write!(
                f,
                "container {container} has address {address} of network {network}, and so has another host on the LAN, {mac}"
            ),
            Self::Moved { container, network, from, to } => {
                let (from, to) = (list(from), list(to));
                write!(f, "container {container} has {to} of network {network} now, and no more {from}")
            }
            Self::Leased { container, network, address, server } => {
                write!(
                    f,
                    "container {container} has {address} of network {network} now, by DHCP server {server}"
                )
            }
            Self::Renewed { container, network, address, server } => {
                write!(
                    f,
                    "container {container} keeps {address} of network {network}, by DHCP server {server}"
                )
            }
            Self::Lost { container, network, address, reason } => {
                write!(
                    f,
                    "container {container} has no address of network {network} any more, not {address}: {reason}"
                )
            }
            Self::Failed { stage, container, error, hint } => {
                write!(f, "{stage} failed: ")?;
                if let Some(container) = container {
                    write!(f, "container {container}: ")?;
                }
                write!(f, "{error}")?;
                hint.iter().try_for_each(|hint| write!(f, " (hint: {hint})"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn what_is_written_is_read() {
        let attachment = Attachment {
            network: "lan".parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            addresses: vec!["10.0.0.9/24".parse().unwrap(), "2001:db8::9/64".parse().unwrap()],
        };
        let container = Container { container: "web".parse().unwrap(), attachments: vec![attachment] };
        let error = Error::new(Kind::NotFound, "network x does not exist").hint("create it");
        let conflict = |container: Option<&str>| Event::Conflict {
            container: container.map(|id| id.parse().unwrap()),
            network: "lan".parse().unwrap(),
            address: "10.0.0.9".parse().unwrap(),
            mac: "02:00:00:00:00:02".parse().unwrap(),
        };
        let had_text = r#""container":"web","attachments":[{"network":"lan","ifname":"eth0","mac":"02:00:00:00:00:01","addresses":["10.0.0.9/24","2001:db8::9/64"]}]"#;
        for (event, json, text) in [
            (
                Event::Attached(container.clone()),
                format!(r#"{{"event":"attached",{had_text}}}"#),
                "attached web lan:eth0,10.0.0.9/24,2001:db8::9/64",
            ),
            (
                Event::Reclaimed(container),
                format!(r#"{{"event":"reclaimed",{had_text}}}"#),
                "reclaimed web lan:eth0,10.0.0.9/24,2001:db8::9/64",
            ),
            (
                conflict(None),
                r#"{"event":"conflict","network":"lan","address":"10.0.0.9","mac":"02:00:00:00:00:02"}"#.into(),
                "the host: address 10.0.0.9 of network lan is in use on the LAN, by 02:00:00:00:00:02",
            ),
            (
                conflict(Some("web")),
                r#"{"event":"conflict","container":"web","network":"lan","address":"10.0.0.9","mac":"02:00:00:00:00:02"}"#.into(),
                "container web: address 10.0.0.9 of network lan is in use on the LAN, by 02:00:00:00:00:02",
            ),
            (
                Event::Duplicate {
                    container: "web".parse().unwrap(),
                    network: "lan".parse().unwrap(),
                    address: "10.0.0.9".parse().unwrap(),
                    mac: "02:00:00:00:00:02".parse().unwrap(),
                },
                r#"{"event":"duplicate","container":"web","network":"lan","address":"10.0.0.9","mac":"02:00:00:00:00:02"}"#.into(),
                "container web has address 10.0.0.9 of network lan, and so has another host on the LAN, 02:00:00:00:00:02",
            ),
            (
                Event::Moved {
                    container: "web".parse().unwrap(),
                    network: "lan".parse().unwrap(),
                    from: vec!["10.0.0.9".parse().unwrap()],
                    to: vec!["10.0.0.10/24".parse().unwrap(), "2001:db8::9/64".parse().unwrap()],
                },
                r#"{"event":"moved","container":"web","network":"lan","from":["10.0.0.9"],"to":["10.0.0.10/24","2001:db8::9/64"]}"#.into(),
                "container web has 10.0.0.10/24, 2001:db8::9/64 of network lan now, and no more 10.0.0.9",
            ),
            (
                Event::failed("createRuntime", Some("web"), &error),
                r#"{"event":"failed","stage":"createRuntime","container":"web","error":"network x does not exist","hint":"create it"}"#.into(),
                "createRuntime failed: container web: network x does not exist (hint: create it)",
            ),
            (
                Event::failed("poststop", None, &Error::input("no state")),
                r#"{"event":"failed","stage":"poststop","error":"no state"}"#.into(),
                "poststop failed: no state",
            ),
        ] {
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
            assert_eq!(event.to_string(), text);
            assert!(json.contains(&format!(r#""event":"{}""#, event.kind())));
        }
    }

    #[test]
    fn each_network_once() {
        let attachment = |network: &str| Attachment {
            network: network.parse().unwrap(),
            ifname: "eth0".parse().unwrap(),
            mac: None,
            addresses: Vec::new(),
        };
        let attachments = ["lan", "wan", "lan", "lan", "san"].map(attachment).into();
        let event = Event::Attached(Container { container: "web".parse().unwrap(), attachments });
        let networks: Vec<_> = event.networks().into_iter().map(NetworkName::as_str).collect();
        assert_eq!(networks, ["lan", "wan", "san"]);
    }
}
