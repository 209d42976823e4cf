//! A DHCP client that is not ours: busybox's, on a link of the host's `eth0` as containers have them.

use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::bed::{Bed, Netns, Outcome, outcome};

/// A namespace with a macvlan link `eth0`, and no address.
pub struct Client {
    pub netns: Netns,
    pub mac: String,
}

impl Client {
    pub fn new(bed: &Bed) -> Self {
        let netns = Netns::new("client");
        bed.host.ip_batch(&[
            "link add link eth0 name client0 type macvlan mode bridge",
            &format!("link set client0 netns {} name eth0", netns.name),
        ]);
        netns.ip("link set eth0 up");
        let mac = netns.link("eth0").unwrap()["address"].as_str().unwrap().to_owned();
        Self { netns, mac }
    }

    /// Asks for an address, with further arguments of `udhcpc`, and uses none. What it said, if it got none in ten seconds.
    pub fn ask(&self, arguments: &str) -> Result<Ipv4Addr, String> {
        ask(&self.netns, arguments)
    }

    /// Gives back `address`, which it was given: asks for it again, has it, and ends.
    pub fn release(&self, address: Ipv4Addr, arguments: &str) {
        self.netns.ip(&format!("addr add {address}/24 dev eth0"));
        let mut command = udhcpc(&self.netns, &format!("-R -r {address}"), arguments);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(&format!("lease of {address} "))));
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        lines.for_each(drop);
        child.wait().unwrap();
    }
}

/// As [`Client::ask`], by the link `eth0` of `netns`: that of the host itself.
pub fn ask(netns: &Netns, arguments: &str) -> Result<Ipv4Addr, String> {
    let Outcome { code, stdout, stderr } = outcome(&mut udhcpc(netns, "-q", arguments), b"");
    let said = stdout + &stderr;
    let given = said.split("lease of ").nth(1).and_then(|rest| rest.split(' ').next());
    match given {
        Some(address) if code == 0 => Ok(address.parse().unwrap()),
        _ => Err(said),
    }
}

fn udhcpc(netns: &Netns, first: &str, more: &str) -> Command {
    let mut command = netns.command("busybox");
    command.args(["udhcpc", "-n", "-f", "-i", "eth0", "-s", "/bin/true", "-t", "10", "-T", "1"]);
    command.args(first.split_whitespace()).args(more.split_whitespace());
    command
}
