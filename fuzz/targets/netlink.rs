//! Fuzz targets of what is private in `src/netlink`; see [`crate::fuzz`].

use super::message::{self, Message};
use super::neighbours;
use super::reply::{self, Content, Refusal};
use super::routes;
use super::unicast_routes;
use crate::error::Result;
use crate::ledger::attached::Attached;
use crate::net::seal::Alias;
use crate::plan::persistent::Persistent;

/// A datagram from the kernel. Its promise: whatever is in it, each message is taken by its own length, so that none is read
/// as a part of another, and each payload is parsed or refused.
pub(crate) fn fuzz(datagram: &[u8]) {
    let mut whole = true;
    let mut count = 0;
    for reply in reply::replies(datagram) {
        assert!(whole, "nothing is read behind a message that is cut short");
        count += 1;
        match reply.map(|reply| reply.content) {
            Ok(Content::Payload(payload)) => read_payload(payload),
            Ok(Content::Answer(Some(Refusal { errno, text }))) => {
                assert!(errno > 0, "a refusal has a reason");
                assert!(text.is_none_or(|text| !text.contains('\0')));
            }
            Ok(Content::Answer(None) | Content::Done) => {}
            Err(_) => whole = false,
        }
    }
    assert!(count <= datagram.len().div_ceil(16));
    // A message that follows is not lost: neli skips the attributes of an acknowledgement, and reads on inside of it.
    if whole && datagram.len() % 4 == 0 {
        let mut longer = datagram.to_vec();
        longer.extend(acknowledgement(7));
        let replies: Vec<_> = reply::replies(&longer).collect();
        let last = replies.last().and_then(|reply| reply.as_ref().ok());
        assert!(
            last.is_some_and(|reply| reply.sequence == 7 && matches!(reply.content, Content::Answer(None)))
        );
        assert_eq!(replies.len(), count + 1);
    }
    // Payloads without a header too, which the fuzzer would have to find first.
    read_payload(datagram);
}

/// Parses a payload as each of the types that it may have.
fn read_payload(payload: &[u8]) {
    if let Some(link) = reply::parse_link(payload) {
        // A byte that is not UTF-8 becomes a character of three bytes.
        let texts = [Some(&link.name), link.kind.as_ref(), link.slave_kind.as_ref(), link.alias.as_ref()];
        assert!(
            texts.into_iter().flatten().all(|text| !text.contains('\0') && text.len() <= 3 * payload.len())
        );
        if let Some(Ok(alias)) = link.alias.map(|alias| alias.parse::<Alias>()) {
            assert_eq!(alias.to_string().parse(), Ok(alias));
        }
    }
    let _ = reply::parse_address(payload);
    let _ = routes::parse_route(payload);
    let _ = routes::parse_rule(payload);
    let _ = unicast_routes::parse(payload);
    let _ = reply::parse_nsid(payload);
    let _ = routes::parse_default_route(payload);
    let _ = routes::is_local_route(payload);
    let _ = neighbours::parse(payload);
}

/// The kernel's acknowledgement (`NLMSG_ERROR` with error 0) of message number `sequence`, which had no payload.
fn acknowledgement(sequence: u32) -> Vec<u8> {
    const NLM_F_CAPPED: u16 = 0x100;
    let header = |length: u32, kind: u16, flags: u16| {
        let [kind, flags] = [kind, flags].map(u16::to_ne_bytes);
        [&length.to_ne_bytes()[..], &kind, &flags, &sequence.to_ne_bytes(), &[0; 4]].concat()
    };
    [header(36, 2, NLM_F_CAPPED), vec![0; 4], header(16, 16, 5)].concat()
}

/// The requests that `attached` leads to, as far as they need no namespace.
pub(crate) fn fuzz_messages(attached: &Attached, alias: &str) {
    let ifindex = attached.ifindex.unwrap_or(1);
    well_formed(message::set_up(ifindex, alias));
    well_formed(message::rename_link(ifindex, &attached.ifname));
    well_formed(message::delete_link(ifindex, None));
    for &address in &attached.addresses {
        well_formed(message::add_address(ifindex, address, None));
        let lifetime = crate::dhcp::times::Lifetime { preferred: ifindex, valid: ifindex };
        well_formed(message::renew_address(ifindex, address, Some(lifetime)));
    }
    attached.routes.iter().for_each(|&route| well_formed(message::add_route(ifindex, route, None)));
    for lasting in attached.lasting() {
        match lasting {
            Persistent::Rule { from, table } => {
                well_formed(message::add_rule(from, table));
                well_formed(message::delete_rule(from, table));
            }
            Persistent::Route { route, table } => well_formed(message::delete_route(None, route, table)),
        }
    }
}

/// A message that can be written has its length in its header.
fn well_formed(message: Result<Message>) {
    let Ok(message) = message else { return };
    let bytes = message.numbered(1);
    let length = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize);
    assert_eq!(length, Some(bytes.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! datagram {
        ($name:literal) => {
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/netlink/", $name))
        };
    }

    /// What each message of `datagram` says, in a word.
    fn words(datagram: &[u8]) -> Vec<String> {
        let word = |reply: Result<reply::Reply<'_>>| match reply.map(|reply| reply.content) {
            Ok(Content::Payload(payload)) => match reply::parse_link(payload) {
                Some(link) => format!("{} {}", link.kind.unwrap_or_default(), link.name),
                None => "no link".to_owned(),
            },
            Ok(Content::Answer(None)) => "yes".to_owned(),
            Ok(Content::Answer(Some(refusal))) => refusal.to_string(),
            Ok(Content::Done) => "done".to_owned(),
            Err(error) => error.to_string(),
        };
        reply::replies(datagram).map(word).collect()
    }

    /// neli 0.7 takes the first for a failure, and loses what follows it.
    #[test]
    fn a_yes_with_a_warning_is_a_yes() {
        assert_eq!(words(datagram!("ack-with-warning-capped")), ["yes"]);
        assert_eq!(words(datagram!("ack-with-warning-whole")), ["yes"]);
        assert_eq!(words(datagram!("ack-with-warning-then-ack")), ["yes", "yes"]);
        assert_eq!(words(datagram!("ack-with-warning-then-link")), ["yes", "macvlan eth0"]);
    }

    #[test]
    fn answers_of_a_kernel() {
        assert_eq!(words(datagram!("newlink-host-dump")), [" lo", "dummy eth0"]);
        assert_eq!(words(datagram!("newlink-vlan-marked")), ["vlan eth0.50"]);
        assert_eq!(words(datagram!("ack")), ["yes"]);
        assert_eq!(words(datagram!("done")), ["done"]);
        let exists = "File exists (os error 17)";
        assert_eq!(words(datagram!("error-exists")), [exists]);
        assert_eq!(
            words(datagram!("error-vlan-exists")),
            [format!("8021q: VLAN device already exists: {exists}")]
        );
    }

    #[test]
    fn what_no_kernel_says() {
        let garbled = ["a netlink message is cut short or garbled"];
        assert_eq!(words(datagram!("done-with-least-errno")), garbled);
        assert_eq!(words(datagram!("error-least-errno")), garbled);
        assert_eq!(words(datagram!("error-positive-errno")), garbled);
        assert_eq!(words(datagram!("length-15")), garbled);
        assert_eq!(words(datagram!("length-max")), garbled);
        assert_eq!(words(datagram!("done-with-error")), ["Device or resource busy (os error 16)"]);
    }
}
