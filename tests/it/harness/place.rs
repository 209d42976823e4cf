//! Where tests run: on this machine's kernel with its own programs, or with the engines of a Debian, or on that Debian's
//! kernel. `tests/run` asks for the plan, and runs what it says where it says.

use std::fmt;
use std::io::{self, Write as _};

use crate::harness::test::Test;

/// A release of Debian, whose engines and kernel are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debian {
    /// Debian 12: the oldest engines and kernel that are served. Its Docker knows no CDI, its podman no quadlets.
    Bookworm,
    /// Debian 13.
    Trixie,
    /// Debian 14: the newest.
    Forky,
}

use Debian::{Bookworm, Forky, Trixie};

impl Debian {
    pub const ALL: [Self; 3] = [Bookworm, Trixie, Forky];
    /// Those with Docker 25 or later and podman 5 or later.
    pub const SINCE_13: [Self; 2] = [Trixie, Forky];
    /// Those with ISC's DHCP server.
    pub const UNTIL_13: [Self; 2] = [Bookworm, Trixie];
}

/// Whether this is a guest, which is emulated where there is no KVM.
pub fn is_guest() -> bool {
    std::env::var_os("UNDERLAY_TEST_GUEST").is_some()
}

/// Whether everything is tried, however long it takes: `make test-all`.
pub fn soak() -> bool {
    std::env::var_os("UNDERLAY_TEST_SOAK").is_some()
}

/// A kernel and the programs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// This machine as it is.
    Here,
    /// This machine's kernel with a Debian's engines (`tests/debian/chroot`).
    Chroot(Debian),
    /// A Debian's kernel and engines, under QEMU (`tests/debian/guest`): slow where it is emulated.
    Guest(Debian),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |debian: &Debian| format!("{debian:?}").to_lowercase();
        match self {
            Self::Here => f.write_str("here"),
            Self::Chroot(debian) => write!(f, "chroot-{}", of(debian)),
            Self::Guest(debian) => write!(f, "guest-{}", of(debian)),
        }
    }
}

/// Tests that are about what kernels differ in, by how their names begin, and one of every engine.
const OF_KERNELS: [&str; 27] = [
    "all_engines::on_one_network",
    "budget::system_calls",
    "check::ipvlan",
    "check::made_parents",
    "conflicts::probes_and_announcements::",
    "conformance::subnets_of_l3",
    "dhcp_links::three_on_ipvlan::kea",
    "doctor::link_types",
    "doctor::modules",
    "first_example::dual_stack::ipvlan::bare",
    "first_example::two_networks::macvlan::bare",
    // When a kernel makes the file of a namespace.
    "held_by_namespace::",
    "host_access::both_ways::ipvlan_l2",
    // Docker makes the VLAN, and each version writes its networks in its own way.
    "import::of_docker",
    "ipv6::one_default_route",
    "links::",
    "parents::a_vlan_lives_as_long_as_its_networks",
    "parents::no_parent",
    "parents::of_every_kind",
    "parents::stacked",
    "podman_networks::lines_of_dockers_pages",
    "podman_ways::checkpoint",
    "properties::",
    "systemd::",
    "trunks::within_a_providers_vlan",
    "untrusted_container::",
    "uplinks::what_outlives_a_link",
];

/// How much is to be tested.
#[derive(Clone, Copy)]
pub struct Extent {
    /// Every test on every kernel, not only those that are about kernels.
    pub all: bool,
    /// Whether this machine can enter a Debian's file system (`tests/debian/chroot`).
    pub chroots: bool,
}

impl Extent {
    /// As `tests/run` says in the environment.
    pub fn from_environment() -> Self {
        let is_set = |name| std::env::var_os(name).is_some();
        Self { all: is_set("UNDERLAY_TEST_ALL"), chroots: !is_set("UNDERLAY_TEST_NO_CHROOT") }
    }
}

/// Where a test runs: never nowhere. The engines of every Debian it is about, on this machine's kernel if that has what it
/// needs, which is many times faster than a guest; otherwise in one guest, for the test is about underlay. What is about
/// kernels is run on all of them.
pub fn places(test: &Test, extent: Extent) -> Vec<Place> {
    let of_kernel = test.needs.iter().filter(|need| need.is_of_kernel());
    let lacks = of_kernel.into_iter().any(|need| need.missing().is_some());
    let of_debian = test.needs.iter().any(|need| need.is_of_debian());
    let guests = || test.debians.iter().copied().map(Place::Guest);
    let main = test.debians.iter().copied().find(|&debian| debian == Trixie).unwrap_or(test.debians[0]);
    let mut places = match (lacks, of_debian) {
        (false, false) => vec![Place::Here],
        (false, true) if extent.chroots && test.in_one && !extent.all => vec![Place::Chroot(main)],
        (false, true) if extent.chroots => test.debians.iter().copied().map(Place::Chroot).collect(),
        (false, true) if test.in_one && !extent.all => vec![Place::Guest(main)],
        (false, true) => guests().collect(),
        (true, _) => vec![Place::Guest(main)],
    };
    if is_of_kernels(&test.name) || extent.all {
        places.extend(guests());
    }
    let mut seen = Vec::new();
    places.retain(|place| {
        !seen.contains(place) && {
            seen.push(*place);
            true
        }
    });
    places
}

fn is_of_kernels(name: &str) -> bool {
    OF_KERNELS.iter().any(|start| name.starts_with(start))
}

/// Prints the plan for the tests whose names contain one of `wanted`, or for all: a line for each, `PLACE<TAB>NAME`.
pub fn print_plan(tests: &[Test], wanted: &[String]) -> io::Result<()> {
    let extent = Extent::from_environment();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    for test in tests.iter().filter(|test| is_wanted(&test.name)) {
        for place in places(test, extent) {
            writeln!(io::stdout(), "{place}\t{}", test.name)?;
        }
    }
    Ok(())
}
