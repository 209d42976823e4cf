//! What a DHCPv6 server gives a client, as the ledger has it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::dhcp::client_id::{Duid, Iaid};
use crate::dhcp::domain_name::DomainName;
use crate::dhcp::times::{FOR_EVER, Times};
use crate::dhcp::v6::message::{Ia, IaAddress, Message};
use crate::dhcp::v6::status::Status;
use crate::net::special_purpose::not_for_hosts;

const MOST_SERVERS: usize = 8;

/// A lease of one address, with all that is needed to renew it and to give it back. Prefix and routes are told by routers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lease {
    pub server: Duid,
    /// The identity under which the server knows the client, and which of its links this is.
    pub client: Duid,
    pub iaid: Iaid,
    pub address: Ipv6Addr,
    /// The seconds, from when it was asked for, in which new connections should be made with the address.
    pub preferred: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv6Addr>,
    /// The domains in which names are looked up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<DomainName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ntp: Vec<Ipv6Addr>,
    pub times: Times,
}

/// Why an answer is no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// The server says why.
    Status(Status),
    NoAddress,
    /// No host can have this address.
    Address(Ipv6Addr),
}

impl Lease {
    /// The lease that `server` gives by `message` to the link `iaid` of `client`, which asked for it at `asked`. If there are
    /// several addresses, it is `wanted`, else the first that is usable.
    pub(crate) fn of(
        message: &Message,
        server: &Duid,
        (client, iaid): (&Duid, Iaid),
        wanted: Option<Ipv6Addr>,
        asked: Duration,
    ) -> Result<Self, Flaw> {
        let ia = own(message, iaid);
        if let Some(status) = failure(message, ia) {
            return Err(Flaw::Status(status.clone()));
        }
        let ia = ia.filter(|ia| ia.t1 <= ia.t2 || ia.t2 == 0).ok_or(Flaw::NoAddress)?;
        let has_time = |address: &&IaAddress| address.valid > 0 && address.preferred <= address.valid;
        let usable = ia.addresses.iter().filter(has_time).filter(|address| is_host(address.address));
        let mut usable: Vec<_> = usable.collect();
        usable.sort_by_key(|address| Some(address.address) != wanted);
        let Some(&&IaAddress { address, preferred, valid }) = usable.first() else {
            let first = ia.addresses.iter().find(has_time);
            return Err(first.map_or(Flaw::NoAddress, |first| Flaw::Address(first.address)));
        };
        let whole =
            Duration::from_secs(if matches!(preferred, 0 | FOR_EVER) { valid } else { preferred }.into());
        Ok(Self {
            server: server.clone(),
            client: client.clone(),
            iaid,
            address,
            preferred,
            dns: servers(&message.dns),
            search: message.search.clone(),
            ntp: servers(&message.ntp),
            times: Times::new(asked, valid, (ia.t1, whole / 2), (ia.t2, whole * 4 / 5)),
        })
    }

    /// The full seconds that are left in which the address is preferred, as the kernel takes them.
    pub(crate) fn preferred_seconds_left(&self, now: Duration) -> u32 {
        if self.preferred == FOR_EVER {
            return FOR_EVER;
        }
        let end = self.times.obtained.saturating_add(Duration::from_secs(self.preferred.into()));
        u32::try_from(end.saturating_sub(now).as_secs()).unwrap_or(FOR_EVER - 1)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::NoAddress => f.write_str("it gives no address"),
            Self::Address(address) => write!(f, "no host can have its address {address}"),
        }
    }
}

/// The part of `message` that is about the link `iaid`.
pub(super) fn own(message: &Message, iaid: Iaid) -> Option<&Ia> {
    message.ia.iter().find(|ia| ia.iaid == iaid)
}

/// The status, if the server has not done what it was asked for.
pub(super) fn failure<'a>(message: &'a Message, ia: Option<&'a Ia>) -> Option<&'a Status> {
    let mut statuses = [message.status.as_ref(), ia.and_then(|ia| ia.status.as_ref())].into_iter().flatten();
    statuses.find(|status| status.code != Status::SUCCESS)
}

fn servers(addresses: &[Ipv6Addr]) -> Vec<Ipv6Addr> {
    let is_usable = |address: &Ipv6Addr| not_for_hosts(IpNet::from(IpAddr::V6(*address))).is_none();
    addresses.iter().copied().filter(is_usable).take(MOST_SERVERS).collect()
}

