//! Blocks of addresses that the standards reserve for other purposes than hosts.

use ipnet::IpNet;

/// Blocks without addresses of hosts, and their purpose: the special-purpose registries of IANA (RFC 6890), class E
/// (RFC 1112, section 4) with the broadcast address, and multicast (RFC 5771, RFC 4291 2.7).
const NOT_FOR_HOSTS: [(&str, &str); 7] = [
    ("0.0.0.0/8", "this network"),
    ("127.0.0.0/8", "loopback"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved (class E)"),
    ("::/128", "no address"),
    ("::1/128", "loopback"),
    ("ff00::/8", "multicast"),
];

/// The block without addresses of hosts that `net` overlaps, and its purpose.
pub(crate) fn not_for_hosts(net: IpNet) -> Option<(IpNet, &'static str)> {
    let mut blocks =
        NOT_FOR_HOSTS.iter().filter_map(|(block, what)| Some((block.parse::<IpNet>().ok()?, *what)));
    blocks.find(|(block, _)| block.contains(&net) || net.contains(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks() {
        for (net, what) in [
            ("10.0.0.0/8", None),
            ("128.0.0.0/2", None),
            ("2000::/3", None),
            ("0.0.0.0/1", Some("this network")),
            ("126.0.0.0/7", Some("loopback")),
            ("192.0.0.0/2", Some("multicast")),
            ("224.0.0.0/4", Some("multicast")),
            ("255.255.255.255/32", Some("reserved (class E)")),
            ("::/64", Some("no address")),
            ("ff00::/16", Some("multicast")),
        ] {
            assert_eq!(not_for_hosts(net.parse().unwrap()).map(|(_, what)| what), what, "{net}");
        }
    }
}
