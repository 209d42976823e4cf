//! A process that speaks as the kernel to every rtnetlink socket of a network namespace: this very test program, called with
//! a lie in its environment.
//!
//! Whoever has CAP_NET_ADMIN over a namespace may send to the netlink sockets of others in it, and every user has that over
//! one that he makes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitCode, Stdio};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, bind, sendto, socket_with};

/// Holds the lie in the environment of the process that tells it.
const VARIABLE: &str = "UNDERLAY_TEST_LIE";
/// An ordinary user, and his group.
const NOBODY: u32 = 65534;
/// So many pairs of links make a dump of several datagrams, between which there is time to lie.
const PAIRS: usize = 40;

/// What is told.
#[derive(Clone, Debug)]
pub enum Lie {
    /// A link with the mark of the container `id`, on the host's link number `parent`, with addresses.
    Link { parent: u32, id: String, network: String, addresses: Vec<[u8; 4]> },
    /// That the kernel refuses (EPERM).
    Refusal,
    /// Four bytes.
    Garbage,
}

/// The process; gone when dropped.
pub struct Attacker(Child);

impl Attacker {
    /// An ordinary user's, in a user and a network namespace of its own that has many links.
    pub fn of_a_user(lie: &Lie) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "/proc/self/fd/0"]).uid(NOBODY).gid(NOBODY);
        Self::start(command, lie)
    }

    /// Root's, in the network namespace of the process `pid`.
    pub fn beside(pid: i32, lie: &Lie) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net", "/proc/self/fd/0"]);
        Self::start(command, lie)
    }

    fn start(mut command: Command, lie: &Lie) -> Self {
        // The program comes as its own stdin: the user need not reach the folder it lies in.
        command.stdin(File::open("/proc/self/exe").unwrap()).stdout(Stdio::piped());
        let mut child = command.env(VARIABLE, lie.to_string()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        Self(child)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl std::fmt::Display for Lie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link { parent, id, network, addresses } => {
                write!(f, "link {parent} {id} {network}")?;
                addresses.iter().try_for_each(|[a, b, c, d]| write!(f, " {a}.{b}.{c}.{d}"))
            }
            Self::Refusal => f.write_str("refusal"),
            Self::Garbage => f.write_str("garbage"),
        }
    }
}

/// Lies for ever, if this process was started for that.
pub fn main() -> Option<ExitCode> {
    let lie = std::env::var(VARIABLE).ok()?;
    if nix::unistd::getuid().is_root() && fs::read_to_string("/proc/self/uid_map").unwrap().contains("65534")
    {
        fill();
    }
    let datagram = datagram(&lie);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrNetlink::new(0, 0)).unwrap();
    let own = rustix::net::getsockname(&socket).unwrap();
    let own = SocketAddrNetlink::try_from(own).unwrap().pid();
    std::io::stdout().write_all(b"ready\n").unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        // sk, protocol (NETLINK_ROUTE is 0), port, …
        let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        for line in sockets.lines().skip(1) {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (Some("0"), Some(port)) = (fields.next(), fields.next()) else { continue };
            let Some(port) = port.parse().ok().filter(|&port| port != 0 && port != own) else { continue };
            let to = SocketAddrNetlink::new(port, 0);
            // Until its buffer is full, or it is out of reach.
            (0..40).find(|_| sendto(&socket, &datagram, SendFlags::DONTWAIT, &to).is_err());
        }
    }
}

/// Makes links in this namespace.
fn fill() {
    let lines: String = (0..PAIRS).map(|n| format!("link add v{n} type veth peer name w{n}\n")).collect();
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success());
}

// Of linux/netlink.h, linux/rtnetlink.h and linux/if_link.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNSID: u16 = 88;

fn datagram(lie: &str) -> Vec<u8> {
    let mut words = lie.split(' ');
    match words.next() {
        Some("link") => {
            let [parent, id, network] = [(); 3].map(|()| words.next().unwrap());
            link(parent.parse().unwrap(), id, network, words)
        }
        Some("refusal") => {
            let refusal = [&(-1_i32).to_ne_bytes()[..], &[0; 16]].concat();
            (1..9).flat_map(|number| message(NLMSG_ERROR, 0, number, &refusal)).collect()
        }
        Some("garbage") => b"abcd".to_vec(),
        other => panic!("{other:?} is no lie"),
    }
}

/// The answers to all that is asked of a namespace with one marked link, if the first question has number 1: the links,
/// the number of the host's namespace, and then addresses, routes and rules in whatever order.
fn link<'a>(parent: u32, id: &str, network: &str, addresses: impl Iterator<Item = &'a str>) -> Vec<u8> {
    const IFINDEX: u32 = 7777;
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let start_time = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19).unwrap();
    let alias = format!("underlay:{id}:0:{}:{start_time}:{network}\0", std::process::id());
    // struct ifinfomsg: family, type (ARPHRD_ETHER), ifindex, flags, change.
    let head = [&[0, 0, 1, 0][..], &IFINDEX.to_ne_bytes(), &0x1043_u32.to_ne_bytes(), &[0; 4]].concat();
    let mode = attribute(1, &4_u32.to_ne_bytes());
    let info = [attribute(1, b"macvlan\0"), attribute(2, &mode)].concat();
    let seen = [
        head,
        attribute(3, b"x0\0"),
        attribute(20, alias.as_bytes()),
        attribute(5, &parent.to_ne_bytes()),
        attribute(37, &0_u32.to_ne_bytes()),
        attribute(4, &1500_u32.to_ne_bytes()),
        attribute(1, &[2, 0, 0, 0xba, 0xdd, 1]),
        attribute(18, &info),
    ];
    let done = |number| message(NLMSG_DONE, NLM_F_MULTI, number, &[0; 4]);
    let mut all = message(RTM_NEWLINK, NLM_F_MULTI, 1, &seen.concat());
    all.extend(done(1));
    all.extend(message(RTM_NEWNSID, 0, 2, &[&[0; 4][..], &attribute(1, &[0; 4])].concat()));
    let addresses: Vec<_> = addresses
        .map(|address| {
            let address: std::net::Ipv4Addr = address.parse().unwrap();
            // struct ifaddrmsg: family, prefix length, flags (IFA_F_PERMANENT), scope, ifindex; IFA_LOCAL.
            [&[2, 24, 0x80, 0][..], &IFINDEX.to_ne_bytes(), &attribute(2, &address.octets())].concat()
        })
        .collect();
    for number in 3..10 {
        // To whom asks for something else they are nothing.
        all.extend(addresses.iter().flat_map(|address| message(RTM_NEWADDR, NLM_F_MULTI, number, address)));
        all.extend(done(number));
    }
    all
}

/// `struct nlmsghdr` with its payload.
pub fn message(kind: u16, flags: u16, number: u32, payload: &[u8]) -> Vec<u8> {
    let length = (16 + payload.len()) as u32;
    let head = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &number.to_ne_bytes()];
    let mut bytes = [&head.concat()[..], &[0; 4], payload].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct rtattr` with its value.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
