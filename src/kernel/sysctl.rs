//! Sysctls of links, in the network namespace that this thread is in.

use std::fs;
use std::io;

use crate::error::{Error, Result};
use crate::net::ipv6::{self, Advertised};
use crate::net::link_options::{Sysctl, SysctlValue};
use crate::net::name::IfName;

/// Sets a sysctl that was asked for.
pub(super) fn set(link: &IfName, sysctl: &Sysctl, value: &SysctlValue) -> Result<()> {
    let path = format!("/proc/sys/{}", sysctl.path(link.as_str()));
    write(&path, &value.to_string(), "not every kernel has every sysctl, nor takes every value")
}

fn write(path: &str, value: &str, hint: &str) -> Result<()> {
    fs::write(path, value).map_err(|error| Error::io("write", path.as_ref(), &error).hint(hint))
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

/// Makes a link take `advertised` from routers, or have no IPv6. Without SLAAC a failure is not an error here: a static
/// address that needs IPv6 is refused later. Addresses of SLAAC would be missing without notice.
pub(super) fn set_ipv6(link: &IfName, advertised: Option<&Advertised>) -> Result<()> {
    let has_slaac = advertised.is_some_and(|advertised| advertised.slaac.is_some());
    ipv6::sysctls(advertised).into_iter().try_for_each(|(key, value)| {
        let path = format!("/proc/sys/net/ipv6/conf/{link}/{key}");
        match has_slaac {
            true => write(&path, &value, "the network's ipv6 needs a kernel that has it"),
            false => set_if_there(&path, &value),
        }
    })
}

/// Sets a sysctl that is not necessary.
pub(super) fn prefer(link: &IfName, sysctl: &Sysctl, value: u8) -> Result<()> {
    set_if_there(&format!("/proc/sys/{}", sysctl.path(link.as_str())), &value.to_string())
}

/// Sets what is not necessary: the kernel may lack IPv6, or /proc/sys may be read-only.
fn set_if_there(path: &str, value: &str) -> Result<()> {
    match fs::write(path, value) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) => {
            log::debug!("{path}: {error}");
            Ok(())
        }
        written => written.map_err(|error| Error::io("write", path.as_ref(), &error)),
    }
}
