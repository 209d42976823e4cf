//! What a test needs of the machine it runs on.

use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::bed::{self, Bed, finish, run};
use crate::harness::container::Engine;
use crate::harness::place;

/// One thing a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Network namespaces and macvlan links on veth, as root.
    Macvlan,
    /// ipvlan links.
    Ipvlan,
    /// Links of type dummy.
    Dummy,
    /// VLAN sub-interfaces.
    Vlan,
    /// Bonds.
    Bond,
    /// Teams.
    Team,
    /// tap links.
    Tap,
    /// A wireless card made of software.
    Wireless,
    /// Users who may make user namespaces.
    Users,
    /// A guest, whose CPU is the same on all machines: the C library picks code by it.
    Guest,
    /// The cgroup controller of CPUs, in version 2.
    CpuController,
    /// Time namespaces.
    Time,
    /// CRIU, and a kernel that lets it freeze a process.
    Criu,
    /// A program that `tests/requirements` installs.
    Tool(&'static str),
    /// A program of a Debian with engines.
    Program(&'static str),
    /// An engine that starts containers here.
    Engine(Engine),
    /// A machine of the tests' own with underlay installed, whose /etc and /run may be written.
    Installed,
}

impl Need {
    /// Whether the kernel has it or has it not.
    pub fn is_of_kernel(self) -> bool {
        match self {
            Self::Macvlan | Self::Ipvlan | Self::Dummy | Self::Vlan | Self::Bond | Self::Team => true,
            Self::Tap | Self::Wireless | Self::Users | Self::Time | Self::CpuController => true,
            Self::Criu | Self::Guest => true,
            Self::Tool(_) | Self::Program(_) | Self::Engine(_) | Self::Installed => false,
        }
    }

    /// Whether it is among the programs of a Debian that the tests have for themselves.
    pub fn is_of_debian(self) -> bool {
        match self {
            Self::Program(_) | Self::Installed => true,
            Self::Engine(engine) => engine != Engine::Bare,
            _ => false,
        }
    }

    /// Why this is not to be had here, if it is not.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Macvlan => link_type("macvlan"),
            Self::Ipvlan => link_type("ipvlan"),
            Self::Dummy => link_type("dummy"),
            Self::Vlan => link_type("vlan"),
            Self::Bond => link_type("bond"),
            Self::Team => link_type("team"),
            Self::Tap => match std::fs::exists("/dev/net/tun") {
                Ok(true) => None,
                _ => Some("there is no /dev/net/tun".to_owned()),
            },
            Self::Wireless => run("modprobe", &["--dry-run", "mac80211_hwsim"]).err(),
            Self::Users => {
                let mut command = Command::new("unshare");
                finish(command.args(["--user", "--map-root-user", "--net", "true"]).uid(65534).gid(65534))
                    .err()
            }
            Self::Guest if place::is_guest() => None,
            Self::Guest => Some("this is no guest".to_owned()),
            Self::CpuController => match std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers") {
                Ok(controllers) if controllers.split_whitespace().any(|name| name == "cpu") => None,
                said => Some(format!("controllers in /sys/fs/cgroup: {said:?}")),
            },
            Self::Time => run("unshare", &["--time", "--boottime=1", "true"]).err(),
            Self::Criu => run("criu", &["check"]).err(),
            Self::Tool(name) | Self::Program(name) => match run("which", &[name]) {
                Ok(_) => None,
                Err(_) => Some(format!("{name} is not installed")),
            },
            Self::Engine(engine) => engine.missing(),
            Self::Installed => match std::env::var_os("UNDERLAY_TEST_INSTALLED") {
                Some(_) => None,
                None => Some("this is no machine to install on".to_owned()),
            },
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Macvlan => f.write_str("macvlan"),
            Self::Ipvlan => f.write_str("ipvlan"),
            Self::Dummy => f.write_str("dummy"),
            Self::Vlan => f.write_str("vlan"),
            Self::Bond => f.write_str("bond"),
            Self::Team => f.write_str("team"),
            Self::Tap => f.write_str("tap"),
            Self::Wireless => f.write_str("mac80211_hwsim"),
            Self::Guest => f.write_str("guest"),
            Self::CpuController => f.write_str("cpu-controller"),
            Self::Time => f.write_str("time-namespaces"),
            Self::Criu => f.write_str("criu"),
            Self::Tool(name) | Self::Program(name) => f.write_str(name),
            Self::Users => f.write_str("user-namespaces"),
            Self::Engine(engine) => write!(f, "{engine}"),
            Self::Installed => f.write_str("installation"),
        }
    }
}

/// Tries each type of link once.
fn link_type(kind: &'static str) -> Option<String> {
    static KNOWN: OnceLock<Vec<(&str, Option<String>)>> = OnceLock::new();
    let known = KNOWN.get_or_init(|| {
        let netns = bed::Netns::new("try");
        netns.ip("link add eth0 type veth peer name lan0");
        ["macvlan", "ipvlan", "dummy", "vlan", "bond", "team"]
            .map(|kind| {
                let (on, more) = match kind {
                    "dummy" | "bond" | "team" => ("", ""),
                    "vlan" => ("link eth0", "id 5"),
                    _ => ("link eth0", ""),
                };
                let tried = netns.try_run("ip", &format!("link add {on} name try0 type {kind} {more}"));
                if tried.is_ok() {
                    netns.ip("link del try0");
                }
                (kind, tried.err())
            })
            .to_vec()
    });
    known.iter().find(|(known, _)| *known == kind).and_then(|(_, missing)| missing.clone())
}

/// Whether `engine` starts a container without any hook.
pub fn engine_works(engine: Engine) -> Option<String> {
    if let Err(error) = run("which", &[engine.program()]) {
        return Some(error);
    }
    let bed = Bed::new();
    bed.container(engine, "try").without_hooks().start().err()
}
