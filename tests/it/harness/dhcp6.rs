//! DHCPv6 servers and routers on the LAN of a bed: real ones, each with files of its own in the bed's folder.

use std::fs::{self, File};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::bed::{Bed, Netns};
use crate::harness::container::wait;
use crate::harness::dhcp::Kind;
use crate::harness::need::Need;

/// Those that the tests have.
pub const KINDS: [Kind; 2] = [Kind::Dnsmasq, Kind::Kea];
pub const KEA6: Need = Need::Program("kea-dhcp6");
pub const RADVD: Need = Need::Tool("radvd");

/// What a test with the server `kind` needs.
pub const fn need(kind: Kind) -> Need {
    match kind {
        Kind::Kea => KEA6,
        other => other.need(),
    }
}

/// The address `last` of the LAN number `lan`.
pub fn ip6(lan: u16, last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, lan, 0, 0, 0, 0, last)
}

/// How a server is configured.
#[derive(Clone, Debug)]
pub struct Options6 {
    /// The number of the LAN: the prefix is 2001:db8:NUMBER::/64, and the server is its address 1.
    pub lan: u16,
    /// The last parts of the first and the last address that it gives.
    pub range: [u16; 2],
    /// Seconds. dnsmasq has one time for both, of two minutes at least.
    pub preferred: u32,
    pub valid: u32,
    pub t1_t2: Option<(u32, u32)>,
    /// Whether a client that asks for it gets a lease at once. dnsmasq always does that.
    pub rapid_commit: bool,
    /// Whether a lease is renewed that the server does not know, by dnsmasq. Kea always does that.
    pub authoritative: bool,
}

impl Default for Options6 {
    /// 2001:db8:77::100 to 2001:db8:77::1ff for an hour.
    fn default() -> Self {
        Self {
            lan: 0x77,
            range: [0x100, 0x1ff],
            preferred: 3000,
            valid: 3600,
            t1_t2: None,
            rapid_commit: false,
            authoritative: true,
        }
    }
}

impl Options6 {
    /// Short leases, which Kea has: renewed after 2 seconds, rebound after 4, over after 6.
    pub fn short() -> Self {
        Self { preferred: 5, valid: 6, t1_t2: Some((2, 4)), ..Self::default() }
    }
}

/// A lease as its server knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease6 {
    pub address: Ipv6Addr,
    pub duid: String,
    pub iaid: u32,
    pub host_name: String,
}

/// A process on the LAN; gone when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server, which runs until it is stopped; gone when dropped.
pub struct Server6<'a> {
    pub kind: Kind,
    pub options: Options6,
    netns: &'a Netns,
    folder: PathBuf,
    process: Option<Process>,
}

impl<'a> Server6<'a> {
    /// Starts it on the LAN of `bed`, and waits until it serves. There can be one there.
    pub fn start(bed: &'a Bed, kind: Kind, options: Options6) -> Self {
        let folder = bed.path("dhcp6");
        fs::create_dir_all(&folder).unwrap();
        let mut server = Self { kind, options, netns: &bed.lan, folder, process: None };
        server.restart();
        server
    }

    /// Starts it again with what it knows of its leases; stops it before, if it runs.
    pub fn restart(&mut self) {
        self.stop();
        self.netns.ip(&format!("addr replace {}/64 dev lan0 nodad", ip6(self.options.lan, 1)));
        // Kea does not wait until it may use the link's own address.
        wait(|| self.netns.ip("-6 addr show dev lan0 tentative").is_empty());
        let conf = self.folder.join("conf");
        fs::write(&conf, if self.kind == Kind::Kea { self.kea() } else { self.dnsmasq() }).unwrap();
        File::options().create(true).append(true).open(self.folder.join("leases")).unwrap();
        let log = File::options().create(true).append(true).open(self.folder.join("log")).unwrap();
        let said = log.metadata().unwrap().len() as usize;
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let pid = self.process.insert(Process(command.spawn().unwrap())).0.id();
        let ready = if self.kind == Kind::Kea { "DHCP6_STARTED" } else { "DHCPv6, IP range" };
        let has_port = || {
            let sockets = fs::read_to_string(format!("/proc/{pid}/net/udp6"));
            sockets.is_ok_and(|text| text.contains(":0223 "))
        };
        let until = Instant::now() + Duration::from_secs(60);
        while !(self.log()[said..].contains(ready) && has_port()) {
            assert!(Instant::now() < until, "{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Restarts it with other options.
    pub fn change(&mut self, change: impl FnOnce(&mut Options6)) {
        change(&mut self.options);
        self.restart();
    }

    /// Ends it in its own way.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(Pid::from_raw(process.0.id() as i32), Signal::SIGTERM).unwrap();
            process.0.wait().unwrap();
        }
    }

    /// Deletes what it knows of its leases. dnsmasq has its own DUID in the same file, and keeps that.
    pub fn forget(&self) {
        let file = self.folder.join("leases");
        let text = fs::read_to_string(&file).unwrap();
        let own: String =
            text.lines().filter(|line| line.starts_with("duid ")).map(|line| format!("{line}\n")).collect();
        fs::write(file, own).unwrap();
    }

    /// Everything it has said since it was first started.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap()).into_owned()
    }

