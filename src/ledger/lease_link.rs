//! A lease: a symbolic link to the record of its holder.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::Result;
use crate::fs::file;
use crate::net::name::{ContainerId, NetworkName};

/// Returns the target of a lease of the container `id`.
pub(crate) fn lease_target(id: &ContainerId) -> PathBuf {
    PathBuf::from(format!("../../containers/{id}.json"))
}

/// Returns the target of a lease of the host's link of `network`.
pub(crate) fn host_lease_target(network: &NetworkName) -> PathBuf {
    PathBuf::from(format!("../../host_links/{network}.json"))
}

/// Returns the container that the lease at `path` names; `None` if it is not a lease of a container.
pub(crate) fn leased_to(path: &Path) -> Result<Option<ContainerId>> {
    named(path, lease_target)
}

/// Returns the network whose host's link the lease at `path` names; `None` if it is not such a lease.
pub(crate) fn leased_to_host(path: &Path) -> Result<Option<NetworkName>> {
    named(path, host_lease_target)
}

/// Returns the name in the target of the link at `path`, if that is exactly the `target` of a lease of that
/// name.
pub(super) fn named<T: FromStr>(path: &Path, target: impl Fn(&T) -> PathBuf) -> Result<Option<T>> {
    let Some(found) = file::read_link(path)? else { return Ok(None) };
    let name = || found.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok();
    Ok(name().filter(|name| found == target(name)))
}
