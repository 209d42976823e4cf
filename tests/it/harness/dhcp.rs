//! DHCP servers on the LAN of a bed: real ones, each with files of its own in the bed's folder.

mod client;
mod files;
mod leases;
mod scripted;

use std::fmt;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::wait;
use crate::harness::need::Need;
use crate::harness::place::Debian;
pub use client::{Client, ask};
pub use leases::Lease;
pub use scripted::{Reply, Scripted, set_header_sum};

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No lease is shorter than two minutes.
    Dnsmasq,
    /// It has no ping check. Leases may be as short as a second.
    Kea,
    Isc,
    /// That of busybox and many home routers: it knows clients by their MAC addresses alone.
    Udhcpd,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Dnsmasq, Self::Kea, Self::Isc, Self::Udhcpd];

    /// What a test with this server needs.
    pub const fn need(self) -> Need {
        match self {
            Self::Dnsmasq => Need::Program("dnsmasq"),
            Self::Kea => Need::Program("kea-dhcp4"),
            Self::Isc => Need::Program("dhcpd"),
            Self::Udhcpd => Need::Tool("busybox"),
        }
    }

    /// Those that have it.
    pub fn debians(self) -> &'static [Debian] {
        match self {
            Self::Isc => &Debian::UNTIL_13,
            _ => &Debian::ALL,
        }
    }

    /// What it says when it has begun to serve.
    fn ready(self) -> &'static str {
        match self {
            Self::Dnsmasq => "DHCP, IP range",
            Self::Kea => "DHCP4_STARTED",
            Self::Isc => "Server starting service",
            Self::Udhcpd => "started, v",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dnsmasq => "dnsmasq",
            Self::Kea => "kea",
            Self::Isc => "isc",
            Self::Udhcpd => "udhcpd",
        })
    }
}

/// How a server knows the client of a reservation.
#[derive(Clone, Debug)]
pub enum By {
    /// Option 61, with its type.
    ClientId(Vec<u8>),
    Mac(String),
}

/// How a server is configured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's own address in the subnet. It is also the server identifier.
    pub address: Ipv4Net,
    /// The first and last address that it gives.
    pub range: [Ipv4Addr; 2],
    /// Seconds.
    pub lease: u32,
    /// Options 58 and 59, in seconds. dnsmasq has its own if there are none.
    pub t1_t2: Option<(u32, u32)>,
    /// Option 3.
    pub router: Option<Ipv4Addr>,
    /// Option 121: destination and router.
    pub routes: Vec<(Ipv4Net, Ipv4Addr)>,
    /// Option 26.
    pub mtu: Option<u16>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 15.
    pub domain: Option<&'static str>,
    /// Option 119.
    pub search: Vec<&'static str>,
    /// Whether it pings an address before it offers it, and udhcpd by ARP. That takes one to four seconds.
    pub ping: bool,
    /// Whether it refuses what it does not know. udhcpd always does.
    pub authoritative: bool,
    /// Option 80, which only dnsmasq has.
    pub rapid_commit: bool,
    /// Addresses that are kept for a client. udhcpd knows no client ids.
    pub reserved: Vec<(By, Ipv4Addr)>,
}

impl Default for Options {
    /// 10.77.0.50 to 10.77.0.99 for an hour, by 10.77.0.1, which is the router too.
    fn default() -> Self {
        let of = |last| Ipv4Addr::new(10, 77, 0, last);
        Self {
            address: Ipv4Net::new(of(1), 24).unwrap(),
            range: [of(50), of(99)],
            lease: 3600,
            t1_t2: None,
            router: Some(of(1)),
            routes: Vec::new(),
            mtu: None,
            dns: Vec::new(),
            domain: None,
            search: Vec::new(),
            ping: false,
            authoritative: true,
            rapid_commit: false,
            reserved: Vec::new(),
        }
    }
}

impl Options {
    /// Short leases, which Kea has: renewed after 2 seconds, rebound after 4, over after 6.
    pub fn short() -> Self {
        Self { lease: 6, t1_t2: Some((2, 4)), ..Self::default() }
    }

