//! Messages byte by byte, as linux/netlink.h and linux/rtnetlink.h draw them.

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn addresses() {
    // struct ifaddrmsg: family, prefix length, flags (IFA_F_PERMANENT is 0x80), scope, ifindex.
    let v4 = [2, 24, 0x80, 0, 7, 0, 0, 0];
    let attribute = |kind: u8, last: u8| [8, 0, kind, 0, 10, 0, 0, last];
    let parsed = |bytes: &[&[u8]]| parse_address(&bytes.concat());
    let found = Address { ifindex: 7, net: net("10.0.0.9/24"), permanent: true };
    assert_eq!(parsed(&[&v4, &attribute(1, 9)]), Some(found));
    assert_eq!(parsed(&[&v4, &attribute(1, 1), &attribute(2, 9)]), Some(found), "the local one");
    let v6 = [10, 64, 0, 0, 7, 0, 0, 0, 20, 0, 1, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let found = Address { ifindex: 7, net: net("fe80::1/64"), permanent: false };
    assert_eq!(parsed(&[&v6]), Some(found));
    for garbled in [
        &v4[..],
        &v4[..7],
        &[],
        &[&v4[..], &[4, 0, 1, 0]].concat(),
        &[&v4[..], &[0, 0, 1, 0, 10, 0, 0, 9]].concat(),
        &[&v4[..], &[9, 0, 1, 0, 10, 0, 0, 9]].concat(),
        &[&[2, 33, 0, 0, 7, 0, 0, 0], &attribute(1, 9)[..]].concat(),
    ] {
        assert_eq!(parse_address(garbled), None, "{garbled:?}");
    }
}

#[test]
fn numbers_of_namespaces() {
    let nsid = |number: i32| [&[0, 0, 0, 0, 8, 0, 1, 0][..], &number.to_ne_bytes()].concat();
    assert_eq!(parse_nsid(&nsid(0)), Some(0));
    assert_eq!(parse_nsid(&nsid(3)), Some(3));
    for unknown in [nsid(-1), nsid(0)[..11].to_vec(), vec![0; 4], vec![]] {
        assert_eq!(parse_nsid(&unknown), None, "{unknown:?}");
    }
}

#[test]
fn links_below() {
    // IFLA_LINK is 5, IFLA_LINK_NETNSID 37.
    let link = [8, 0, 5, 0, 4, 0, 0, 0];
    let below = |attributes: &[u8]| {
        let link = parse_link(&[&[0; 16], attributes].concat()).unwrap();
        (link.lower, link.elsewhere.map(|link| (link.ifindex, link.nsid)))
    };
    assert_eq!(below(&[]), (None, None));
    assert_eq!(below(&link), (Some(4), None));
    assert_eq!(below(&[&link[..], &[8, 0, 37, 0, 2, 0, 0, 0]].concat()), (None, Some((4, 2))));
    assert_eq!(below(&[&link[..], &[4, 0, 37, 0]].concat()), (None, Some((4, -1))));
}

#[test]
fn carriers() {
    // IFLA_CARRIER (33).
    let carrier = |on: u8| parse_link(&[&[0; 16][..], &[5, 0, 33, 0, on, 0, 0, 0]].concat()).unwrap().carrier;
    assert!(carrier(1) && !carrier(0));
    assert_eq!(parse_link(&[0; 3]), None);
    assert!(!parse_link(&[0; 16]).unwrap().carrier);
}

/// `struct nlmsghdr` and what follows: length, type, flags, sequence, port.
fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let length = 16 + payload.len() as u32;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes()].concat();
    bytes.extend([sequence.to_ne_bytes(), 9_u32.to_ne_bytes()].concat());
    bytes.extend(payload);
    bytes
}

/// Of linux/netlink.h and linux/rtnetlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const NLM_F_MULTI: u16 = 2;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

/// What was changed while it was listed is not whole: links may be missing, or be there twice.
#[test]
fn dumps_that_were_disturbed() {
    for (flags, disturbed) in [
        (NLM_F_MULTI, false),
        (NLM_F_MULTI | NLM_F_DUMP_INTR, true),
        (NLM_F_DUMP_INTR, true),
        (!NLM_F_DUMP_INTR, false),
    ] {
        for kind in [RTM_NEWLINK, NLMSG_DONE] {
            let bytes = message(kind, flags, 7, &[0; 4]);
            let all: Vec<_> = replies(&bytes).map(Result::unwrap).collect();
            assert_eq!(all.len(), 1);
            assert_eq!((all[0].disturbed, all[0].sequence), (disturbed, 7), "{kind} {flags:#x}");
        }
    }
}

/// What a message says, for people.
fn said(bytes: &[u8]) -> String {
    let say = |reply: Result<Reply<'_>>| match reply {
        Ok(Reply { sequence, content: Content::Payload(payload), .. }) => {
            format!("{sequence} {payload:?}")
        }
        Ok(Reply { sequence, content: Content::Answer(None), .. }) => format!("{sequence} yes"),
        Ok(Reply { sequence, content: Content::Answer(Some(no)), .. }) => format!("{sequence} no: {no}"),
        Ok(Reply { sequence, content: Content::Done, .. }) => format!("{sequence} done"),
        Err(error) => error.to_string(),
    };
    replies(bytes).map(say).collect::<Vec<_>>().join("; ")
}

