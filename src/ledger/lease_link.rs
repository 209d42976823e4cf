//! A lease: a symbolic link to the record of its holder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::net::name::{ContainerId, NetworkName};

/// What a lease of the container `id` points to.
pub(crate) fn lease_target(id: &ContainerId) -> PathBuf {
    PathBuf::from(format!("../../containers/{id}.json"))
}

/// What a lease of the host's link of `network` points to.
pub(crate) fn host_lease_target(network: &NetworkName) -> PathBuf {
    PathBuf::from(format!("../../host_links/{network}.json"))
}

/// The container that the lease at `path` names; `None` if it is no lease of ours.
pub(crate) fn leased_to(path: &Path) -> Result<Option<ContainerId>> {
    named(path, lease_target)
}

/// The network whose host's link the lease at `path` names; `None` if it is no such lease.
pub(crate) fn leased_to_host(path: &Path) -> Result<Option<NetworkName>> {
    named(path, host_lease_target)
}

/// The name in what the link at `path` points to, if that is the `target` of a lease of that name.
fn named<T: FromStr>(path: &Path, target: impl Fn(&T) -> PathBuf) -> Result<Option<T>> {
    let found = match fs::read_link(path) {
        Ok(found) => found,
        // Gone, or no symbolic link.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            return Ok(None);
        }
        Err(error) => return Err(Error::io("read", path, &error)),
    };
    let name = || found.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok();
    Ok(name().filter(|name| found == target(name)))
}
