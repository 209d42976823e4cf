//! Pools: which addresses, in which order, and how full they are.

use super::*;
use proptest::prelude::*;

fn subnet(net: &str, gateway: Option<&str>, range: Option<&str>) -> Result<Subnet> {
    Subnet::new(
        net.parse().unwrap(),
        gateway.map(|text| text.parse().unwrap()),
        false,
        range.map(|text| text.parse().unwrap()),
        BTreeMap::new(),
    )
}

#[track_caller]
fn check(net: &str, gateway: Option<&str>, range: Option<&str>, last: Option<&str>, expected: &[&str]) {
    let subnet = subnet(net, gateway, range).unwrap();
    let last = last.map(|text| text.parse().unwrap());
    let got: Vec<_> =
        subnet.candidates(last).take(expected.len() + 1).map(|a| a.addr().to_string()).collect();
    assert_eq!(got, expected);
}

#[test]
fn order_of_candidates() {
    let gateway = Some("10.0.0.1");
    check("10.0.0.0/29", gateway, None, None, &["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    check(
        "10.0.0.0/29",
        None,
        None,
        Some("10.0.0.4"),
        &["10.0.0.5", "10.0.0.6", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"],
    );
    check("10.0.0.0/30", None, None, Some("10.0.0.3"), &["10.0.0.1", "10.0.0.2"]);
    check("10.0.0.0/30", None, None, Some("10.9.9.9"), &["10.0.0.1", "10.0.0.2"]);
    check("10.0.0.0/30", None, None, Some("::1"), &["10.0.0.1", "10.0.0.2"]);
    check("10.0.0.0/31", None, None, None, &["10.0.0.0", "10.0.0.1"]);
    check("10.0.0.7/32", None, None, None, &["10.0.0.7"]);
    check("2001:db8::/126", Some("2001:db8::1"), None, None, &["2001:db8::2", "2001:db8::3"]);
    check("2001:db8::/127", None, None, None, &["2001:db8::", "2001:db8::1"]);
    check("2001:db8::5/128", None, None, None, &["2001:db8::5"]);
    check("10.0.0.0/24", None, Some("10.0.0.254-10.0.0.255"), None, &["10.0.0.254"]);
    check("10.0.0.0/24", None, Some("10.0.0.128/31"), Some("10.0.0.128"), &["10.0.0.129", "10.0.0.128"]);
}

/// The cursors of two pools of one segment are not mixed up, also not those of one subnet.
#[test]
fn names_of_pools() {
    for (net, range, name) in [
        ("10.0.0.0/24", None, "10.0.0.0/24"),
        ("10.0.0.0/24", Some("10.0.0.64/30"), "10.0.0.64-10.0.0.67"),
        ("10.0.0.0/24", Some("10.0.0.7-10.0.0.9"), "10.0.0.7-10.0.0.9"),
        ("2001:db8::/64", None, "2001:db8::/64"),
    ] {
        let subnet = subnet(net, None, range).unwrap();
        assert_eq!(subnet.pool_name(), name);
        assert_eq!(subnet.range().map(|range| range.to_string()).as_deref(), range.map(|_| name));
    }
}

#[test]
fn a_huge_subnet_is_not_walked() {
    let subnet = subnet("2001:db8::/32", None, None).unwrap();
    assert_eq!(subnet.candidates(None).next().unwrap().to_string(), "2001:db8::1/32");
    let half = self::subnet("2000::/3", None, None).unwrap();
    assert_eq!(half.candidates(Some("2000::5".parse().unwrap())).next().unwrap().to_string(), "2000::6/3");
}

#[test]
fn parts_that_disagree_are_refused() {
    for (net, gateway, range, message) in [
        ("10.0.0.1/24", None, None, "subnet 10.0.0.1/24 has host bits set"),
        ("0.0.0.0/0", None, None, "subnet 0.0.0.0/0 has all addresses of its family"),
        ("::/0", None, None, "subnet ::/0 has all addresses of its family"),
        ("10.0.0.0/24", Some("10.0.1.1"), None, "gateway 10.0.1.1 is not in subnet 10.0.0.0/24"),
        ("10.0.0.0/24", Some("::1"), None, "gateway ::1 is not in subnet 10.0.0.0/24"),
        (
            "10.0.0.0/24",
            Some("10.0.0.255"),
            None,
            "gateway 10.0.0.255 is not a host address of subnet 10.0.0.0/24",
        ),
        (
            "10.0.0.0/24",
            None,
            Some("10.0.0.0/23"),
            "address range 10.0.0.0-10.0.1.255 is not in subnet 10.0.0.0/24",
        ),
    ] {
        assert_eq!(subnet(net, gateway, range).unwrap_err().to_string(), message);
    }
    for range in ["10.0.0.9-10.0.0.1", "10.0.0.1-::1", "10.0.0.1/24", "10.0.0.1", "x", "-"] {
        assert!(range.parse::<AddressRange>().is_err(), "{range:?} was accepted");
    }
}

/// moby's example: a /24 with a range of four, one aux address inside of it and one outside, one container.
#[test]
fn usage() {
    let aux = [("a", "10.0.0.65"), ("b", "10.0.0.9")];
    let aux = aux.map(|(name, address)| (name.to_owned(), address.parse().unwrap()));
    let net = "10.0.0.0/24".parse().unwrap();
    let subnet = Subnet::new(net, None, false, Some("10.0.0.64/30".parse().unwrap()), aux.into()).unwrap();
    let held = ["10.0.0.66", "10.0.1.1", "::1"].map(|text| text.parse().unwrap()).into();
    assert_eq!(subnet.usage(&held), Usage { in_use: 5, free: 2 });
    let pool: Vec<_> = subnet.candidates(None).map(|a| a.addr().to_string()).collect();
    assert_eq!(pool, ["10.0.0.64", "10.0.0.66", "10.0.0.67"]);
    assert!(subnet.host("10.0.0.9".parse().unwrap()).is_err(), "an aux address");
    let half = self::subnet("2000::/3", None, None).unwrap();
    assert_eq!(half.usage(&BTreeSet::new()), Usage { in_use: 1, free: u64::MAX - 1 });
    let routed = subnet.with_next_hops(["10.0.0.64", "10.9.9.9"].map(|text| text.parse().unwrap()));
    assert_eq!(routed.candidates(None).next().unwrap().to_string(), "10.0.0.66/24");
    assert!(routed.host("10.0.0.64".parse().unwrap()).is_err(), "the next hop of a route");
    assert_eq!(routed.usage(&held), Usage { in_use: 6, free: 1 });
}

#[test]
fn hosts() {
    let subnet = subnet("10.0.0.0/24", Some("10.0.0.1"), Some("10.0.0.64/26")).unwrap();
    let host = |text: &str| subnet.host(text.parse().unwrap()).map(|host| host.to_string());
    assert_eq!(host("10.0.0.9").unwrap(), "10.0.0.9/24", "outside of the range, inside the subnet");
    for address in ["10.0.0.0", "10.0.0.255", "10.0.0.1", "10.0.1.9", "::1"] {
        assert!(host(address).is_err(), "{address} was accepted");
    }
    let can_be = |text: &str| subnet.pickable(text.parse().unwrap()).is_some();
    assert_eq!(["10.0.0.63", "10.0.0.64", "10.0.0.128"].iter().position(|text| can_be(text)), Some(1));
}

proptest! {
    /// From wherever the cursor stands, every usable address comes exactly once.
    #[test]
    fn candidates_are_complete(prefix in 24u8..=32, base in 0x8000_0000_u32..0xdfff_0000, last: u32, gateway in 0u32..300) {
        let net = IpNet::new(Ipv4Addr::from_bits(base).into(), prefix).unwrap().trunc();
        let gateway: IpAddr = Ipv4Addr::from_bits(base.wrapping_add(gateway)).into();
        let subnet = Subnet::new(net, Some(gateway), false, None, BTreeMap::new())
            .unwrap_or_else(|_| Subnet::new(net, None, false, None, BTreeMap::new()).unwrap());
        let mut got: Vec<_> = subnet.candidates(Some(Ipv4Addr::from_bits(last).into())).collect();
        got.sort();
        let expected: Vec<_> = net.hosts().filter(|&a| Some(a) != subnet.gateway())
            .map(|a| IpNet::new(a, prefix).unwrap()).collect();
        prop_assert_eq!(got, expected);
    }
}

#[test]
fn parts_of_a_range() {
    let part = |range: &str, number, parts| {
        range.parse::<AddressRange>().unwrap().part(number, parts).map(|part| part.to_string())
    };
    assert_eq!(part("10.0.0.0/24", 1, 1).unwrap(), "10.0.0.0-10.0.0.255");
    assert_eq!(part("10.0.0.0/24", 3, 16).unwrap(), "10.0.0.32-10.0.0.47");
    assert_eq!(part("10.0.0.10-10.0.0.19", 1, 3).unwrap(), "10.0.0.10-10.0.0.13");
    assert_eq!(part("10.0.0.10-10.0.0.19", 3, 3).unwrap(), "10.0.0.17-10.0.0.19");
    assert_eq!(part("2001:db8::/64", 2, 2).unwrap(), "2001:db8:0:0:8000::-2001:db8::ffff:ffff:ffff:ffff");
    for (number, parts, said) in [
        (0, 3, "there is no host number 0 of 3"),
        (4, 3, "there is no host number 4 of 3"),
        (1, 0, "there is no host number 1 of 0"),
        (1, 11, "10.0.0.10-10.0.0.19 has 10 addresses, which are too few for 11 hosts"),
    ] {
        assert_eq!(part("10.0.0.10-10.0.0.19", number, parts).unwrap_err().to_string(), said);
    }
}

proptest! {
    /// Each address is in one part, and the parts are as large as each other, but for one address.
    #[test]
    fn parts_are_disjoint_and_whole(first: u32, size in 1_u32..5_000, parts in 1_u32..300) {
        let first = first.min(u32::MAX - size);
        let range = AddressRange { first: Ipv4Addr::from(first).into(), last: Ipv4Addr::from(first + size - 1).into() };
        let all: Vec<_> = (1..=parts).map(|number| range.part(number, parts)).collect();
        if size < parts {
            prop_assert!(all.iter().all(Result::is_err));
        } else {
            let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
            prop_assert_eq!((all[0].first, all[all.len() - 1].last), (range.first, range.last));
            prop_assert!(all.windows(2).all(|two| number(two[0].last) + 1 == number(two[1].first)));
            let sizes: BTreeSet<_> = all.iter().map(|part| number(part.last) - number(part.first)).collect();
            prop_assert!(sizes.len() <= 2 && sizes.last().unwrap() - sizes.first().unwrap() <= 1);
        }
    }
}
