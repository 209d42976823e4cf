//! Sysctls of links, in the network namespace that this thread is in.

use std::fs;
use std::io::ErrorKind;

use crate::error::{Error, Result};
use crate::net::link_options::Sysctl;

/// Writes the sysctl at `path` below /proc/sys. If it is not `needed`, for which that is the hint, the kernel may lack it, or
/// /proc/sys may be read-only.
pub(super) fn set(path: &str, value: &str, needed: Option<&str>) -> Result<()> {
    let path = format!("/proc/sys/{path}");
    fs::write(&path, value).or_else(|error| match (needed, error.kind()) {
        (None, ErrorKind::NotFound | ErrorKind::ReadOnlyFilesystem) => {
            log::debug!("{path}: {error}");
            Ok(())
        }
        (None, _) => Err(Error::io("write", path.as_ref(), &error)),
        (Some(hint), _) => Err(Error::io("write", path.as_ref(), &error).hint(hint)),
    })
}

/// Returns the value of `sysctl` for `link`, if the kernel has it.
pub(crate) fn read_sysctl(link: &str, sysctl: &Sysctl) -> Option<String> {
    let path = format!("/proc/sys/{}", sysctl.path(link));
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Returns the number `net.ipv4.conf.LINK.KEY`; `link` may be `all`.
pub(crate) fn read_ipv4_sysctl(link: &str, key: &str) -> Option<u8> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/{key}")).ok()?.trim().parse().ok()
}
