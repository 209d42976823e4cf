//! A lease of either family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::dhcp::client_id::Duid;
use crate::dhcp::domain_name::DomainName;
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

    /// What tcpdump calls its messages.
    pub(crate) fn ports(self) -> &'static str {
        match self {
            Self::V4 => "port 67 or port 68",
            Self::V6 => "port 546 or port 547",
        }
    }
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

    /// The name servers that it tells.
    pub(crate) fn dns(&self) -> Vec<IpAddr> {
        match self {
            Self::V4(lease) => lease.dns.iter().copied().map(IpAddr::from).collect(),
            Self::V6(lease) => lease.dns.iter().copied().map(IpAddr::from).collect(),
        }
    }

    /// The domains in which names are looked up.
    pub(crate) fn search(&self) -> &[DomainName] {
        match self {
            Self::V4(lease) if lease.search.is_empty() => lease.domain.as_slice(),
            Self::V4(lease) => &lease.search,
            Self::V6(lease) => &lease.search,
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
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(duid) => duid.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = r#"{"server": "10.0.0.1", "mac": "02:00:00:00:00:09", "client_id": "01020000000009", "address": "10.0.0.9/24",
        "times": {"obtained": 1000, "limits": {"t1": 31000, "t2": 53500, "expiry": 61000}}}"#;

    fn v6(preferred: u32, limits: &str) -> Lease {
        let text = format!(
            r#"{{"server": "0003000102", "client": "000401", "iaid": 7, "address": "2001:db8::9", "preferred": {preferred},
                "times": {{"obtained": 1000{limits}}}}}"#
        );
        Lease::V6(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn what_either_family_has() {
        let limits = r#", "limits": {"t1": 31000, "t2": 53500, "expiry": 61000}"#;
        let all = [Lease::V4(serde_json::from_str(V4).unwrap()), v6(30, limits)];
        let told = all
            .each_ref()
            .map(|lease| format!("{:?} {} {}", lease.family(), lease.address(), lease.server()));
        assert_eq!(told, ["V4 10.0.0.9/24 10.0.0.1", "V6 2001:db8::9/128 0003000102"]);
        for lease in &all {
            let server = serde_json::to_string(&lease.server()).unwrap();
            assert_eq!(serde_json::from_str::<Server>(&server).unwrap(), lease.server());
        }
        let seconds = |lease: &Lease, now| {
            let lifetime = lease.lifetime(Duration::from_secs(now));
            lifetime.map(|lifetime| (lifetime.preferred, lifetime.valid))
        };
        assert_eq!(
            [11, 61, 99].map(|now| seconds(&all[0], now)),
            [Some((50, 50)), Some((0, 0)), Some((0, 0))]
        );
        assert_eq!(
            [11, 41, 61].map(|now| seconds(&all[1], now)),
            [Some((20, 50)), Some((0, 20)), Some((0, 0))]
        );
        assert_eq!(seconds(&v6(90, limits), 11), Some((50, 50)), "no longer than it is valid");
        assert_eq!(seconds(&v6(30, ""), 11), Some((20, FOR_EVER)));
        assert_eq!(seconds(&v6(FOR_EVER, ""), 11), None);
    }
}