#[test]
fn answers() {
    const GARBLED: &str = "a netlink message is cut short or garbled";
    let refused = |errno: i32| (-errno).to_ne_bytes();
    // The refusal repeats the request: 16 bytes of header, here with 8 of payload.
    let request = message(RTM_NEWLINK, 0, 7, &[1; 8]);
    // NLMSGERR_ATTR_MSG is 1.
    let text = [&[9, 0, 1, 0][..], b"busy\0", &[0; 3]].concat();
    let eexist = "File exists (os error 17)";
    let error = |flags, payload: &[&[u8]]| message(NLMSG_ERROR, flags, 7, &payload.concat());
    for (bytes, expected) in [
        (message(RTM_NEWLINK, 0, 7, &[5, 6, 0, 0]), "7 [5, 6, 0, 0]".to_owned()),
        (message(NLMSG_DONE, NLM_F_MULTI, 7, &refused(0)), "7 done".to_owned()),
        (message(NLMSG_DONE, NLM_F_MULTI, 7, &[]), "7 done".to_owned()),
        (message(NLMSG_DONE, NLM_F_MULTI, 7, &refused(17)), format!("7 no: {eexist}")),
        (error(0, &[&refused(0), &request]), "7 yes".to_owned()),
        (error(0, &[&refused(17), &request]), format!("7 no: {eexist}")),
        (error(NLM_F_ACK_TLVS, &[&refused(17), &request, &text]), format!("7 no: busy: {eexist}")),
        (
            error(NLM_F_ACK_TLVS | NLM_F_CAPPED, &[&refused(17), &request[..16], &text]),
            format!("7 no: busy: {eexist}"),
        ),
        // Without the flag what follows is no attribute.
        (error(NLM_F_CAPPED, &[&refused(17), &request[..16], &text]), format!("7 no: {eexist}")),
        // A warning that comes with a yes.
        (error(NLM_F_ACK_TLVS | NLM_F_CAPPED, &[&refused(0), &request[..16], &text]), "7 yes".to_owned()),
        (error(0, &[&refused(-17), &request]), GARBLED.to_owned()),
        (error(0, &[&i32::MIN.to_ne_bytes(), &request]), GARBLED.to_owned()),
        (error(0, &[&refused(17)]), GARBLED.to_owned()),
        (message(RTM_NEWLINK, 0, 7, &[0; 4])[..19].to_vec(), GARBLED.to_owned()),
        (vec![15, 0, 0, 0], GARBLED.to_owned()),
        (vec![], String::new()),
    ] {
        assert_eq!(said(&bytes), expected, "{bytes:?}");
    }
    let two =
        [message(RTM_NEWLINK, 0, 7, &[1, 2, 3, 4, 5]), vec![0; 3], message(NLMSG_DONE, 0, 7, &[])].concat();
    assert_eq!(said(&two), "7 [1, 2, 3, 4, 5]; 7 done", "each begins at a multiple of four");
}

/// `IFLA_LINKINFO` (18) of `kind` with `data`.
fn link_of(kind: &str, data: &[u8]) -> Link {
    let attribute = |number: u16, value: &[u8]| {
        let length = 4 + value.len();
        let mut bytes = [&(length as u16).to_ne_bytes()[..], &number.to_ne_bytes(), value].concat();
        bytes.resize(length.next_multiple_of(4), 0);
        bytes
    };
    // IFLA_INFO_KIND is 1, IFLA_INFO_DATA 2.
    let info = [attribute(1, format!("{kind}\0").as_bytes()), attribute(2, data)].concat();
    parse_link(&[&[0; 16][..], &attribute(18, &info)].concat()).unwrap()
}

/// The id is a number of the host's, the protocol one of the network's (`htons` of an EtherType).
#[test]
fn vlans() {
    let data = |id: u16, protocol: [u8; 2]| {
        let id = id.to_ne_bytes();
        // IFLA_VLAN_ID is 1, IFLA_VLAN_PROTOCOL 5.
        vec![6, 0, 1, 0, id[0], id[1], 0, 0, 6, 0, 5, 0, protocol[0], protocol[1], 0, 0]
    };
    for (protocol, expected) in [
        ([0x81, 0x00], Some(VlanProtocol::Dot1q)),
        ([0x88, 0xa8], Some(VlanProtocol::Dot1ad)),
        ([0x00, 0x81], None),
        ([0xa8, 0x88], None),
        ([0x91, 0x00], None),
    ] {
        let link = link_of("vlan", &data(258, protocol));
        assert_eq!((link.vlan_id, link.vlan_protocol), (Some(258), expected), "{protocol:?}");
    }
    let other = link_of("vxlan", &data(258, [0x81, 0x00]));
    assert_eq!((other.vlan_id, other.vlan_protocol), (None, None), "its attributes are others");
    let bare = link_of("vlan", &[]);
    assert_eq!((bare.kind.as_deref(), bare.vlan_id, bare.vlan_protocol), (Some("vlan"), None, None));
}

/// `struct ifinfomsg`: family, padding, type (ARPHRD_*), ifindex, flags (IFF_*), change.
#[test]
fn what_a_link_is() {
    let link = |kind: u16, flags: u32| {
        let header = [&[0, 0][..], &kind.to_ne_bytes(), &7_u32.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]];
        parse_link(&header.concat()).unwrap()
    };
    // ARPHRD_ETHER is 1, ARPHRD_LOOPBACK 772; IFF_UP is 1, IFF_LOOPBACK 8.
    let ethernet = link(1, 1);
    assert!(ethernet.ethernet && ethernet.up && !ethernet.loopback && ethernet.ifindex == 7);
    let loopback = link(772, 9);
    assert!(!loopback.ethernet && loopback.up && loopback.loopback);
    assert!(!link(1, !1).up && !link(1, !8).loopback);
    assert_eq!(parse_link(&[0; 15]), None);
}
