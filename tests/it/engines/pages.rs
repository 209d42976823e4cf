//! The networks of Docker's pages and a blog post (docs/explanation/comparison.md), created by an engine as they stand there,
//! except for the driver; and containers in them.

use crate::harness::bed::Bed;
use crate::harness::container::Container;

/// An engine that has networks of its own.
pub trait Networks {
    /// `network create` with the words of a page, whose driver `underlay` is in place of Docker's.
    fn create(&self, words: &str);

    /// Starts a container that sleeps, in `network` and with the address `ip` if the page names one.
    fn start(&self, name: &str, network: &str, ip: Option<&str>) -> Container<'_>;

    /// Removes the containers `names`, and then `network`.
    fn remove(&self, names: &[String], network: &str);
}

/// Which lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Those of macvlan. `eth0` stands for its VLANs, as the first page allows.
    MacvlanOnEth0,
    /// Those of macvlan.
    Macvlan,
    /// Those of ipvlan.
    Ipvlan,
}

/// Each line, and its containers: the address that the page asks for, or the range that the container gets one of.
///
/// The stray `-o` before `macvlan_mode` of `macvlan60` is left out: Docker refuses it too.
const PAGES: [(&str, &[(&str, &str)]); 11] = [
    (
        "-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0 pub_net",
        &[("172.16.86.10", ""), ("", "172.16.86.1-253")],
    ),
    (
        "-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 --aux-address=exclude_host=172.16.86.250 -o parent=eth0 pub_net",
        &[("", "172.16.86.1-253")],
    ),
    (
        "-d macvlan --subnet=192.168.32.0/24 --ip-range=192.168.32.128/25 --gateway=192.168.32.254 -o parent=eth0 macnet32",
        &[("", "192.168.32.128-253")],
    ),
    (
        "-d macvlan --subnet=192.168.32.0/24 --ip-range=192.168.32.128/25 --gateway=192.168.32.254 \
         --aux-address=my-router=192.168.32.129 -o parent=eth0 macnet32",
        &[("", "192.168.32.128-253"), ("", "192.168.32.128-253")],
    ),
    (
        "-d macvlan --subnet=192.168.50.0/24 --gateway=192.168.50.1 -o parent=eth0.50 macvlan50",
        &[("", "192.168.50.1-253"), ("", "192.168.50.1-253")],
    ),
    (
        "-d macvlan --subnet=192.168.60.0/24 --gateway=192.168.60.1 -o parent=eth0.60 -o macvlan_mode=bridge macvlan60",
        &[("", "192.168.60.1-253"), ("", "192.168.60.1-253")],
    ),
    (
        "-d macvlan --subnet=192.168.216.0/24 --subnet=192.168.218.0/24 --gateway=192.168.216.1 --gateway=192.168.218.1 \
         --subnet=2001:db8:abc8::/64 --gateway=2001:db8:abc8::10 -o parent=eth0.218 -o macvlan_mode=bridge macvlan216",
        &[("192.168.216.10", ""), ("192.168.218.10", ""), ("192.168.216.11", ""), ("192.168.218.11", "")],
    ),
    (
        "-d macvlan --subnet=172.16.86.0/24 --gateway=172.16.86.1 -o parent=eth0.10 my-8021q-macvlan-net",
        &[("", "172.16.86.1-253")],
    ),
    (
        "-d ipvlan --subnet=192.168.210.0/24 --subnet=192.168.212.0/24 --gateway=192.168.210.254 --gateway=192.168.212.254 \
         -o ipvlan_mode=l2 ipvlan210",
        &[("192.168.210.10", ""), ("192.168.210.9", ""), ("192.168.212.10", ""), ("192.168.212.9", "")],
    ),
    (
        "-d ipvlan --subnet=192.168.210.0/24 --subnet=192.168.212.0/24 --gateway=192.168.210.254 --gateway=192.168.212.254 \
         -o ipvlan_mode=l2 -o parent=eth0 ipvlan210",
        &[("192.168.210.10", ""), ("192.168.210.9", ""), ("192.168.212.10", ""), ("192.168.212.9", "")],
    ),
    (
        "-d ipvlan --subnet=192.168.210.0/24 --gateway=192.168.210.254 -o ipvlan_mode=l2 -o parent=eth0 ipvlan210",
        &[("", "192.168.210.1-253")],
    ),
];

/// Whether the address `last` of `subnet` is in `range`, which is written `SUBNET.FIRST-LAST`.
fn is_in(range: &str, subnet: &str, last: u8) -> bool {
    let (of, bounds) = range.rsplit_once('.').unwrap();
    let (low, high) = bounds.split_once('-').unwrap();
    of == subnet && (low.parse().unwrap()..=high.parse().unwrap()).contains(&last)
}

/// Creates each network by `engine` on the host of `bed`, starts its containers, and removes all of it.
pub fn run(bed: &Bed, engine: &impl Networks, lines: Lines) {
    let before = bed.host_state();
    let of = if lines == Lines::Ipvlan { "-d ipvlan " } else { "-d macvlan " };
    for (line, containers) in PAGES.iter().filter(|(line, _)| line.starts_with(of)) {
        let mut words = line.replacen(of, "-d underlay ", 1);
        if lines == Lines::MacvlanOnEth0 {
            for parent in ["eth0.50", "eth0.60", "eth0.218", "eth0.10"] {
                words = words.replace(parent, "eth0");
            }
        }
        engine.create(&words);
        let network = words.rsplit(' ').next().unwrap();
        let mut started: Vec<(String, String)> = Vec::new();
        let names: Vec<_> = (0..containers.len()).map(|index| format!("page{index}")).collect();
        for (name, (asked, given)) in names.iter().zip(*containers) {
            let ip = Some(*asked).filter(|asked| !asked.is_empty());
            let container = engine.start(name, network, ip);
            assert_eq!(container.links(), ["eth0"], "{words}");
            let addresses = container.addresses("eth0");
            let all_of_v4: Vec<_> = addresses.iter().filter(|address| !address.contains(':')).collect();
            let [address] = all_of_v4.as_slice() else { panic!("{words}: {addresses:?}") };
            let address = address.strip_suffix("/24").unwrap().to_owned();
            let (subnet, last) = address.rsplit_once('.').unwrap();
            match ip {
                Some(ip) => assert_eq!(address, ip, "{words}"),
                // Those that the line names are something else's.
                None => assert!(
                    is_in(given, subnet, last.parse().unwrap())
                        && !line.split_whitespace().any(|word| word.ends_with(&format!("={address}"))),
                    "{words}: {address}"
                ),
            }
            // The gateway of the page, which is that of the container's subnet. A network without a parent has none.
            let routes = container.routes("-4");
            let gateway = format!("--gateway={subnet}.");
            let gateway = line.split_whitespace().find(|word| word.starts_with(&gateway)).unwrap();
            let default = format!("default via {} dev eth0", gateway.strip_prefix("--gateway=").unwrap());
            let has_default = routes.iter().any(|route| route.starts_with(&default));
            assert_eq!(has_default, words.contains("parent="), "{words}: {routes:?}");
            // The first container of its subnet, as the page pings it.
            for (_, other) in started.iter().filter(|(of, _)| *of == subnet) {
                assert!(container.reaches(other), "{words}: {address} to {other}");
            }
            started.push((subnet.to_owned(), address.clone()));
        }
        engine.remove(&names, network);
        assert_eq!(bed.host_state(), before, "{words}");
    }
    bed.assert_nothing_held();
}
