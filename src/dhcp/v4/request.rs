//! The messages that a DHCPv4 client sends: what each holds, and where it goes (RFC 2131, 4.4 and table 5).

use std::net::Ipv4Addr;

use crate::dhcp::client_id::ClientId;
use crate::dhcp::domain_name::{DomainName, Fqdn};
use crate::dhcp::v4::lease::Lease;
use crate::dhcp::v4::message::{Kind, Message};
use crate::dhcp::v4::options;
use crate::dhcp::v4::outcome::{Outgoing, Sharer};
use crate::net::mac::MacAddr;

/// What servers are asked for, classless routes before routers (RFC 3442, page 4).
const PARAMETERS: [u8; 14] = [
    options::SUBNET_MASK,
    options::CLASSLESS_ROUTES,
    options::ROUTERS,
    options::DNS,
    options::HOST_NAME,
    options::DOMAIN,
    options::MTU,
    options::BROADCAST_ADDRESS,
    options::NTP,
    options::LEASE_TIME,
    options::SERVER_ID,
    options::RENEWAL_TIME,
    options::REBINDING_TIME,
    options::SEARCH,
];
/// What fits into one packet of an Ethernet.
const MAX_SIZE: u16 = 1472;

/// What a client is, and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// The MAC address of its link.
    pub mac: MacAddr,
    pub client_id: ClientId,
    /// Not sent if there is an `fqdn` (RFC 4702, 3.1).
    pub host_name: Option<DomainName>,
    pub fqdn: Option<Fqdn>,
    pub vendor_class: Option<String>,
    /// The servers that are allowed; all if empty.
    pub servers: Vec<Ipv4Addr>,
    /// The address that the identity had, which it would like again.
    pub address: Option<Ipv4Addr>,
    /// The server that gave it.
    pub server: Option<Ipv4Addr>,
    /// Whether the link hears broadcasts alone as long as it has no address (ipvlan).
    pub broadcast: bool,
    /// Whether servers are asked to give a lease at once (RFC 4039).
    pub rapid_commit: bool,
    /// The addresses that the client must not take: what has the MAC address of its link, too, has them.
    pub taken: Vec<(Ipv4Addr, Sharer)>,
}

impl Config {
    /// What all messages that ask for something have. `ciaddr` is the address that the client has, `0.0.0.0` if none.
    fn message(&self, kind: Kind, xid: u32, secs: u16, ciaddr: Ipv4Addr) -> Message {
        Message {
            secs,
            // To a client that has an address servers send to this address.
            broadcast: self.broadcast && ciaddr.is_unspecified(),
            ciaddr,
            client_id: Some(self.client_id.clone()),
            parameters: PARAMETERS.to_vec(),
            max_size: Some(MAX_SIZE),
            vendor_class: self.vendor_class.clone(),
            host_name: self.host_name.clone().filter(|_| self.fqdn.is_none()),
            fqdn: self.fqdn.clone(),
            ..Message::new(kind, xid, self.mac)
        }
    }

    /// INIT: asks which servers there are.
    pub(super) fn discover(&self, xid: u32, secs: u16) -> Outgoing {
        let message = self.message(Kind::Discover, xid, secs, Ipv4Addr::UNSPECIFIED);
        broadcast(Message { requested: self.address, rapid_commit: self.rapid_commit, ..message })
    }

    /// SELECTING: takes the offer `lease`.
    pub(super) fn select(&self, xid: u32, secs: u16, offer: &Lease) -> Outgoing {
        let message = self.message(Kind::Request, xid, secs, Ipv4Addr::UNSPECIFIED);
        broadcast(Message { server: Some(offer.server), requested: Some(offer.address.addr()), ..message })
    }

    /// INIT-REBOOT: asks whether `lease` still holds.
    pub(super) fn reboot(&self, xid: u32, secs: u16, lease: &Lease) -> Outgoing {
        let message = self.message(Kind::Request, xid, secs, Ipv4Addr::UNSPECIFIED);
        broadcast(Message { requested: Some(lease.address.addr()), ..message })
    }

    /// RENEWING: asks the server that gave `lease`.
    pub(super) fn renew(&self, xid: u32, secs: u16, lease: &Lease) -> Outgoing {
        let address = lease.address.addr();
        let message = self.message(Kind::Request, xid, secs, address);
        Outgoing { message, from: address, to: lease.server }
    }

    /// REBINDING: asks all servers.
    pub(super) fn rebind(&self, xid: u32, secs: u16, lease: &Lease) -> Outgoing {
        Outgoing { to: Ipv4Addr::BROADCAST, ..self.renew(xid, secs, lease) }
    }
}

/// Gives `lease` back.
pub(crate) fn release(lease: &Lease, xid: u32) -> Outgoing {
    let address = lease.address.addr();
    let message = Message { ciaddr: address, ..end(Kind::Release, lease, xid) };
    Outgoing { message, from: address, to: lease.server }
}

/// Tells the server of `lease` that another host has its address.
pub(super) fn decline(lease: &Lease, xid: u32) -> Outgoing {
    broadcast(Message { requested: Some(lease.address.addr()), ..end(Kind::Decline, lease, xid) })
}

