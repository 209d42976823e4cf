//! Sysctls of links, in the network namespace that this thread is in.

use std::fs;
use std::io;

use crate::error::{Error, Result};
use crate::name::IfName;
use crate::tuning::{Sysctl, SysctlValue};

/// Sets what was asked for: that it cannot be set is an error.
pub(super) fn set(link: &IfName, sysctl: &Sysctl, value: &SysctlValue) -> Result<()> {
    let path = format!("/proc/sys/{}", sysctl.path(link.as_str()));
    fs::write(&path, value.to_string()).map_err(|error| {
        Error::io("write", path.as_ref(), &error)
            .hint("not every kernel has every sysctl, nor takes every value")
    })
}

/// The value of `sysctl` for `link`, as far as the kernel has it.
pub fn sysctl(link: &str, sysctl: &Sysctl) -> Option<String> {
    let path = format!("/proc/sys/{}", sysctl.path(link));
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// `net.ipv6.conf.LINK.disable_ipv6`, of the namespace this thread is in. Where there is no IPv6 at all, or
/// /proc/sys is read-only, an address that needs it will say so.
pub(super) fn set_ipv6(link: &IfName, enabled: bool) -> Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6");
    match fs::write(&path, if enabled { "0" } else { "1" }) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => {
            log::debug!("{path}: {error}");
            Ok(())
        }
        written => written.map_err(|error| Error::io("write", path.as_ref(), &error)),
    }
}
