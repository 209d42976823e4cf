//! What each DHCP server knows of its leases, by its file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Kind;

/// A lease as its server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub address: Ipv4Addr,
    pub mac: String,
    /// Option 61, which udhcpd does not keep.
    pub client_id: Option<Vec<u8>>,
    /// Option 12.
    pub host_name: Option<String>,
}

/// Reads a file of leases: those that are not over, in the order of their addresses.
pub fn read(kind: Kind, file: &[u8]) -> Vec<Lease> {
    let text = String::from_utf8_lossy(file);
    let all = match kind {
        Kind::Dnsmasq => text.lines().map(dnsmasq).collect(),
        Kind::Kea => text.lines().skip(1).map(kea).collect(),
        Kind::Isc => isc(&text),
        Kind::Udhcpd => udhcpd(file),
    };
    // The last word about an address counts.
    let last: BTreeMap<_, _> = all.into_iter().map(|(lease, end)| (lease.address, (lease, end))).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    last.into_values().filter(|(_, end)| *end > now).map(|(lease, _)| lease).collect()
}

/// A lease and when it is over, in seconds since 1970.
type Known = (Lease, u64);

/// Bytes with colons between them, unless it is empty or stands for nothing.
fn bytes(text: &str) -> Option<Vec<u8>> {
    text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
}

fn name(text: &str) -> Option<String> {
    let text = text.trim_end_matches('.');
    (!["", "*"].contains(&text)).then(|| text.to_owned())
}

/// `END MAC ADDRESS NAME CLIENT-ID`.
fn dnsmasq(line: &str) -> Known {
    let words: Vec<_> = line.split(' ').collect();
    let &[end, mac, address, host_name, client_id] = &words[..] else { panic!("{line:?}") };
    let lease = Lease {
        address: address.parse().unwrap(),
        mac: mac.to_owned(),
        client_id: bytes(client_id),
        host_name: name(host_name),
    };
    (lease, end.parse().unwrap())
}

/// `address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,…`: a line for each change.
fn kea(line: &str) -> Known {
    let words: Vec<_> = line.split(',').collect();
    let &[address, mac, client_id, lifetime, end, _, _, _, host_name, state, ..] = &words[..] else {
        panic!("{line:?}")
    };
    let lease = Lease {
        address: address.parse().unwrap(),
        mac: mac.to_owned(),
        client_id: bytes(client_id),
        host_name: name(host_name),
    };
    // It was declined, or is over, or released.
    let is_over = state != "0" || lifetime == "0";
    (lease, if is_over { 0 } else { end.parse().unwrap() })
}

/// `lease ADDRESS { KEY VALUE; … }` for each change.
fn isc(text: &str) -> Vec<Known> {
    let mut all = Vec::new();
    for block in text.split("\nlease ").skip(1) {
        let (address, block) = block.split_once(" {").unwrap();
        let block = block.split("\n}").next().unwrap();
        let value = |key: &str| {
            let found = block.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(' '));
            found.map(|value| value.split(';').next().unwrap().trim_matches('"').to_owned())
        };
        let lease = Lease {
            address: address.parse().unwrap(),
            // What is abandoned has none.
            mac: value("hardware ethernet").unwrap_or_default(),
            client_id: value("uid").and_then(|id| bytes(&id)),
            host_name: value("client-hostname").and_then(|text| name(&text)),
        };
        let is_active = value("binding state").as_deref() == Some("active");
        let end = value("ends epoch").filter(|_| is_active).map_or(0, |end| end.parse().unwrap());
        all.push((lease, end));
    }
    all
}

/// When it was written, in 8 bytes; then seconds left, address, MAC address, name and two bytes for each lease.
fn udhcpd(file: &[u8]) -> Vec<Known> {
    let Some((written, rest)) = file.split_first_chunk() else { return Vec::new() };
    let written = u64::from_be_bytes(*written);
    let mut all = Vec::new();
    for entry in rest.chunks_exact(36) {
        let number = |at: usize| u32::from_be_bytes(entry[at..at + 4].try_into().unwrap());
        let host_name = entry[14..34].split(|&byte| byte == 0).next().unwrap();
        let lease = Lease {
            address: number(4).into(),
            mac: entry[8..14].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
            client_id: None,
            host_name: name(&String::from_utf8_lossy(host_name)),
        };
        all.push((lease, written + u64::from(number(0))));
    }
    all
}
