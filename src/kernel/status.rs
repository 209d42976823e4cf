//! The running kernel: its release, and the types of links that it can make. No hook needs this.

use std::fs;

use nix::libc;

use super::netns::NetnsFile;
use crate::error::{Error, Result};
use crate::netlink::{Socket, message};

/// Returns true if the kernel can make links of type `kind` (`IFLA_INFO_KIND`). It is asked for one without a parent, in a
/// namespace that is thrown away. The kernel refuses a type that it does not know as not supported, others for the missing
/// parent.
pub(crate) fn can_make(kind: &str) -> Result<bool> {
    NetnsFile::thrown_away(|| {
        let answers = Socket::open()?.transact(vec![message::create_on_nothing(kind)?])?;
        Ok(answers.iter().flatten().all(|refusal| refusal.errno != libc::EOPNOTSUPP))
    })
}

/// Returns the release of the running kernel (uname(2)).
pub(crate) fn kernel_release() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    let text = fs::read_to_string(path).map_err(|error| Error::io("read", path.as_ref(), &error))?;
    Ok(text.trim().to_owned())
}
