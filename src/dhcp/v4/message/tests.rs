//! Messages as bytes, and as another implementation reads and writes them.

use dhcproto::v4::{self as theirs, DhcpOption, Flags, HType, Opcode, OptionCode, fqdn};
use dhcproto::{Decodable, Decoder, Encodable, Encoder, Name};
use ipnet::Ipv4Net;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn full() -> Message {
    let name = |text: &str| text.parse::<DomainName>().unwrap();
    Message {
        secs: 3,
        broadcast: true,
        ciaddr: ip("10.0.0.4"),
        yiaddr: ip("10.0.0.5"),
        client_id: Some(ClientId::mac(MAC)),
        server: Some(ip("10.0.0.1")),
        requested: Some(ip("10.0.0.6")),
        lease_time: Some(3600),
        t1: Some(1800),
        t2: Some(3150),
        rapid_commit: true,
        parameters: vec![1, 121, 3],
        max_size: Some(1472),
        vendor_class: Some("underlay".to_owned()),
        host_name: Some(name("web")),
        fqdn: Some(Fqdn { name: name("web.example.com"), server_updates: true }),
        error_text: Some("no".to_owned()),
        prefix_len: Some(24),
        routers: vec![ip("10.0.0.1"), ip("10.0.0.2")],
        classless_routes: Some(vec![ClasslessRoute {
            to: "10.9.0.0/16".parse().unwrap(),
            router: ip("10.0.0.3"),
        }]),
        mtu: Some(1400),
        dns: vec![ip("10.0.0.1")],
        domain: Some(name("example.com")),
        search: vec![name("example.com"), name("example.org")],
        ntp: vec![ip("10.0.0.1")],
        ..Message::new(Kind::Ack, 0x0102_0304, MAC)
    }
}