fn end(kind: Kind, lease: &Lease, xid: u32) -> Message {
    let (server, client_id) = (Some(lease.server), Some(lease.client_id.clone()));
    Message { server, client_id, ..Message::new(kind, xid, lease.mac) }
}

fn broadcast(message: Message) -> Outgoing {
    Outgoing { message, from: Ipv4Addr::UNSPECIFIED, to: Ipv4Addr::BROADCAST }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn config() -> Config {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        Config {
            mac,
            client_id: ClientId::mac(mac),
            host_name: Some("web".parse().unwrap()),
            fqdn: None,
            vendor_class: Some("underlay".to_owned()),
            servers: Vec::new(),
            address: None,
            server: None,
            broadcast: true,
            rapid_commit: false,
            taken: Vec::new(),
        }
    }

    fn lease() -> Lease {
        let config = config();
        let ack = Message {
            yiaddr: ADDRESS,
            server: Some(SERVER),
            lease_time: Some(3600),
            prefix_len: Some(24),
            ..Message::new(Kind::Ack, 7, config.mac)
        };
        Lease::of(&ack, &config.client_id, Duration::ZERO).unwrap()
    }

    fn all() -> [(&'static str, Outgoing); 7] {
        let (config, lease) = (config(), lease());
        [
            ("INIT", Config { address: Some(ADDRESS), ..config.clone() }.discover(7, 1)),
            ("SELECTING", config.select(7, 1, &lease)),
            ("INIT-REBOOT", config.reboot(7, 1, &lease)),
            ("RENEWING", config.renew(7, 1, &lease)),
            ("REBINDING", config.rebind(7, 1, &lease)),
            ("RELEASE", release(&lease, 7)),
            ("DECLINE", decline(&lease, 7)),
        ]
    }

    /// RFC 2131, table 4 and 4.4: kind, way, and whether there are server id, requested address and `ciaddr`.
    #[test]
    fn what_each_message_holds_and_where_it_goes() {
        let rows = all().map(|(state, out)| {
            let Outgoing { message, from, to } = out;
            let has = |is: bool| if is { "yes" } else { "no" };
            let columns = [
                message.server == Some(SERVER),
                message.requested == Some(ADDRESS),
                message.ciaddr == ADDRESS,
            ];
            let columns = columns.map(has).join(" ");
            format!("{state}: {:?} {from} → {to} {columns}", message.kind)
        });
        assert_eq!(
            rows,
            [
                "INIT: Discover 0.0.0.0 → 255.255.255.255 no yes no",
                "SELECTING: Request 0.0.0.0 → 255.255.255.255 yes yes no",
                "INIT-REBOOT: Request 0.0.0.0 → 255.255.255.255 no yes no",
                "RENEWING: Request 10.0.0.5 → 10.0.0.1 no no yes",
                "REBINDING: Request 10.0.0.5 → 255.255.255.255 no no yes",
                "RELEASE: Release 10.0.0.5 → 10.0.0.1 yes no yes",
                "DECLINE: Decline 0.0.0.0 → 255.255.255.255 yes yes no",
            ]
        );
        for (state, Outgoing { message, .. }) in all() {
            for address in [message.server, message.requested, Some(message.ciaddr)].into_iter().flatten() {
                assert!([SERVER, ADDRESS, Ipv4Addr::UNSPECIFIED].contains(&address), "{state}");
            }
        }
    }

    #[test]
    fn the_same_client_id_everywhere_and_the_same_parameters_in_all_that_ask() {
        for (state, Outgoing { message, .. }) in all() {
            assert_eq!(
                (message.client_id, message.chaddr),
                (Some(config().client_id), config().mac),
                "{state}"
            );
            // RFC 2131, table 5: what ends a lease asks for nothing, and has no name.
            let asks = !matches!(message.kind, Kind::Release | Kind::Decline);
            assert_eq!(message.parameters, if asks { PARAMETERS.to_vec() } else { Vec::new() }, "{state}");
            let others =
                [message.max_size.is_some(), message.vendor_class.is_some(), message.host_name.is_some()];
            assert_eq!(others, [asks; 3], "{state}");
        }
        let place = |code| PARAMETERS.iter().position(|&parameter| parameter == code);
        assert!(place(options::CLASSLESS_ROUTES) < place(options::ROUTERS), "RFC 3442");
    }

    #[test]
    fn the_broadcast_flag_only_where_there_is_no_address() {
        for (state, Outgoing { message, .. }) in all() {
            let wanted = matches!(state, "INIT" | "SELECTING" | "INIT-REBOOT");
            assert_eq!(message.broadcast, wanted, "{state}");
        }
        let macvlan = Config { broadcast: false, ..config() };
        assert!(!macvlan.discover(7, 1).message.broadcast);
    }

    #[test]
    fn a_full_name_is_instead_of_the_host_name() {
        let fqdn = Some(Fqdn { name: "web.example.com".parse().unwrap(), server_updates: true });
        let message = Config { fqdn: fqdn.clone(), ..config() }.discover(7, 1).message;
        assert_eq!((message.fqdn, message.host_name), (fqdn, None));
        let message = Config { host_name: None, ..config() }.discover(7, 1).message;
        assert_eq!((message.fqdn, message.host_name), (None, None));
    }
}
