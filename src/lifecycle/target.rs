//! The target of an attach: a network namespace, its container, and the networks that the container asks for.

use std::path::{Path, PathBuf};

use crate::config::network::Network;
use crate::dhcp::domain_name::DomainName;
use crate::error::{Error, Kind, Result};
use crate::kernel::{self, NetnsFile, Process};
use crate::ledger::holder::{Engine, Holder, NetnsHolder, ProcessHolder};
use crate::net::name::{ContainerId, Identity};
use crate::oci::annotations::Attachment;

/// A network namespace that gets links, and the container that they are for.
#[derive(Debug)]
pub(crate) struct Target {
    pub container: ContainerId,
    /// The identity under which it gets the same addresses again, if not its id.
    pub identity: Option<Identity>,
    /// The name by which the container calls itself, if a DHCP server can be told it.
    pub host_name: Option<DomainName>,
    /// The file of the host that the container sees as `/etc/resolv.conf`, if one is mounted there.
    pub resolv_conf: Option<PathBuf>,
    /// What shows whether the container is alive, and the namespace by inode.
    pub holder: Holder,
    /// The namespace itself, open.
    pub netns: NetnsFile,
}

/// One attachment that the operator permits.
#[derive(Clone, Debug)]
pub(crate) struct AttachmentRequest {
    /// What the container asks for.
    pub options: Attachment,
    pub network: Network,
    /// True if the container defines the network itself, by an annotation.
    pub is_inline: bool,
}

/// All permitted requests of a container.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    /// The identity under which it gets the same addresses again, if not its id.
    pub identity: Option<Identity>,
    /// In the order of the annotation; never empty.
    pub requests: Vec<AttachmentRequest>,
}

impl Target {
    /// Returns the target for a container with the first process `process`. `path` leads to its network
    /// namespace, if that was made before the container.
    pub(crate) fn new(
        container: ContainerId,
        identity: Option<Identity>,
        host_name: Option<DomainName>,
        process: &Process,
        path: Option<&Path>,
    ) -> Result<Self> {
        let netns = process.netns()?;
        let holder = Holder::Process(ProcessHolder {
            pid: process.pid(),
            start_time: process.start_time(),
            pid_namespace: kernel::pid_namespace(),
            netns: netns.describe(path),
        });
        Ok(Self { container, identity, host_name, resolv_conf: None, holder, netns })
    }

    /// Returns the target for a container whose network namespace `engine` has mounted at `path`. No process of the container
    /// is known.
    ///
    /// # Errors
    /// [`Kind::NotFound`] if no network namespace is mounted there.
    pub(crate) fn at(
        engine: Engine,
        container: ContainerId,
        identity: Option<Identity>,
        host_name: Option<DomainName>,
        path: &Path,
    ) -> Result<Self> {
        // Other processes have another working directory.
        if !path.is_absolute() {
            let text = format!("the path {} of a network namespace is not absolute", path.display());
            return Err(Error::input(text));
        }
        let Some(netns) = NetnsFile::mounted_at(path)? else {
            let text = format!("no network namespace is mounted at {}", path.display());
            return Err(Error::new(Kind::NotFound, text)
                .hint("its engine mounts it before it asks for links, and keeps it until they are deleted"));
        };
        let (described, made) = (netns.describe(Some(path)), netns.made());
        let mount_namespace = kernel::mount_namespace();
        let holder =
            Holder::Netns(NetnsHolder { netns: described, made, mount_namespace, engine: Some(engine) });
        Ok(Self { container, identity, host_name, resolv_conf: None, holder, netns })
    }

    /// Returns an error if the container is in the host's network namespace, `host`.
    pub(crate) fn refuse_host(&self, host: &NetnsFile) -> Result<()> {
        if self.netns.is(host) {
            return Err(Error::input("the container shares the host's network namespace")
                .hint("start it without `--network host`; with podman, `--network none` suits"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A namespace that no mount keeps at the path may go before its record.
    #[test]
    fn paths_that_keep_no_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: PathBuf| {
            let error = Target::at(Engine::Podman, "web".parse().unwrap(), None, None, &path).unwrap_err();
            (error.kind(), error.to_string())
        };
        let file = |name: &str| folder.path().join(name);
        File::create(file("file")).unwrap();
        symlink("/proc/self/ns/net", file("link")).unwrap();
        symlink("gone", file("dangling")).unwrap();
        let paths = ["file", "link", "dangling", "missing", "file/x", "."].map(file);
        for path in paths.into_iter().chain([PathBuf::from("/proc/self/ns/net")]) {
            let said = format!("no network namespace is mounted at {}", path.display());
            assert_eq!(at(path), (Kind::NotFound, said));
        }
        assert_eq!(at("run/netns/web".into()).0, Kind::Input);
    }
}
