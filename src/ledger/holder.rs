//! Holders: what shows whether a container is alive, and its network namespace.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::net::netns::Netns;
use crate::net::value::{is_default, words};

/// What shows whether a container is alive, and its network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Stored")]
pub(crate) enum Holder {
    /// Its first process: it is alive as long as that runs.
    Process(ProcessHolder),
    /// Its network namespace: it is alive as long as the path leads to it. Its engine has no process yet when it attaches it.
    Netns(NetnsHolder),
    /// An endpoint: its engine moves its link into a container and back, and says when it is over.
    Endpoint(EndpointHolder),
}

words! {
    /// An engine with networks of its own that are of driver `underlay`.
    Engine, "engine", {
        Docker = "docker",
        Podman = "podman",
    }
}

/// What an engine calls a container's place in a network. No process is known of it, and its namespace is the engine's affair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct EndpointHolder {
    pub engine: Engine,
    /// A random number: by it, marks differ from those of any other endpoint or namespace.
    pub number: u64,
    /// When the engine has called for it, in seconds since the boot.
    pub since: u64,
    /// True if only an address was asked for: the endpoint is to come, or does not come at all.
    #[serde(skip_serializing_if = "is_default")]
    pub awaited: bool,
    /// Where the engine mounts the namespace of the container, some time after it has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<PathBuf>,
}

/// Of an endpoint the namespace is not known: no namespace has this inode.
static NOWHERE: Netns = Netns { device: 0, inode: 0, path: None };

/// The first process of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProcessHolder {
    /// Its pid in the pid namespace of the runtime.
    pub pid: i32,
    /// Its start time, in clock ticks since boot (proc_pid_stat(5), field 22). It tells a reused pid apart.
    pub start_time: u64,
    /// The inode of that pid namespace: in another one the process has another pid, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// Its network namespace.
    pub netns: Netns,
}

/// A network namespace that is mounted at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct NetnsHolder {
    /// The namespace, with the path.
    pub netns: Netns,
    /// When the kernel made its file, in nanoseconds since the epoch: the time of its last change (stat(2)). A mount keeps the
    /// file as it is, and nothing can change it. It tells a reused inode apart, which the next namespace may well have.
    pub made: u64,
    /// The inode of the mount namespace: in another one the path may lead elsewhere, or nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount_namespace: Option<u64>,
    /// The engine that keeps it; unknown after a repair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<Engine>,
}

/// A holder in a record. Versions 1 and 2 know processes only.
#[derive(Deserialize)]
struct Stored {
    engine: Option<Engine>,
    number: Option<u64>,
    since: Option<u64>,
    #[serde(default)]
    awaited: bool,
    sandbox: Option<PathBuf>,
    pid: Option<i32>,
    start_time: Option<u64>,
    pid_namespace: Option<u64>,
    made: Option<u64>,
    mount_namespace: Option<u64>,
    netns: Option<Netns>,
}

impl TryFrom<Stored> for Holder {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let Stored { pid_namespace, mount_namespace, engine, awaited, sandbox, .. } = stored;
        let missing = |key: &str| Error::input(format!("missing field `{key}`"));
        // A namespace has an engine, too.
        if let (Some(engine), None) = (engine, stored.made) {
            let number = stored.number.ok_or_else(|| missing("number"))?;
            let since = stored.since.ok_or_else(|| missing("since"))?;
            return Ok(Self::Endpoint(EndpointHolder { engine, number, since, awaited, sandbox }));
        }
        let netns = stored.netns.ok_or_else(|| missing("netns"))?;
        match (stored.pid, stored.made) {
            (Some(pid), _) => {
                let start_time = stored.start_time.ok_or_else(|| missing("start_time"))?;
                Ok(Self::Process(ProcessHolder { pid, start_time, pid_namespace, netns }))
            }
            (None, Some(_)) if netns.path.is_none() => Err(missing("path")),
            (None, Some(made)) => Ok(Self::Netns(NetnsHolder { netns, made, mount_namespace, engine })),
            (None, None) => Err(missing("pid")),
        }
    }
}

impl Holder {
    /// The holder of a container that does not exist yet, in `netns`. No record has it.
    pub(crate) fn none_yet(netns: Netns) -> Self {
        Self::Process(ProcessHolder { pid: 0, start_time: 0, pid_namespace: None, netns })
    }

    /// The network namespace of the container; none that exists if it is an endpoint.
    pub(crate) fn netns(&self) -> &Netns {
        match self {
            Self::Endpoint(_) => &NOWHERE,
            Self::Process(ProcessHolder { netns, .. }) | Self::Netns(NetnsHolder { netns, .. }) => netns,
        }
    }