    /// The leases that are in its file and not over, in the order of their addresses.
    pub fn leases(&self) -> Vec<Lease6> {
        let text = fs::read_to_string(self.folder.join("leases")).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut leases: Vec<Lease6> = Vec::new();
        for line in text.lines() {
            let of_kea: Vec<_> = line.split(',').collect();
            let of_dnsmasq: Vec<_> = line.split(' ').collect();
            let (lease, end) = match (&of_kea[..], &of_dnsmasq[..]) {
                // A line for each change.
                (&[address, duid, valid, end, _, _, _, iaid, _, _, _, host_name, _, state, ..], _)
                    if address != "address" =>
                {
                    let is_over = state != "0" || valid == "0";
                    (lease(address, duid, iaid, host_name), if is_over { 0 } else { end.parse().unwrap() })
                }
                (_, &[end, iaid, address, host_name, duid]) => {
                    (lease(address, duid, iaid, host_name), end.parse().unwrap())
                }
                _ => continue,
            };
            leases.retain(|other| other.address != lease.address);
            leases.extend(Some(lease).filter(|_| end > now));
        }
        leases.sort_by_key(|lease| lease.address);
        leases
    }

    /// The addresses of its leases.
    pub fn leased(&self) -> Vec<Ipv6Addr> {
        self.leases().into_iter().map(|lease| lease.address).collect()
    }

    fn command(&self) -> Command {
        let conf = self.folder.join("conf").display().to_string();
        if self.kind != Kind::Kea {
            let mut command = self.netns.command("dnsmasq");
            command.args(["--keep-in-foreground", "--log-facility=-", &format!("--conf-file={conf}")]);
            return command;
        }
        let mut command = self.netns.command("kea-dhcp6");
        command.args(["-c", &conf]);
        // Versions since 2.6.3 have files in these folders alone.
        for name in ["PIDFILE_DIR", "LOCKFILE_DIR", "DHCP_DATA_DIR", "LOG_FILE_DIR"] {
            command.env(format!("KEA_{name}"), &self.folder);
        }
        command.env("KEA_LOGGER_DESTINATION", "stdout");
        command
    }

    fn dnsmasq(&self) -> String {
        let Options6 { lan, range: [first, last], valid, authoritative, .. } = self.options;
        let authoritative = if authoritative { "dhcp-authoritative\n" } else { "" };
        let (first, last, folder) = (ip6(lan, first), ip6(lan, last), self.folder.display());
        format!(
            "port=0\nuser=root\ninterface=lan0\nlog-dhcp\npid-file={folder}/pid\ndhcp-leasefile={folder}/leases\n\
             {authoritative}dhcp-range={first},{last},64,{valid}\ndhcp-option=option6:dns-server,[{}]\n",
            ip6(lan, 1)
        )
    }

    fn kea(&self) -> String {
        let Options6 { lan, range: [first, last], preferred, valid, t1_t2, rapid_commit, .. } = self.options;
        let mut dhcp6 = json!({
            "interfaces-config": {"interfaces": ["lan0"]},
            "lease-database": {
                "type": "memfile", "persist": true, "name": self.folder.join("leases"), "lfc-interval": 0,
            },
            "server-id": {"type": "LL", "persist": false},
            "preferred-lifetime": preferred,
            "valid-lifetime": valid,
            "ddns-send-updates": false,
            "subnet6": [{
                "id": 1, "subnet": format!("{}/64", ip6(lan, 0)), "interface": "lan0", "rapid-commit": rapid_commit,
                "pools": [{"pool": format!("{}-{}", ip6(lan, first), ip6(lan, last))}],
                "option-data": [{"name": "dns-servers", "data": ip6(lan, 1).to_string()}],
            }],
        });
        if let Some((t1, t2)) = t1_t2 {
            dhcp6["renew-timer"] = t1.into();
            dhcp6["rebind-timer"] = t2.into();
        }
        json!({"Dhcp6": dhcp6}).to_string()
    }
}

fn lease(address: &str, duid: &str, iaid: &str, host_name: &str) -> Lease6 {
    Lease6 {
        address: address.parse().unwrap(),
        duid: duid.replace(':', ""),
        iaid: iaid.parse().unwrap(),
        host_name: host_name.trim_end_matches('.').to_owned(),
    }
}

impl Drop for Server6<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the DHCPv6 server has said:\n{}", self.log());
        }
    }
}

/// A router on the LAN, which advertises that addresses are to be asked for (the flag M), and the prefix as one of the link.
pub struct Router6 {
    _process: Process,
}

impl Router6 {
    /// `autonomous`: addresses can be made of the prefix, too.
    pub fn start(bed: &Bed, lan: u16, autonomous: bool) -> Self {
        bed.lan.ip(&format!("addr replace {}/64 dev lan0 nodad", ip6(lan, 1)));
        let (conf, pid) = (bed.path("radvd.conf"), bed.path("radvd.pid"));
        let autonomous = if autonomous { "on" } else { "off" };
        let text = format!(
            "interface lan0 {{ AdvSendAdvert on; AdvManagedFlag on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n\
             prefix {}/64 {{ AdvOnLink on; AdvAutonomous {autonomous}; }}; }};\n",
            ip6(lan, 0)
        );
        fs::write(&conf, text).unwrap();
        let mut radvd = bed.lan.command("radvd");
        radvd.arg("--nodaemon").arg("--config").arg(conf).arg("--pidfile").arg(pid);
        radvd.args(["--logmethod", "stderr"]);
        let radvd = radvd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { _process: Process(radvd) }
    }
}
