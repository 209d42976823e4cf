//! Many leases, and one agent.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::addresses::dhcp::bed;
use crate::harness::agent::Agent;
use crate::harness::container::Engine::Bare;
use crate::harness::container::wait;
use crate::harness::dhcp::{Kind, Options, Server};
use crate::harness::frames::{Dhcp, Ear, MessageType};
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    vec![Test::new("dhcp_many::all_are_due", &[Need::Macvlan, Kind::Kea.need()], all_are_due)]
}

const CONTAINERS: usize = 20;
const LINKS: usize = 10;

/// An agent that finds all leases due, as after a suspend, does not overrun the server, and is small.
fn all_are_due() {
    let bed = bed("-o conflict_detection=off -o dhcp_timeout=26");
    let range = [Ipv4Addr::new(10, 77, 1, 1), Ipv4Addr::new(10, 77, 1, 250)];
    let address = "10.77.0.1/16".parse().unwrap();
    let options = Options { address, range, lease: 300, t1_t2: Some((5, 250)), ..Options::default() };
    let server = Server::start(&bed, Kind::Kea, options);
    let networks = ["lan"; LINKS].join(";");
    let start = |n: usize| bed.container(Bare, &format!("c{n}")).networks(&networks).start().unwrap();
    let all: Vec<_> = (0..CONTAINERS).map(start).collect();
    assert_eq!(server.leases().len(), CONTAINERS * LINKS);
    thread::sleep(Duration::from_secs(6));
    let ear = Ear::on(&bed.lan);
    let agent = Agent::start(&bed);
    let renewals = || -> Vec<Dhcp> {
        let all = ear.all_dhcp().into_iter();
        all.filter(|message| message.kind == MessageType::Request).collect()
    };
    let begun = Instant::now();
    wait(|| renewals().len() >= CONTAINERS * LINKS);
    let elapsed = begun.elapsed();
    let times: Vec<_> = renewals().iter().map(|message| message.at).collect();
    for (first, later) in times.iter().zip(times.iter().skip(22)) {
        assert!(*later - *first >= Duration::from_secs(1), "more than 22 within {:?}", *later - *first);
    }
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
    assert!(agent.memory() < 16 * 1024, "{} KiB", agent.memory());
    all.into_iter().for_each(|container| container.stop());
    bed.assert_nothing_held();
}