    /// Whether `other` is in the same network namespace, as far as that is known.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        match (self.endpoint(), other.endpoint()) {
            (Some(one), Some(another)) => one.sandbox.is_some() && one.sandbox == another.sandbox,
            (None, None) => self.netns().is(other.netns()),
            _ => false,
        }
    }

    /// The process, if it is one.
    pub(crate) fn process(&self) -> Option<&ProcessHolder> {
        match self {
            Self::Process(process) => Some(process),
            Self::Netns(_) | Self::Endpoint(_) => None,
        }
    }

    /// The endpoint, if it is one.
    pub(crate) fn endpoint(&self) -> Option<&EndpointHolder> {
        match self {
            Self::Endpoint(endpoint) => Some(endpoint),
            Self::Process(_) | Self::Netns(_) => None,
        }
    }

    /// The engine that has attached the container by a network of its own, if it is known.
    pub(crate) fn engine(&self) -> Option<Engine> {
        match self {
            Self::Process(_) => None,
            Self::Netns(kept) => kept.engine,
            Self::Endpoint(endpoint) => Some(endpoint.engine),
        }
    }

    /// The two numbers by which a mark names it: pid and start time of the process; or 0, which is no pid, and when the
    /// namespace was made, or the number of the endpoint.
    pub(crate) fn stamp(&self) -> (i32, u64) {
        match self {
            Self::Process(ProcessHolder { pid, start_time, .. }) => (*pid, *start_time),
            Self::Netns(NetnsHolder { made, .. }) => (0, *made),
            Self::Endpoint(EndpointHolder { number, .. }) => (0, *number),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(ProcessHolder { pid, .. }) => write!(f, "pid {pid}"),
            Self::Netns(NetnsHolder { netns, .. }) => netns.fmt(f),
            Self::Endpoint(EndpointHolder { engine, .. }) => write!(f, "an endpoint of {engine}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<Holder, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What versions 1 and 2 have written, they find again, byte for byte.
    #[test]
    fn a_process_is_stored_as_before() {
        for text in [
            r#"{"pid":7,"start_time":8,"netns":{"device":4,"inode":5}}"#,
            r#"{"pid":7,"start_time":8,"pid_namespace":9,"netns":{"device":4,"inode":5,"path":"/run/netns/a"}}"#,
        ] {
            let holder = read(text).unwrap();
            assert_eq!(serde_json::to_string(&holder).unwrap(), text);
            assert_eq!((holder.stamp(), holder.to_string()), ((7, 8), "pid 7".to_owned()));
            assert_eq!(holder.netns().id(), (4, 5));
            assert!(holder.process().is_some());
        }
    }

    #[test]
    fn a_namespace() {
        for text in [
            r#"{"netns":{"device":4,"inode":5,"path":"/run/netns/a"},"made":8}"#,
            r#"{"netns":{"device":4,"inode":5,"path":"/run/netns/a"},"made":8,"mount_namespace":9,"engine":"podman"}"#,
        ] {
            let holder = read(text).unwrap();
            assert_eq!(serde_json::to_string(&holder).unwrap(), text);
            assert_eq!(holder.stamp(), (0, 8));
            assert_eq!(holder.to_string(), "network namespace /run/netns/a");
            assert!(holder.process().is_none() && holder.netns().id() == (4, 5));
        }
    }

    #[test]
    fn an_endpoint() {
        for text in [
            r#"{"engine":"docker","number":18446744073709551615,"since":8}"#,
            r#"{"engine":"docker","number":5,"since":8,"awaited":true,"sandbox":"/run/docker/netns/a"}"#,
        ] {
            let holder = read(text).unwrap();
            assert_eq!(serde_json::to_string(&holder).unwrap(), text);
            assert_eq!((holder.stamp().0, holder.to_string()), (0, "an endpoint of docker".to_owned()));
            assert!(
                holder.process().is_none() && holder.endpoint().is_some() && holder.netns().id() == (0, 0)
            );
        }
    }

    #[test]
    fn what_is_no_holder() {
        let netns = r#""netns":{"device":4,"inode":5}"#;
        for (text, said) in [
            (format!("{{{netns}}}"), "missing field `pid`"),
            (format!(r#"{{"start_time":8,{netns}}}"#), "missing field `pid`"),
            (format!(r#"{{"pid":7,{netns}}}"#), "missing field `start_time`"),
            (format!(r#"{{"made":7,{netns}}}"#), "missing field `path`"),
            (r#"{"pid":7,"start_time":8}"#.to_owned(), "missing field `netns`"),
            (r#"{"engine":"docker","since":8}"#.to_owned(), "missing field `number`"),
            (r#"{"engine":"docker","number":8}"#.to_owned(), "missing field `since`"),
            (r#"{"engine":"other","number":8,"since":8}"#.to_owned(), "unknown variant"),
            (format!(r#"{{"pid":"7","start_time":8,{netns}}}"#), "invalid type"),
        ] {
            assert!(read(&text).unwrap_err().contains(said), "{text}");
        }
    }
}
