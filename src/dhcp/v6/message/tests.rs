//! Messages as bytes, and as another implementation reads and writes them.

use dhcproto::v6::{self as theirs, DhcpOption, NtpSuboption, OptionCode, UnknownOption};
use dhcproto::{Decodable, Decoder, Encodable, Encoder, Name};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn full() -> Message {
    let name = |text: &str| text.parse::<DomainName>().unwrap();
    let address = |text: &str| IaAddress { address: ip(text), preferred: 1800, valid: 3600 };
    let ia = Ia {
        iaid: Iaid(7),
        t1: 900,
        t2: 1440,
        addresses: vec![address("2001:db8::5"), address("2001:db8::6")],
        status: Some(Status { code: 0, text: "welcome".to_owned() }),
    };
    Message {
        client: Some(Duid::try_from(vec![0, 4, 1, 2]).unwrap()),
        server: Some(Duid::try_from(vec![0, 3, 0, 1, 2]).unwrap()),
        ia: vec![ia.clone(), Ia { iaid: Iaid(8), addresses: Vec::new(), status: None, ..ia }],
        preference: 255,
        elapsed: Some(150),
        requested: vec![23, 24, 82],
        rapid_commit: true,
        status: Some(Status { code: 2, text: String::new() }),
        fqdn: Some(Fqdn { name: name("web.example.com"), server_updates: true }),
        dns: vec![ip("2001:db8::1"), ip("2001:db8::2")],
        search: vec![name("example.com"), name("example.org")],
        ntp: vec![ip("2001:db8::3")],
        sol_max_rt: Some(600),
        ..Message::new(Kind::Reply, 0x01_0203)
    }
}

#[test]
fn fields_have_their_places() {
    let message = Message { elapsed: Some(1), ..Message::new(Kind::Solicit, 0xff01_0203) };
    assert_eq!(message.encode(), [1, 1, 2, 3, 0, 8, 0, 2, 0, 1], "a number of 24 bits");
    assert_eq!(full().encode()[..4], [7, 1, 2, 3]);
}

#[test]
fn read_as_written() {
    let full = full();
    assert_eq!(Message::parse(&full.encode()), Ok(full.clone()));
    for kind in Kind::ALL {
        let message = Message::new(kind, 7);
        assert_eq!(Message::parse(&message.encode()), Ok(message));
    }
    let bytes = full.encode();
    let whole = (0..bytes.len()).filter(|&length| Message::parse(&bytes[..length]).is_ok());
    assert!(whole.count() < 15, "between options alone");
}

#[test]
fn what_is_no_message_of_a_server_is_refused() {
    for kind in [0, 10, 11, 12, 13, 255] {
        assert!(Message::parse(&[kind, 0, 0, 1]).is_err(), "{kind}");
    }
    for options in [
        &[0, 1, 0, 2, 0, 4][..],
        &[0, 2, 0, 0],
        &[0, 3, 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 13, 0, 1, 0],
        &[0, 23, 0, 16, 0],
    ] {
        assert!(Message::parse(&[&[7, 0, 0, 1], options].concat()).is_err(), "{options:?}");
    }
}

#[test]
fn other_options_that_make_no_sense_are_as_if_not_there() {
    let options = [
        &[0, 23, 0, 1, 9][..],
        &[0, 24, 0, 2, 0xc0, 0],
        &[0, 31, 0, 1, 9],
        &[0, 39, 0, 1, 0],
        &[0, 56, 0, 1, 9],
        &[0, 82, 0, 1, 9],
        &[0, 7, 0, 0],
        &[0, 8, 0, 1, 9],
        &[9, 9, 0, 0],
    ]
    .concat();
    assert_eq!(Message::parse(&[&[7, 0, 0, 1], &options[..]].concat()), Ok(Message::new(Kind::Reply, 1)));
}

