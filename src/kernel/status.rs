//! The host's links and the kernel itself, as commands for people show them. No hook needs this.

use std::fs;

use ipnet::IpNet;
use neli::consts::rtnl::Ifla;
use nix::libc;

use super::netns::NetnsFile;
use crate::error::{Error, Result};
use crate::net::link::HostLinkInfo;
use crate::netlink::Socket;
use crate::netlink::attr::Attributes;
use crate::netlink::message;
use crate::netlink::reply;
use crate::netlink::routes;

impl Socket {
    /// Returns all links, and whether they are connected.
    pub(crate) fn host_links(&mut self) -> Result<Vec<HostLinkInfo>> {
        self.dump(message::dump_links, |payload| {
            Some(HostLinkInfo { link: reply::parse_link(payload)?, carrier: has_carrier(payload) })
        })
    }

    /// Returns the addresses of all links, each with the number of its link.
    pub(crate) fn addresses_by_link(&mut self) -> Result<Vec<(u32, IpNet)>> {
        let all = self.dump(message::dump_addresses, reply::parse_address)?;
        Ok(all.into_iter().map(|address| (address.ifindex, address.net)).collect())
    }

    /// Returns the number of the link of the first default route, IPv4 before IPv6.
    pub(crate) fn uplink(&mut self) -> Result<Option<u32>> {
        let found = self.dump_both(message::dump_routes, routes::parse_default_route)?;
        Ok(found.into_iter().flatten().next())
    }
}

/// Returns true if the payload of `RTM_NEWLINK` (`struct ifinfomsg`) has `IFLA_CARRIER` 1.
fn has_carrier(payload: &[u8]) -> bool {
    Attributes::after::<16>(payload).is_some_and(|(_, all)| all.value(Ifla::Carrier) == Some(&[1]))
}

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
