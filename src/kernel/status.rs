//! What only people ask of the host's links, and of the kernel itself: no hook needs it.

use std::fs;

use ipnet::IpNet;
use neli::consts::rtnl::{Ifla, RtAddrFamily, Rta};
use nix::libc;

use super::netns::NetnsFile;
use crate::error::{Error, Result};
use crate::net::link::HostLinkInfo;
use crate::netlink::Socket;
use crate::netlink::attr::{number, value};
use crate::netlink::message;
use crate::netlink::reply;
use crate::netlink::routes;

impl Socket {
    /// All links, and whether they are connected.
    ///
    /// # Errors
    /// When the kernel's answer is not understood.
    pub(crate) fn host_links(&mut self) -> Result<Vec<HostLinkInfo>> {
        self.dump(message::dump_links, |payload| {
            let Some(link) = reply::parse_link(payload)? else { return Ok(None) };
            Ok(Some(HostLinkInfo { link, carrier: has_carrier(payload) }))
        })
    }

    /// The addresses of all links, with the numbers of these.
    ///
    /// # Errors
    /// When the kernel's answer is not understood.
    pub(crate) fn addresses_by_link(&mut self) -> Result<Vec<(u32, IpNet)>> {
        let all = self.dump(message::dump_addresses, reply::parse_address)?;
        Ok(all.into_iter().map(|address| (address.ifindex, address.net)).collect())
    }

    /// The number of the link that the first default route leaves by, IPv4 before IPv6.
    ///
    /// # Errors
    /// When the kernel's answer is not understood.
    pub(crate) fn uplink(&mut self) -> Result<Option<u32>> {
        for family in [RtAddrFamily::Inet, RtAddrFamily::Inet6] {
            let found = self.dump(
                || message::dump_routes(family),
                |payload| {
                    let attributes = payload.get(12..).unwrap_or_default();
                    let oif = value(attributes, Rta::Oif).and_then(number);
                    Ok(routes::parse_default_route(payload)?.and(oif))
                },
            )?;
            if let Some(&first) = found.first() {
                return Ok(Some(first));
            }
        }
        Ok(None)
    }
}

/// Whether the payload of an `RTM_NEWLINK` (`struct ifinfomsg`) has `IFLA_CARRIER` 1.
fn has_carrier(payload: &[u8]) -> bool {
    value(payload.get(16..).unwrap_or_default(), Ifla::Carrier) == Some(&[1])
}

/// Whether the kernel can make links of type `kind` (`IFLA_INFO_KIND`). It is asked for one on nothing in a namespace
/// that is thrown away: a type that it does not know is refused as not supported, others for what is missing.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn can_make(kind: &str) -> Result<bool> {
    NetnsFile::thrown_away(|| {
        let answers = Socket::open()?.transact(vec![message::create_on_nothing(kind)?])?;
        Ok(answers.iter().flatten().all(|refusal| refusal.errno != libc::EOPNOTSUPP))
    })
}

/// The release of the running kernel (uname(2)).
///
/// # Errors
/// When /proc does not tell.
pub(crate) fn release() -> Result<String> {
    let path = "/proc/sys/kernel/osrelease";
    let text = fs::read_to_string(path).map_err(|error| Error::io("read", path.as_ref(), &error))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carriers() {
        let head = [0; 16];
        // IFLA_CARRIER (33).
        let carrier = |on: u8| [5, 0, 33, 0, on, 0, 0, 0];
        assert!(has_carrier(&[&head[..], &carrier(1)].concat()));
        assert!(!has_carrier(&[&head[..], &carrier(0)].concat()));
        assert!(!has_carrier(&head[..3]));
    }
}