/// The message by the fields' places (RFC 2131, figure 1).
#[test]
fn fields_have_their_places() {
    let bytes = full().encode();
    assert_eq!(&bytes[..4], [2, 1, 6, 0], "op, htype, hlen, hops");
    assert_eq!(&bytes[4..8], [1, 2, 3, 4], "xid");
    assert_eq!(&bytes[8..12], [0, 3, 0x80, 0], "secs, flags: the reserved ones are 0");
    assert_eq!(&bytes[12..20], [10, 0, 0, 4, 10, 0, 0, 5], "ciaddr, yiaddr");
    assert_eq!(bytes[20..28], [0; 8], "siaddr, giaddr");
    assert_eq!(&bytes[28..44], [2, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "chaddr");
    assert_eq!(bytes[44..236], [0; 192], "sname, file");
    assert_eq!(&bytes[236..243], [99, 130, 83, 99, 53, 1, 5], "cookie, type");
}

#[test]
fn the_shortest_message_has_300_bytes_and_an_end() {
    let bytes = Message::new(Kind::Release, 7, MAC).encode();
    assert_eq!((bytes.len(), bytes[0], bytes[10]), (300, 1, 0));
    assert_eq!(&bytes[240..244], [53, 1, 7, 255]);
    assert_eq!(bytes[244..], [0; 56]);
    assert_eq!(full().encode().last(), Some(&255));
}

#[test]
fn read_as_written() {
    let full = full();
    assert_eq!(Message::parse(&full.encode()), Ok(full.clone()));
    for kind in Kind::ALL {
        let message = Message::new(kind, 7, MAC);
        assert_eq!(Message::parse(&message.encode()), Ok(message));
    }
    // Cut short, it is read as far as whole options go, or refused.
    let bytes = full.encode();
    for length in 0..bytes.len() {
        let read = Message::parse(&bytes[..length]);
        assert!(read.is_err() || length > 242, "{length}");
    }
}

/// A message with these bytes for options.
fn with_options(kind: u8, options: &[u8]) -> Vec<u8> {
    let mut bytes = Message::new(Kind::Ack, 7, MAC).encode();
    bytes.truncate(240);
    bytes.extend([&[53, 1, kind], options, &[255]].concat());
    bytes
}

#[test]
fn what_is_no_message_of_a_server_is_refused() {
    assert!(Message::parse(&with_options(5, &[])).is_ok());
    // op, htype, hlen, cookie: a server's answer has op 2.
    for (place, value) in [(0, 1), (0, 0), (1, 6), (2, 16), (236, 0)] {
        let mut bytes = with_options(5, &[]);
        bytes[place] = value;
        assert!(Message::parse(&bytes).is_err(), "{place}");
    }
    for kind in [0, 1, 3, 9, 255] {
        assert!(Message::parse(&with_options(kind, &[])).is_err(), "type {kind} with op 2");
    }
    let mut bootp = with_options(5, &[]);
    bootp.drain(240..243);
    assert!(Message::parse(&bootp).is_err(), "no type");
}

#[test]
fn options_that_leases_depend_on_are_right_or_the_message_is_refused() {
    for options in [
        &[1, 3, 255, 255, 255][..],
        &[1, 4, 255, 0, 255, 0],
        &[51, 2, 0, 1],
        &[54, 0],
        &[54, 5, 10, 0, 0, 1, 2],
        &[58, 3, 0, 0, 1],
        &[59, 5, 0, 0, 0, 0, 1],
        &[61, 1, 255],
        &[50, 1, 10],
        &[12, 200, b'a'],
    ] {
        assert!(Message::parse(&with_options(5, options)).is_err(), "{options:?}");
    }
}

#[test]
fn other_options_that_make_no_sense_are_as_if_not_there() {
    let options = [
        &[99, 2, 1, 2][..],
        &[98, 0],
        &[3, 3, 10, 0, 0],
        &[6, 0],
        &[12, 3, b'a', b' ', b'b'],
        &[15, 2, b'.', b'.'],
        &[26, 1, 5],
        &[42, 5, 10, 0, 0, 1, 9],
        &[56, 1, 0],
        &[81, 2, 4, 0],
        &[119, 2, 0xc0, 0],
        &[121, 3, 24, 10, 0],
    ]
    .concat();
    assert_eq!(Message::parse(&with_options(5, &options)), Ok(Message::new(Kind::Ack, 7, MAC)));
}

#[test]
fn search_domains_in_two_parts_with_compression() {
    let options =
        [&[119, 5, 3, b'e', b'n', b'g', 1][..], &[3, 1, 9], &[119, 7, b'x', 0, 2, b'm', b'k', 0xc0, 4]]
            .concat();
    let bytes = [&options[..2], &options[2..10], &options[10..]].concat();
    let message = Message::parse(&with_options(5, &bytes)).unwrap();
    let names: Vec<_> = message.search.iter().map(DomainName::as_str).collect();
    assert_eq!(names, ["eng.x", "mk.x"]);
}

#[test]
fn options_spill_over_into_file_and_sname() {
    let mut bytes = with_options(5, &[52, 1, 3, 6, 4, 10, 0, 0, 1]);
    bytes[44..54].copy_from_slice(&[26, 2, 5, 120, 6, 2, 0, 3, 255, 7]);
    bytes[108..118].copy_from_slice(&[51, 4, 0, 0, 14, 16, 6, 2, 10, 0]);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.lease_time, message.mtu), (Some(3600), Some(1400)));
    assert_eq!(message.dns, [ip("10.0.0.1"), ip("10.0.0.3")], "in parts, file before sname");
    bytes[242] = 6;
    bytes[245] = 0;
    assert_eq!(Message::parse(&bytes).unwrap().lease_time, None, "they are names there");
}

#[test]
fn a_name_in_the_old_form_without_wire_format() {
    let message = Message::parse(&with_options(5, &[81, 6, 0, 0, 0, b'w', b'e', b'b'])).unwrap();
    assert_eq!(message.fqdn, Some(Fqdn { name: "web".parse().unwrap(), server_updates: false }));
}

