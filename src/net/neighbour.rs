//! Whom the host knows on a link.

use std::net::IpAddr;

use crate::net::mac::MacAddr;

/// A neighbour that certainly has its address: it was heard of within half a minute (`NUD_REACHABLE`), or the operator
/// says so (`NUD_PERMANENT`). Of what was heard longer ago nobody knows whether it is still there, and a probe tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub mac: MacAddr,
    /// Whether the operator says so.
    pub permanent: bool,
}
