//! What the kernel does by and by is waited for: each test holds it up until the hook has asked, and asks again.

use std::net::Ipv6Addr;

use nix::libc;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::{Engine::Bare, wait};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};
use crate::harness::tracer::{Call, trace};

pub fn tests() -> Vec<Test> {
    let all: [Named; 4] = [
        ("a_dying_namespace_has_the_mac_address", &[Need::Macvlan], dying_mac),
        ("a_dying_namespace_has_the_address", &[Need::Ipvlan], dying_address),
        ("until_ipv6_addresses_are_local", &[Need::Macvlan], local_addresses),
        ("until_a_stopped_container_is_gone", &[Need::Macvlan], stopped),
    ];
    all.map(|(name, needs, run)| Test::new(format!("waits::{name}"), needs, run)).into()
}

/// Attaches a container that asks for `networks`, while `hand0` in another namespace has what it asks for; that goes
/// when the hook has slept for the second time. What is leased then.
fn dying(bed: &Bed, networks: &str, hand: &str, addresses: &[&str]) -> [Vec<String>; 2] {
    let namespace = Netns::new("dying");
    bed.host.ip(&format!("link add hand0 link eth0 netns {} {hand}", namespace.name));
    namespace.ip_batch(addresses);
    namespace.ip("link set hand0 up");
    let web = bed.container(Bare, "web").networks(networks).without_hooks().start().unwrap();
    let mut sleeps = 0;
    let command = bed.underlay("hook createRuntime");
    let traced = trace(&command, web.state_at("createRuntime").as_bytes(), |call| {
        if call.number == libc::SYS_clock_nanosleep {
            sleeps += 1;
            if sleeps == 2 {
                namespace.ip("link del hand0");
            }
        }
        None
    });
    assert!(traced.code() == Some(0) && sleeps >= 2, "{sleeps}: {traced:?}");
    assert_eq!(web.links(), ["eth0"]);
    assert_eq!(bed.run("check"), "");
    [bed.macs(), bed.leases()]
}

fn dying_mac() {
    let bed = Bed::with_pub_net("macvlan", "");
    let hand = "address 02:00:00:00:00:07 type macvlan mode bridge";
    let [macs, _] = dying(&bed, "pub_net:mac=02:00:00:00:00:07", hand, &[]);
    assert_eq!(macs, ["02:00:00:00:00:07"]);
}

fn dying_address() {
    // It would answer to probes.
    let bed = Bed::with_pub_net("ipvlan", "-o conflict_detection=off");
    let address = ["addr add 172.16.86.9/24 dev hand0"];
    let [_, leases] = dying(&bed, "pub_net:ip=172.16.86.9", "type ipvlan mode l2 bridge", &address);
    assert!(leases.len() == 1 && leases[0].ends_with("/172.16.86.9"), "{leases:?}");
}

/// Whether `call` asks the kernel for its route to `address` (`RTM_GETROUTE`).
fn asks_for(call: &Call, address: Ipv6Addr) -> bool {
    const RTM_GETROUTE: [u8; 2] = 26_u16.to_ne_bytes();
    let sent = call.sent().unwrap_or_default();
    sent.get(4..6) == Some(&RTM_GETROUTE) && sent.windows(16).any(|bytes| bytes == address.octets())
}

/// The kernel makes the local route of an address in a work queue: until then it drops what comes in. So when the hook
/// asks for the first time, there is none, and when it asks again, there is.
fn local_addresses() {
    for detection in ["", "-o conflict_detection=off"] {
        let bed = Bed::new();
        let subnet = "--subnet=2001:db8:abc8::/64 --host-access=2001:db8:abc8::fe";
        bed.create(&format!("{subnet} -o parent=eth0 {detection} six"));
        let inside = Netns::new("inside");
        let web = bed.container(Bare, "web").networks("six:ip=2001:db8:abc8::9").in_netns(inside.path());
        let web = web.without_hooks().start().unwrap();
        let mut all: [(Ipv6Addr, &Netns, &str, usize); 2] = [
            ("2001:db8:abc8::9".parse().unwrap(), &inside, "eth0", 0),
            ("2001:db8:abc8::fe".parse().unwrap(), &bed.host, "ulh-six", 0),
        ];
        let command = bed.underlay("hook createRuntime");
        let traced = trace(&command, web.state_at("createRuntime").as_bytes(), |call| {
            for (address, netns, link, asked) in &mut all {
                if !asks_for(&call, *address) {
                    continue;
                }
                *asked += 1;
                let local = format!("local {address} dev {link} table local");
                match *asked {
                    1 => wait(|| netns.try_run("ip", &format!("-6 route del {local}")).is_ok()),
                    2 => drop(netns.ip(&format!("-6 route add {local}"))),
                    _ => {}
                }
            }
            None
        });
        assert_eq!(traced.code(), Some(0), "{traced:?}");
        assert_eq!(all.map(|(.., asked)| asked), [2, 2], "{detection}");
    }
}

/// An engine may call poststop while the process is on its way out.
fn stopped() {
    let bed = Bed::with_pub_net("macvlan", "");
    let mut web = bed.container(Bare, "web").networks("pub_net").start().unwrap();
    let state = web.state_at("poststop");
    let mut sleeps = 0;
    let traced = trace(&bed.underlay("hook poststop"), state.as_bytes(), |call| {
        if call.number == libc::SYS_clock_nanosleep {
            sleeps += 1;
            if sleeps == 2 {
                web.kill();
            }
        }
        None
    });
    assert!(traced.code() == Some(0) && sleeps >= 2, "{sleeps}: {traced:?}");
    bed.assert_nothing_held();
}
