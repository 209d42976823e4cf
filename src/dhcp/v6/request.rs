//! The messages that a DHCPv6 client sends, and what each holds (RFC 8415, 18.2 and appendix B).

use std::net::Ipv6Addr;

use crate::dhcp::client_id::{Duid, Iaid};
use crate::dhcp::domain_name::Fqdn;
use crate::dhcp::v6::lease::Lease;
use crate::dhcp::v6::message::{Ia, IaAddress, Kind, Message};
use crate::dhcp::v6::options;

/// What servers are asked for. Every client has to ask for the last one (RFC 8415, 21.7).
const REQUESTED: [u16; 5] = [options::DNS, options::SEARCH, options::SNTP, options::NTP, options::SOL_MAX_RT];

/// What a client is, and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub duid: Duid,
    /// Which of the links of `duid` it is.
    pub iaid: Iaid,
    pub fqdn: Option<Fqdn>,
    /// The address that the identity had.
    pub address: Option<Ipv6Addr>,
    /// The server that gave it.
    pub server: Option<Duid>,
    /// Whether servers are asked to give a lease at once.
    pub rapid_commit: bool,
}

impl Config {
    /// Asks which servers there are.
    pub(super) fn solicit(&self, xid: u32, elapsed: u16) -> Message {
        Message { rapid_commit: self.rapid_commit, ..self.ask(Kind::Solicit, xid, elapsed, self.address) }
    }

    /// Takes the offer `lease`.
    pub(super) fn request(&self, xid: u32, elapsed: u16, lease: &Lease) -> Message {
        self.to_server(Kind::Request, xid, elapsed, lease)
    }

    /// Asks the server that gave `lease` to renew it.
    pub(super) fn renew(&self, xid: u32, elapsed: u16, lease: &Lease) -> Message {
        self.to_server(Kind::Renew, xid, elapsed, lease)
    }

    /// Asks all servers to renew `lease`.
    pub(super) fn rebind(&self, xid: u32, elapsed: u16, lease: &Lease) -> Message {
        self.ask(Kind::Rebind, xid, elapsed, Some(lease.address))
    }

    fn to_server(&self, kind: Kind, xid: u32, elapsed: u16, lease: &Lease) -> Message {
        Message { server: Some(lease.server.clone()), ..self.ask(kind, xid, elapsed, Some(lease.address)) }
    }

    fn ask(&self, kind: Kind, xid: u32, elapsed: u16, address: Option<Ipv6Addr>) -> Message {
        // What is sent is asked for too (RFC 4704, section 5).
        let requested = REQUESTED.into_iter().chain(self.fqdn.as_ref().map(|_| options::FQDN));
        Message {
            requested: requested.collect(),
            fqdn: self.fqdn.clone(),
            ..about(kind, xid, elapsed, (&self.duid, self.iaid), address)
        }
    }
}

/// Asks whether the address of `lease` belongs to the link.
pub(super) fn confirm(xid: u32, elapsed: u16, lease: &Lease) -> Message {
    about(Kind::Confirm, xid, elapsed, (&lease.client, lease.iaid), Some(lease.address))
}

/// Gives `lease` back.
pub(crate) fn release(lease: &Lease, xid: u32) -> Message {
    end(Kind::Release, lease, xid)
}

/// Tells the server of `lease` that another host has its address.
pub(super) fn decline(lease: &Lease, xid: u32) -> Message {
    end(Kind::Decline, lease, xid)
}

fn end(kind: Kind, lease: &Lease, xid: u32) -> Message {
    let message = about(kind, xid, 0, (&lease.client, lease.iaid), Some(lease.address));
    Message { server: Some(lease.server.clone()), ..message }
}

/// What every message has. Its times are 0, because the server sets them.
fn about(
    kind: Kind,
    xid: u32,
    elapsed: u16,
    (duid, iaid): (&Duid, Iaid),
    address: Option<Ipv6Addr>,
) -> Message {
    let addresses =
        address.map(|address| IaAddress { address, preferred: 0, valid: 0 }).into_iter().collect();
    let ia = Ia { iaid, t1: 0, t2: 0, addresses, status: None };
    Message { client: Some(duid.clone()), ia: vec![ia], elapsed: Some(elapsed), ..Message::new(kind, xid) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn config() -> Config {
        let fqdn = Fqdn { name: "web.example.com".parse().unwrap(), server_updates: true };
        Config {
            duid: Duid::try_from(vec![0, 4, 1]).unwrap(),
            iaid: Iaid(7),
            fqdn: Some(fqdn),
            address: None,
            server: None,
            rapid_commit: true,
        }
    }

    fn all() -> [(&'static str, Message); 8] {
        let config = config();
        let address = IaAddress { address: "2001:db8::5".parse().unwrap(), preferred: 10, valid: 20 };
        let ia = Ia { iaid: config.iaid, t1: 0, t2: 0, addresses: vec![address], status: None };
        let reply = Message { ia: vec![ia], ..Message::new(Kind::Reply, 1) };
        let server = Duid::try_from(vec![0, 3, 2]).unwrap();
        let lease = Lease::of(&reply, &server, (&config.duid, config.iaid), None, Duration::ZERO).unwrap();
        [
            ("solicit", config.solicit(1, 5)),
            ("solicit with a hint", Config { address: Some(lease.address), ..config.clone() }.solicit(1, 5)),
            ("request", config.request(1, 5, &lease)),
            ("confirm", confirm(1, 5, &lease)),
            ("renew", config.renew(1, 5, &lease)),
            ("rebind", config.rebind(1, 5, &lease)),
            ("release", release(&lease, 1)),
            ("decline", decline(&lease, 1)),
        ]
    }

    /// RFC 8415, 18.2 and appendix B: client, server, address, elapsed time, options that are asked for, name, rapid commit.
    #[test]
    fn what_each_message_holds() {
        let rows = all().map(|(name, message)| {
            assert_eq!((&message.client, message.ia.len()), (&Some(config().duid), 1), "{name}");
            assert_eq!(
                (message.ia[0].iaid, message.ia[0].t1, message.ia[0].t2),
                (config().iaid, 0, 0),
                "{name}"
            );
            let columns = [
                ("server", message.server.is_some()),
                ("address", !message.ia[0].addresses.is_empty()),
                ("elapsed", message.elapsed.is_some()),
                ("options", message.requested == [23, 24, 31, 56, 82, 39]),
                ("name", message.fqdn.is_some()),
                ("rapid", message.rapid_commit),
            ];
            let columns = columns.into_iter().filter(|(_, has)| *has).map(|(column, _)| column);
            format!("{name}: {}", columns.collect::<Vec<_>>().join(" "))
        });
        assert_eq!(
            rows,
            [
                "solicit: elapsed options name rapid",
                "solicit with a hint: address elapsed options name rapid",
                "request: server address elapsed options name",
                "confirm: address elapsed",
                "renew: server address elapsed options name",
                "rebind: address elapsed options name",
                "release: server address elapsed",
                "decline: server address elapsed",
            ]
        );
        let unnamed = Config { fqdn: None, ..config() }.solicit(1, 5);
        assert_eq!((unnamed.requested, unnamed.fqdn), (vec![23, 24, 31, 56, 82], None));
    }
}
