//! A lease of either family.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::dhcp::client_id::Duid;
use crate::dhcp::message::Outgoing;
use crate::dhcp::times::{FOR_EVER, Lifetime, Times};
use crate::dhcp::{v4, v6};

/// A version of DHCP, by the addresses that it gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];
}

/// What a server gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lease {
    V4(v4::lease::Lease),
    V6(v6::lease::Lease),
}

/// How a server names itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Server {
    V4(Ipv4Addr),
    V6(Duid),
}

impl Lease {
    pub(crate) fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::V4,
            Self::V6(_) => Family::V6,
        }
    }

    /// The address with its prefix length. No server gives that of an IPv6 address: routers tell which others are on the link.
    pub(crate) fn address(&self) -> IpNet {
        match self {
            Self::V4(lease) => lease.address.into(),
            Self::V6(lease) => Ipv6Net::from(lease.address).into(),
        }
    }

    pub(crate) fn server(&self) -> Server {
        match self {
            Self::V4(lease) => Server::V4(lease.server),
            Self::V6(lease) => Server::V6(lease.server.clone()),
        }
    }

    pub(crate) fn times(&self) -> &Times {
        match self {
            Self::V4(lease) => &lease.times,
            Self::V6(lease) => &lease.times,
        }
    }

    /// For how long from `now` on the kernel is to keep the address; `None` if for ever.
    pub(crate) fn lifetime(&self, now: Duration) -> Option<Lifetime> {
        let valid = self.times().seconds_left(now);
        let preferred = match self {
            Self::V4(_) => valid,
            Self::V6(lease) => lease.preferred_seconds_left(now).min(valid),
        };
        (preferred != FOR_EVER).then_some(Lifetime { preferred, valid })
    }

    /// The message number `xid`, which gives it back.
    pub(crate) fn release(&self, xid: u32) -> Outgoing {
        match self {
            Self::V4(lease) => Outgoing::V4(v4::request::release(lease, xid)),
            Self::V6(lease) => Outgoing::V6(v6::request::release(lease, xid)),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(duid) => duid.fmt(f),
        }
    }
}