/// Whether a server can give `address`: hosts make those of the link alone themselves.
fn is_host(address: Ipv6Addr) -> bool {
    not_for_hosts(IpNet::from(IpAddr::V6(address))).is_none() && !address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::v6::message::Kind;

    const IAID: Iaid = Iaid(7);

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn duid() -> Duid {
        Duid::try_from(vec![0, 4, 9]).unwrap()
    }

    fn reply(t1: u32, t2: u32, addresses: &[(&str, u32, u32)]) -> Message {
        let address =
            |&(text, preferred, valid): &(&str, u32, u32)| IaAddress { address: ip(text), preferred, valid };
        let addresses = addresses.iter().map(address).collect();
        Message {
            ia: vec![Ia { iaid: IAID, t1, t2, addresses, status: None }],
            ..Message::new(Kind::Reply, 1)
        }
    }

    fn lease(message: &Message) -> Result<Lease, Flaw> {
        let wanted = Some(ip("2001:db8::7"));
        Lease::of(message, &duid(), (&duid(), IAID), wanted, Duration::from_secs(100))
    }

    fn times(message: &Message) -> [u64; 3] {
        let limits = lease(message).unwrap().times.limits.unwrap();
        [limits.t1, limits.t2, limits.expiry].map(|time| time.as_secs() - 100)
    }

    #[test]
    fn times_that_are_left_to_the_client() {
        let address = "2001:db8::5";
        assert_eq!(times(&reply(0, 0, &[(address, 1000, 2000)])), [500, 800, 2000]);
        assert_eq!(times(&reply(300, 600, &[(address, 1000, 2000)])), [300, 600, 2000]);
        assert_eq!(times(&reply(0, 600, &[(address, 1000, 2000)])), [500, 600, 2000]);
        assert_eq!(
            times(&reply(0, 0, &[(address, 0, 2000)])),
            [1000, 1600, 2000],
            "deprecated from the beginning"
        );
        assert_eq!(times(&reply(FOR_EVER, FOR_EVER, &[(address, 1000, 2000)])), [500, 800, 2000]);
        let for_ever = lease(&reply(0, 0, &[(address, FOR_EVER, FOR_EVER)])).unwrap();
        assert_eq!(for_ever.times.limits, None);
        assert_eq!(for_ever.preferred_seconds_left(Duration::from_secs(1 << 40)), FOR_EVER);
        let lease = lease(&reply(0, 0, &[(address, 1000, 2000)])).unwrap();
        let left = [100, 101, 1100, 9999].map(|now| lease.preferred_seconds_left(Duration::from_secs(now)));
        assert_eq!(left, [1000, 999, 0, 0]);
    }

    #[test]
    fn one_address_is_taken() {
        let many = [("2001:db8::5", 10, 20), ("2001:db8::7", 10, 20)];
        assert_eq!(lease(&reply(0, 0, &many)).unwrap().address, ip("2001:db8::7"), "the one that it had");
        let odd =
            [("fe80::1", 10, 20), ("2001:db8::7", 0, 0), ("2001:db8::9", 30, 20), ("2001:db8::5", 10, 20)];
        assert_eq!(lease(&reply(0, 0, &odd)).unwrap().address, ip("2001:db8::5"));
    }

    #[test]
    fn what_is_no_lease() {
        assert_eq!(lease(&Message::new(Kind::Reply, 1)), Err(Flaw::NoAddress));
        assert_eq!(lease(&reply(0, 0, &[])), Err(Flaw::NoAddress));
        assert_eq!(lease(&reply(0, 0, &[("2001:db8::5", 0, 0)])), Err(Flaw::NoAddress));
        assert_eq!(lease(&reply(9, 8, &[("2001:db8::5", 10, 20)])), Err(Flaw::NoAddress), "T1 behind T2");
        for address in ["::", "::1", "ff02::1", "fe80::5"] {
            assert_eq!(lease(&reply(0, 0, &[(address, 10, 20)])), Err(Flaw::Address(ip(address))));
        }
        let status = |code| Status { code, text: "sorry".to_owned() };
        let mut message = reply(0, 0, &[("2001:db8::5", 10, 20)]);
        message.ia[0].status = Some(status(Status::NO_ADDRESSES));
        let flaw = lease(&message).unwrap_err();
        assert_eq!(flaw.to_string(), "no address is free: \"sorry\"");
        message.ia[0].status = Some(status(Status::SUCCESS));
        assert!(lease(&message).is_ok());
        message.status = Some(status(1));
        assert_eq!(lease(&message), Err(Flaw::Status(status(1))));
        message.status = None;
        message.ia[0].iaid = Iaid(8);
        assert_eq!(lease(&message), Err(Flaw::NoAddress), "another link's");
    }

    #[test]
    fn read_as_written() {
        let full = Message {
            dns: vec![ip("2001:db8::1"); 100],
            search: vec!["example.com".parse().unwrap()],
            ntp: vec![ip("2001:db8::2")],
            ..reply(0, 0, &[("2001:db8::5", 10, 20)])
        };
        let lease = lease(&full).unwrap();
        assert_eq!(lease.dns.len(), MOST_SERVERS);
        let text = serde_json::to_string(&lease).unwrap();
        assert_eq!(serde_json::from_str::<Lease>(&text).unwrap(), lease, "{text}");
    }
}