macro_rules! captured {
    ($name:literal) => {
        Message::parse(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/dhcp4/", $name)))
            .unwrap()
    };
}

/// As dnsmasq 2.90, Kea 2.2, ISC dhcpd 4.4.3 and busybox udhcpd 1.35 answer.
#[test]
fn answers_of_four_servers() {
    let servers = [
        ("dnsmasq", captured!("dnsmasq-offer"), captured!("dnsmasq-ack"), captured!("dnsmasq-nak")),
        ("kea", captured!("kea-offer"), captured!("kea-ack"), captured!("kea-nak")),
        ("isc", captured!("isc-offer"), captured!("isc-ack"), captured!("isc-nak")),
        ("udhcpd", captured!("udhcpd-offer"), captured!("udhcpd-ack"), captured!("udhcpd-nak")),
    ];
    for (name, offer, ack, nak) in servers {
        assert_eq!([offer.kind, ack.kind, nak.kind], [Kind::Offer, Kind::Ack, Kind::Nak], "{name}");
        for message in [offer, ack] {
            assert_eq!((message.chaddr, message.server), (MAC, Some(ip("10.0.0.1"))), "{name}");
            assert_eq!((message.lease_time, message.prefix_len), (Some(3600), Some(24)), "{name}");
            assert_eq!((message.search.len(), message.mtu), (2, Some(1400)), "{name}");
            assert_eq!(message.dns.first(), Some(&ip("10.0.0.1")), "{name}");
            assert_eq!(message.domain.as_ref().map(DomainName::as_str), Some("example.com"), "{name}");
            // Only dnsmasq sends the times, and only Kea repeats the client id.
            assert_eq!((message.t1.is_some(), message.t2.is_some()), (name == "dnsmasq", name == "dnsmasq"));
            assert_eq!(message.client_id.is_some(), name == "kea", "{name}");
        }
        assert_eq!((nak.server, nak.lease_time), (Some(ip("10.0.0.1")), None), "{name}");
    }
    assert!(captured!("dnsmasq-rapid-ack").rapid_commit);
    assert_eq!(captured!("dnsmasq-rapid-ack").classless_routes.unwrap().len(), 2);
    let long = captured!("isc-ack-long");
    assert_eq!((long.classless_routes.unwrap().len(), long.dns.len()), (59, 29), "an option in two parts");
}

/// The same message as dhcproto has it.
fn as_theirs(message: &Message) -> theirs::Message {
    let kind = match message.kind {
        Kind::Discover => theirs::MessageType::Discover,
        Kind::Offer => theirs::MessageType::Offer,
        Kind::Request => theirs::MessageType::Request,
        Kind::Decline => theirs::MessageType::Decline,
        Kind::Ack => theirs::MessageType::Ack,
        Kind::Nak => theirs::MessageType::Nak,
        Kind::Release => theirs::MessageType::Release,
        Kind::Inform => theirs::MessageType::Inform,
    };
    let name = |name: &DomainName| Name::from_ascii(format!("{name}.")).unwrap();
    let text = |name: &DomainName| name.to_string();
    let list = |list: &[Ipv4Addr]| Some(list.to_vec()).filter(|list| !list.is_empty());
    let fqdn = |own: &Fqdn| {
        let flags = fqdn::FqdnFlags::default().set_e(true).set_s(own.server_updates);
        let mut fqdn = fqdn::ClientFQDN::new(flags, name(&own.name));
        fqdn.set_r1(0).set_r2(0);
        fqdn
    };
    let routes = |routes: &Vec<ClasslessRoute>| routes.iter().map(|route| (route.to, route.router)).collect();
    let mask = |length| Ipv4Net::new(Ipv4Addr::UNSPECIFIED, length).unwrap().netmask();
    let options = [
        Some(DhcpOption::MessageType(kind)),
        message.client_id.as_ref().map(|id| DhcpOption::ClientIdentifier(id.bytes().to_vec())),
        message.server.map(DhcpOption::ServerIdentifier),
        message.requested.map(DhcpOption::RequestedIpAddress),
        message.lease_time.map(DhcpOption::AddressLeaseTime),
        message.t1.map(DhcpOption::Renewal),
        message.t2.map(DhcpOption::Rebinding),
        message.rapid_commit.then_some(DhcpOption::RapidCommit),
        Some(message.parameters.iter().map(|&code| OptionCode::from(code)).collect())
            .filter(|codes: &Vec<_>| !codes.is_empty())
            .map(DhcpOption::ParameterRequestList),
        message.max_size.map(DhcpOption::MaxMessageSize),
        message.vendor_class.clone().map(|class| DhcpOption::ClassIdentifier(class.into_bytes())),
        message.host_name.as_ref().map(text).map(DhcpOption::Hostname),
        message.fqdn.as_ref().map(fqdn).map(DhcpOption::ClientFQDN),
        message.error_text.clone().map(DhcpOption::Message),
        message.prefix_len.map(mask).map(DhcpOption::SubnetMask),
        list(&message.routers).map(DhcpOption::Router),
        message.classless_routes.as_ref().map(routes).map(DhcpOption::ClasslessStaticRoute),
        message.mtu.map(DhcpOption::InterfaceMtu),
        list(&message.dns).map(DhcpOption::DomainNameServer),
        message.domain.as_ref().map(text).map(DhcpOption::DomainName),
        Some(message.search.iter().map(name).collect())
            .filter(|names: &Vec<_>| !names.is_empty())
            .map(DhcpOption::DomainSearch),
        list(&message.ntp).map(DhcpOption::NtpServers),
    ];
    let mut theirs = theirs::Message::default();
    theirs
        .set_opcode(if message.kind.op() == 2 { Opcode::BootReply } else { Opcode::BootRequest })
        .set_htype(HType::Eth)
        .set_xid(message.xid)
        .set_secs(message.secs)
        .set_flags(if message.broadcast { Flags::default().set_broadcast() } else { Flags::default() })
        .set_ciaddr(message.ciaddr)
        .set_yiaddr(message.yiaddr)
        .set_chaddr(&message.chaddr.0);
    options.into_iter().flatten().for_each(|option| {
        theirs.opts_mut().insert(option);
    });
    theirs
}

/// Both read what either writes.
fn compare(message: &Message) {
    let theirs = as_theirs(message);
    let read = theirs::Message::decode(&mut Decoder::new(&message.encode())).unwrap();
    assert_eq!((read.hlen(), read.chaddr(), read.hops()), (6, &message.chaddr.0[..], 0));
    assert_eq!((read.opcode(), read.htype(), read.xid()), (theirs.opcode(), theirs.htype(), theirs.xid()));
    assert_eq!((read.secs(), read.flags()), (theirs.secs(), theirs.flags()));
    assert_eq!((read.ciaddr(), read.yiaddr()), (theirs.ciaddr(), theirs.yiaddr()));
    assert_eq!((read.siaddr(), read.giaddr()), (theirs.siaddr(), theirs.giaddr()));
    let options = |message: &theirs::Message| {
        let mut options: Vec<_> = message.opts().iter().map(|(_, option)| option.clone()).collect();
        options.sort_by_key(|option| u8::from(OptionCode::from(option)));
        options.retain(|option| !matches!(option, DhcpOption::End | DhcpOption::Pad));
        options
    };
    assert_eq!(options(&read), options(&theirs));
    let mut bytes = Vec::new();
    theirs.encode(&mut Encoder::new(&mut bytes)).unwrap();
    assert_eq!(Message::parse(&bytes).as_ref(), Ok(message));
}

#[test]
fn another_implementation_reads_and_writes_the_same() {
    compare(&full());
    for kind in Kind::ALL {
        compare(&Message::new(kind, 7, MAC));
    }
}

fn any_name() -> impl Strategy<Value = DomainName> {
    "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,4}".prop_map(|name| name.parse().unwrap())
}

fn any_address() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn any_route() -> impl Strategy<Value = ClasslessRoute> {
    let net = (any_address(), 0..=32_u8)
        .prop_map(|(address, length)| Ipv4Net::new(address, length).unwrap().trunc());
    (net, any_address()).prop_map(|(to, router)| ClasslessRoute { to, router })
}

prop_compose! {
    fn any_message()(
        kind in 0..8_usize,
        (xid, secs, broadcast, rapid_commit) in any::<(u32, u16, bool, bool)>(),
        (ciaddr, yiaddr, chaddr) in (any_address(), any_address(), any::<[u8; 6]>()),
        (server, requested) in (of(any_address()), of(any_address())),
        (lease_time, t1, t2, mtu, max_size) in any::<(Option<u32>, Option<u32>, Option<u32>, Option<u16>, Option<u16>)>(),
        client_id in of(vec(any::<u8>(), 2..200)),
        parameters in vec(1..255_u8, 0..20),
        (vendor_class, error_text) in (of("[a-zA-Z0-9 ]{1,80}"), of("[a-zA-Z0-9 ]{1,80}")),
        (host_name, domain, search) in (of(any_name()), of(any_name()), vec(any_name(), 0..8)),
        fqdn in of((any_name(), any::<bool>())),
        prefix_len in of(0..=32_u8),
        (routers, dns, ntp) in (vec(any_address(), 0..4), vec(any_address(), 0..80), vec(any_address(), 0..4)),
        classless_routes in of(vec(any_route(), 1..60)),
    ) -> Message {
        let client_id = client_id.map(|id| ClientId::try_from(id).unwrap());
        let fqdn = fqdn.map(|(name, server_updates)| Fqdn { name, server_updates });
        Message {
            secs, broadcast, rapid_commit, ciaddr, yiaddr, server, requested, lease_time, t1, t2, mtu, max_size, client_id,
            parameters, vendor_class, error_text, host_name, domain, search, fqdn, prefix_len, routers, dns, ntp,
            classless_routes, ..Message::new(Kind::ALL[kind], xid, MacAddr(chaddr))
        }
    }
}

proptest! {
    #[test]
    fn any_message_as_others_have_it(message in any_message()) {
        compare(&message);
    }

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..400), options in vec(any::<u8>(), 0..200)) {
        let _ = Message::parse(&bytes);
        let _ = Message::parse(&with_options(5, &options));
    }
}
