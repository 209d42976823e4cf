//! Fuzz targets of DHCP: messages of servers, and the packets that hold them.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{read, round_trip};
use crate::dhcp::client_id::ClientId;
use crate::dhcp::v4::client::{Client, Event};
use crate::dhcp::v4::lease::Lease;
use crate::dhcp::v4::message::Message;
use crate::dhcp::v4::outcome::Effect;
use crate::dhcp::v4::request::Config;
use crate::dhcp::v4::udp::{self, Checksum};
use crate::dhcp::v6;
use crate::net::special_purpose::not_for_hosts;

/// A DHCPv4 message. Its promise: what is read can be written, and means the same; a lease is one that a host can have.
pub(super) fn v4(bytes: &[u8]) {
    let Some(message) = read(Message::parse(bytes), bytes) else { return };
    let written = message.encode();
    assert!(written.len() >= 300);
    assert_eq!(Message::parse(&written).as_ref(), Ok(&message), "it reads as it was written");
    let client_id = message.client_id.clone().unwrap_or(ClientId::mac(message.chaddr));
    if let Ok(lease) = Lease::of(&message, &client_id, Duration::ZERO) {
        let address = IpAddr::V4(lease.address.addr());
        assert!(not_for_hosts(IpNet::from(address)).is_none(), "{address}");
        let text = serde_json::to_vec(&lease).unwrap_or_default();
        assert_eq!(round_trip(&text), Some(lease));
    }
    // As an answer to what is asked, again and again.
    let config = Config {
        mac: message.chaddr,
        client_id,
        host_name: message.host_name.clone(),
        fqdn: message.fqdn.clone(),
        vendor_class: None,
        servers: Vec::new(),
        address: None,
        server: None,
        broadcast: false,
        rapid_commit: message.rapid_commit,
        taken: Vec::new(),
    };
    let mut client = Client::new(config, Duration::ZERO, None);
    let mut now = Duration::ZERO;
    let mut events = vec![Event::Timer];
    for _ in 0..8 {
        let Some(event) = events.pop() else { break };
        for effect in client.step(event, now, message.xid.into()) {
            match effect {
                Effect::Send(_) => events.push(Event::Received(message.clone())),
                Effect::Probe(address) => events.push(Event::Free(address)),
                Effect::Bound(_) => events.push(Event::Timer),
                Effect::Lost(_) => {}
                Effect::Failed(failure) => assert!(!failure.error().to_string().contains(char::is_control)),
            }
        }
        let deadline = client.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > now), "it never spins");
        now = deadline.unwrap_or(now);
    }
}

/// A DHCPv6 message. Its promise is that of [`v4`].
pub(super) fn v6(bytes: &[u8]) {
    let Some(message) = read(v6::message::Message::parse(bytes), bytes) else { return };
    let written = message.encode();
    assert_eq!(v6::message::Message::parse(&written).as_ref(), Ok(&message), "it reads as it was written");
    let (Some(duid), Some(ia)) = (message.client.clone(), message.ia.first()) else { return };
    let server = message.server.clone().unwrap_or(duid.clone());
    if let Ok(lease) = v6::lease::Lease::of(&message, &server, (&duid, ia.iaid), None, Duration::ZERO) {
        assert!(not_for_hosts(IpNet::from(IpAddr::V6(lease.address))).is_none(), "{}", lease.address);
        let text = serde_json::to_vec(&lease).unwrap_or_default();
        assert_eq!(round_trip(&text), Some(lease));
    }
    let config = v6::request::Config {
        duid,
        iaid: ia.iaid,
        fqdn: message.fqdn.clone(),
        address: None,
        server: message.server.clone(),
        rapid_commit: message.rapid_commit,
    };
    let mut client = v6::client::Client::new(config, Duration::ZERO, None);
    let mut now = Duration::ZERO;
    let mut events = vec![v6::client::Event::Timer];
    for _ in 0..8 {
        let Some(event) = events.pop() else { break };
        for effect in client.step(event, now, message.xid.into()) {
            match effect {
                v6::outcome::Effect::Send(_) => events.push(v6::client::Event::Received(message.clone())),
                v6::outcome::Effect::Probe(address) => events.push(v6::client::Event::Free(address)),
                v6::outcome::Effect::Bound(_) => events.push(v6::client::Event::Timer),
                v6::outcome::Effect::Lost(_) => {}
                v6::outcome::Effect::Failed(failure) => {
                    assert!(!failure.error().to_string().contains(char::is_control));
                }
            }
        }
        let deadline = client.deadline();
        assert!(deadline.is_none_or(|deadline| deadline > now), "it never spins");
        now = deadline.unwrap_or(now);
    }
}

/// An IPv4 packet. Its promise: a payload is told by the packet itself, not by what Ethernet fills it up with.
pub(super) fn v4_packet(bytes: &[u8]) {
    let strict = udp::read(bytes, Checksum::Ready);
    let lenient = udp::read(bytes, Checksum::NotReady);
    assert!(strict.is_none() || strict == lenient);
    let Some((server, payload)) = lenient else { return };
    assert!(payload.len() + 28 <= bytes.len());
    let padded = [bytes, &[0; 60]].concat();
    assert_eq!(udp::read(&padded, Checksum::NotReady), lenient);
    // What we send has the ports the other way round.
    let sent = udp::packet(server, server, payload);
    assert_eq!((sent.len(), udp::read(&sent, Checksum::Ready)), (payload.len() + 28, None));
    v4(payload);
}