macro_rules! captured {
    ($name:literal) => {
        Message::parse(include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/dhcp6/", $name)))
            .unwrap()
    };
}

/// As dnsmasq 2.90, Kea 2.2 and ISC dhcpd 4.4.3 answer.
#[test]
fn answers_of_three_servers() {
    let advertises = [captured!("dnsmasq-advertise"), captured!("kea-advertise"), captured!("isc-advertise")];
    for message in advertises {
        assert_eq!((message.kind, message.ia.len(), message.ia[0].addresses.len()), (Kind::Advertise, 1, 1));
        assert!(
            message.server.is_some() && !message.dns.is_empty() && message.search.len() == 2,
            "{message:?}"
        );
    }
    let rapid = [captured!("dnsmasq-rapid"), captured!("kea-rapid"), captured!("isc-rapid")];
    let kinds = rapid.map(|message| (message.kind, message.rapid_commit));
    assert_eq!(kinds, [(Kind::Reply, true), (Kind::Reply, true), (Kind::Advertise, false)]);
    let code = |message: Message| {
        let status = message.status.or(message.ia.first().and_then(|ia| ia.status.clone()));
        status.map(|status| status.code)
    };
    let codes = |messages: [Message; 3]| messages.map(code);
    assert_eq!(
        codes([captured!("dnsmasq-not-on-link"), captured!("kea-not-on-link"), captured!("isc-not-on-link")]),
        [Some(Status::NOT_ON_LINK); 3]
    );
    assert_eq!(
        codes([captured!("dnsmasq-confirmed"), captured!("kea-confirmed"), captured!("isc-confirmed")]),
        [Some(Status::SUCCESS); 3]
    );
    assert_eq!(code(captured!("kea-no-addresses")), Some(Status::NO_ADDRESSES));
}

/// The same message as dhcproto has it.
fn as_theirs(message: &Message) -> theirs::Message {
    let name = |name: &DomainName| Name::from_ascii(format!("{name}.")).unwrap();
    let status = |status: &Status| {
        DhcpOption::StatusCode(theirs::StatusCode { status: status.code.into(), msg: status.text.clone() })
    };
    let address = |address: &IaAddress| {
        DhcpOption::IAAddr(theirs::IAAddr {
            addr: address.address,
            preferred_life: address.preferred,
            valid_life: address.valid,
            opts: theirs::DhcpOptions::default(),
        })
    };
    let ia = |ia: &Ia| {
        let opts = ia.addresses.iter().map(address).chain(ia.status.as_ref().map(status)).collect();
        DhcpOption::IANA(theirs::IANA { id: ia.iaid.0, t1: ia.t1, t2: ia.t2, opts })
    };
    let unknown = |code: OptionCode, data: Vec<u8>| DhcpOption::Unknown(UnknownOption::new(code, data));
    let list = |list: &[Ipv6Addr]| Some(list.to_vec()).filter(|list| !list.is_empty());
    let options = [
        message.client.as_ref().map(|id| DhcpOption::ClientId(id.bytes().to_vec())),
        message.server.as_ref().map(|id| DhcpOption::ServerId(id.bytes().to_vec())),
        (message.preference > 0).then_some(DhcpOption::Preference(message.preference)),
        message.elapsed.map(DhcpOption::ElapsedTime),
        Some(message.requested.iter().map(|&code| OptionCode::from(code)).collect())
            .filter(|codes: &Vec<_>| !codes.is_empty())
            .map(|opts| DhcpOption::ORO(theirs::ORO { opts })),
        message.rapid_commit.then_some(DhcpOption::RapidCommit),
        message.status.as_ref().map(status),
        message.fqdn.as_ref().map(|fqdn| unknown(OptionCode::ClientFqdn, write_fqdn(fqdn))),
        list(&message.dns).map(DhcpOption::DomainNameServers),
        Some(message.search.iter().map(name).collect())
            .filter(|names: &Vec<_>| !names.is_empty())
            .map(DhcpOption::DomainSearchList),
        list(&message.ntp)
            .map(|ntp| DhcpOption::NtpServer(ntp.into_iter().map(NtpSuboption::ServerAddress).collect())),
        message.sol_max_rt.map(|seconds| unknown(OptionCode::SolMaxRt, seconds.to_be_bytes().to_vec())),
    ];
    let mut theirs = theirs::Message::new(theirs::MessageType::from(message.kind as u8));
    theirs.set_xid_num(message.xid);
    theirs.set_opts(message.ia.iter().map(ia).chain(options.into_iter().flatten()).collect());
    theirs
}

/// Both read what either writes.
fn compare(message: &Message) {
    let theirs = as_theirs(message);
    let read = theirs::Message::decode(&mut Decoder::new(&message.encode())).unwrap();
    assert_eq!((read.msg_type(), read.xid()), (theirs.msg_type(), theirs.xid()));
    assert_eq!(read.opts(), theirs.opts());
    let mut bytes = Vec::new();
    theirs.encode(&mut Encoder::new(&mut bytes)).unwrap();
    assert_eq!(Message::parse(&bytes).as_ref(), Ok(message));
}

#[test]
fn another_implementation_reads_and_writes_the_same() {
    compare(&full());
    for kind in Kind::ALL {
        compare(&Message::new(kind, 7));
    }
}

fn any_name() -> impl Strategy<Value = DomainName> {
    "[a-z0-9]{1,20}(\\.[a-z0-9]{1,20}){0,4}".prop_map(|name| name.parse().unwrap())
}

/// No group: dhcproto has those among NTP servers apart.
fn any_address() -> impl Strategy<Value = Ipv6Addr> {
    any::<u128>().prop_map(|bits| Ipv6Addr::from(bits >> 8))
}

fn any_duid() -> impl Strategy<Value = Duid> {
    vec(any::<u8>(), 3..130).prop_map(|bytes| Duid::try_from(bytes).unwrap())
}

fn any_status() -> impl Strategy<Value = Status> {
    (any::<u16>(), "[a-zA-Z ]{0,40}").prop_map(|(code, text)| Status { code, text })
}

prop_compose! {
    fn any_ia()(
        (iaid, t1, t2) in any::<(u32, u32, u32)>(),
        addresses in vec((any_address(), any::<u32>(), any::<u32>()), 0..4),
        status in of(any_status()),
    ) -> Ia {
        let address = |(address, preferred, valid)| IaAddress { address, preferred, valid };
        Ia { iaid: Iaid(iaid), t1, t2, addresses: addresses.into_iter().map(address).collect(), status }
    }
}

prop_compose! {
    fn any_message()(
        (kind, xid) in (0..9_usize, any::<u32>()),
        (client, server) in (of(any_duid()), of(any_duid())),
        ia in vec(any_ia(), 0..3),
        (preference, elapsed, rapid_commit, sol_max_rt) in any::<(u8, Option<u16>, bool, Option<u32>)>(),
        requested in vec(any::<u16>(), 0..10),
        status in of(any_status()),
        (search, fqdn) in (vec(any_name(), 0..8), of((any_name(), any::<bool>()))),
        (dns, ntp) in (vec(any_address(), 0..4), vec(any_address(), 0..4)),
    ) -> Message {
        let fqdn = fqdn.map(|(name, server_updates)| Fqdn { name, server_updates });
        Message {
            client, server, ia, preference, elapsed, requested, rapid_commit, status, fqdn, dns, search, ntp, sol_max_rt,
            ..Message::new(Kind::ALL[kind], xid)
        }
    }
}

proptest! {
    #[test]
    fn any_message_as_others_have_it(message in any_message()) {
        compare(&message);
    }

    #[test]
    fn any_bytes(kind in 0..12_u8, bytes in vec(any::<u8>(), 0..400)) {
        let _ = Message::parse(&[&[kind], &bytes[..]].concat());
    }
}
