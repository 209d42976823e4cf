//! The neighbours that the host knows on a link.

use std::net::IpAddr;

use crate::net::mac::MacAddr;

/// A neighbour that certainly has its address: the kernel heard it within half a minute (`NUD_REACHABLE`), or the operator
/// says so (`NUD_PERMANENT`). Older entries may be wrong; a probe tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub address: IpAddr,
    pub mac: MacAddr,
    /// Whether the operator says so.
    pub permanent: bool,
}