    /// One that has the addresses `first` to `last` of 10.77.0.0/24.
    pub fn range(self, first: u8, last: u8) -> Self {
        Self { range: [first, last].map(|last| Ipv4Addr::new(10, 77, 0, last)), ..self }
    }
}

/// A host on the LAN beside `lan0` with a link of its own of that name, and no address: it is on `lan0` as macvlan.
pub fn beside(bed: &Bed, what: &str) -> Netns {
    let netns = Netns::new(what);
    bed.lan.ip_batch(&[
        "link add link lan0 name beside0 type macvlan mode bridge",
        &format!("link set beside0 netns {} name lan0", netns.name),
    ]);
    netns.ip_batch(&["link set lo up", "link set lan0 up"]);
    netns
}

/// A server, which runs until it is stopped; gone when dropped.
pub struct Server<'a> {
    pub kind: Kind,
    pub options: Options,
    netns: &'a Netns,
    folder: PathBuf,
    child: Option<Child>,
}

impl<'a> Server<'a> {
    /// Starts it on the LAN of `bed`, and waits until it serves. There can be one there.
    pub fn start(bed: &'a Bed, kind: Kind, options: Options) -> Self {
        Self::start_in(bed, &bed.lan, kind, options)
    }

    /// Starts it in `netns`, which has a link `lan0` (see [`beside`]).
    pub fn start_in(bed: &Bed, netns: &'a Netns, kind: Kind, options: Options) -> Self {
        let folder = bed.path(&format!("dhcp-{}", netns.name));
        fs::create_dir_all(&folder).unwrap();
        let mut server = Self { kind, options, netns, folder, child: None };
        server.restart();
        server
    }

    /// Starts it again with what it knows of its leases; stops it before, if it runs.
    pub fn restart(&mut self) {
        self.stop();
        // The address stays when a server is gone: its host is still there.
        self.netns.ip(&format!("addr replace {} dev lan0", self.options.address));
        files::write(self.kind, &self.options, &self.folder);
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let said = log.metadata().unwrap().len() as usize;
        let mut command = files::command(self.kind, &self.options, &self.folder);
        let mut inside = self.inside(&command);
        inside.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command = inside;
        self.child = Some(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(60);
        while !(self.log()[said..].contains(self.kind.ready()) && self.has_port()) {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < until, "{ended:?}: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The same command in the server's namespace.
    fn inside(&self, command: &Command) -> Command {
        let mut inside = self.netns.command(command.get_program());
        inside.args(command.get_args());
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    }

    /// Restarts it with other options.
    pub fn change(&mut self, change: impl FnOnce(&mut Options)) {
        change(&mut self.options);
        self.restart();
    }

    /// Ends it in its own way.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    /// Ends it without giving it time to write anything.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Lets it answer nothing until it is to go on. What comes meanwhile waits for it.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(pid as i32), signal).unwrap();
    }

    fn end(&mut self, signal: Signal) {
        if self.child.is_some() {
            self.signal(signal);
            self.child.take().unwrap().wait().unwrap();
        }
    }

    /// Whether it has a socket of port 67 already.
    fn has_port(&self) -> bool {
        let sockets = format!("/proc/{}/net/udp", self.child.as_ref().unwrap().id());
        fs::read_to_string(sockets).is_ok_and(|text| text.contains(":0043 "))
    }

    /// Everything it has said since it was first started.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap()).into_owned()
    }

    /// The leases that are in its file and not over, in the order of their addresses.
    pub fn leases(&self) -> Vec<Lease> {
        let file = self.folder.join("leases");
        if self.kind == Kind::Udhcpd && self.child.is_some() {
            // It writes them down when it is asked to.
            fs::remove_file(&file).unwrap();
            self.signal(Signal::SIGUSR1);
            wait(|| fs::metadata(&file).is_ok_and(|file| file.len() >= 8));
            // The last of its few writes may still be to come.
            thread::sleep(Duration::from_millis(20));
        }
        leases::read(self.kind, &fs::read(file).unwrap_or_default())
    }

    /// The addresses of its leases.
    pub fn leased(&self) -> Vec<Ipv4Addr> {
        self.leases().into_iter().map(|lease| lease.address).collect()
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{} has said:\n{}", self.kind, self.log());
        }
        self.kill();
    }
}
