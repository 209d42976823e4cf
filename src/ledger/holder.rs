//! Holders: what shows whether a container is alive, and its network namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::net::netns::Netns;

/// The process and network namespace that identify a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    /// The pid of its first process in the pid namespace of the runtime.
    pub pid: i32,
    /// The start time of that process, in clock ticks since boot (proc_pid_stat(5), field 22). It tells a reused pid apart.
    pub start_time: u64,
    /// The inode of that pid namespace: in another one the process has another pid, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// Its network namespace.
    pub netns: Netns,
}

impl Holder {
    /// The holder of a container that does not exist yet, in `netns`. No record has it.
    pub(crate) fn none_yet(netns: Netns) -> Self {
        Self { pid: 0, start_time: 0, pid_namespace: None, netns }
    }

    /// The network namespace of the container.
    pub(crate) fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The two numbers by which a mark names it: the pid and the start time of its process.
    pub(crate) fn stamp(&self) -> (i32, u64) {
        (self.pid, self.start_time)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)
    }
}
