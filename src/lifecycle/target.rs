//! What is attached to what: a network namespace, with the container that it is for, and the networks that are asked for.

use std::path::Path;

use crate::config::network::Network;
use crate::error::{Error, Result};
use crate::kernel::{self, NetnsFile, Process};
use crate::ledger::record::Holder;
use crate::net::name::{ContainerId, Identity};
use crate::oci::annotations::Attachment;

/// A network namespace that gets links, and the container that they are for.
#[derive(Debug)]
pub(crate) struct Target {
    /// The container.
    pub container: ContainerId,
    /// The identity under which it gets the same addresses again, if not its id.
    pub identity: Option<Identity>,
    /// The process that shows whether the container lives, and the namespace by inode.
    pub holder: Holder,
    /// The namespace itself.
    pub netns: NetnsFile,
}

/// One attachment that the operator permits.
#[derive(Clone, Debug)]
pub(crate) struct AttachmentRequest {
    /// What the container asks for.
    pub options: Attachment,
    /// The network.
    pub network: Network,
    /// True if the container defines the network itself, by an annotation.
    pub is_inline: bool,
}

/// All that a container asks for, and is permitted.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// The identity under which it gets the same addresses again, if not its id.
    pub identity: Option<Identity>,
    /// In the order asked for; never empty.
    pub requests: Vec<AttachmentRequest>,
}

impl Target {
    /// The container `container`, whose first process is `process`. `path` leads to its network namespace, if that was
    /// made before the container.
    pub(crate) fn new(
        container: ContainerId,
        identity: Option<Identity>,
        process: &Process,
        path: Option<&Path>,
    ) -> Result<Self> {
        let netns = process.netns()?;
        let holder = Holder {
            pid: process.pid(),
            start_time: process.start_time(),
            pid_namespace: kernel::pid_namespace(),
            netns: netns.describe(path),
        };
        Ok(Self { container, identity, holder, netns })
    }

    /// # Errors
    /// When the container is in the host's network namespace, `host`.
    pub(crate) fn refuse_host(&self, host: &NetnsFile) -> Result<()> {
        if self.netns.is(host) {
            return Err(Error::input("the container shares the host's network namespace")
                .hint("start it without `--network host`; with podman, `--network none` suits"));
        }
        Ok(())
    }
}
