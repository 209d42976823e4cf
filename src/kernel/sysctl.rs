//! Sysctls of links, in the network namespace that this thread is in.

use std::fs;
use std::io;

use crate::error::{Error, Result};
use crate::net::ipv6::{self, Advertised};
use crate::net::link_options::{Sysctl, SysctlValue};
use crate::net::name::IfName;

/// Sets what was asked for: that it cannot be set is an error.
pub(super) fn set(link: &IfName, sysctl: &Sysctl, value: &SysctlValue) -> Result<()> {
    let path = format!("/proc/sys/{}", sysctl.path(link.as_str()));
    fs::write(&path, value.to_string()).map_err(|error| {
        Error::io("write", path.as_ref(), &error)
            .hint("not every kernel has every sysctl, nor takes every value")
    })
}

/// The value of `sysctl` for `link`, as far as the kernel has it.
pub(crate) fn sysctl(link: &str, sysctl: &Sysctl) -> Option<String> {
    let path = format!("/proc/sys/{}", sysctl.path(link));
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The number that `net.ipv4.conf.LINK.KEY` is; `link` may be `all`.
pub(crate) fn sysctl_of(link: &str, key: &str) -> Option<u8> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{link}/{key}")).ok()?.trim().parse().ok()
}

/// Has a link take `advertised` from routers, or have no IPv6. Where that cannot be set, an address that needs it will
/// say so; those that the link makes itself will not.
pub(super) fn set_ipv6(link: &IfName, advertised: Option<&Advertised>) -> Result<()> {
    let needed = advertised.is_some_and(|advertised| advertised.slaac.is_some());
    for (key, value) in ipv6::sysctls(advertised) {
        let path = format!("/proc/sys/net/ipv6/conf/{link}/{key}");
        if needed {
            fs::write(&path, value).map_err(|error| {
                Error::io("write", path.as_ref(), &error)
                    .hint("the network's ipv6 wants a kernel that has it")
            })?;
        } else {
            set_if_there(&path, &value)?;
        }
    }
    Ok(())
}

/// Has the kernel announce the addresses of one family when the link is set up (`arp_notify`, `ndisc_notify`).
pub(super) fn set_notify(link: &IfName, is_v4: bool) -> Result<()> {
    let (family, key) = if is_v4 { ("ipv4", "arp_notify") } else { ("ipv6", "ndisc_notify") };
    set_if_there(&format!("/proc/sys/net/{family}/conf/{link}/{key}"), "1")
}

/// Sets what we can do without: there may be no IPv6 at all, or /proc/sys be read-only.
fn set_if_there(path: &str, value: &str) -> Result<()> {
    match fs::write(path, value) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => {
            log::debug!("{path}: {error}");
            Ok(())
        }
        written => written.map_err(|error| Error::io("write", path.as_ref(), &error)),
    }
}
