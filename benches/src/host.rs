//! The machine that is measured on: a parent link to a LAN, and networks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::lan::{Lan, ifindex, ip};
use crate::measure::Job;

/// Where the programs are, and the parents. underlay's files are in the default folders: a hook that is told others takes more
/// instructions.
pub struct Host {
    pub folder: PathBuf,
    /// The programs of this crate.
    pub programs: PathBuf,
    pub underlay: PathBuf,
    /// The number of the parent.
    pub parent: u32,
    /// What it has besides macvlan.
    pub ipvlan: bool,
    pub vlan: bool,
    lan: Lan,
}

/// Where underlay has its ledger.
pub const STATE: &str = "/run/underlay";
/// The parent of all networks.
pub const PARENT: &str = "bench0";

/// Whether `program` is on this machine: what is not is not measured. In the guest all are.
pub fn has(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    found.unwrap().success()
}

/// Whether this kernel makes links of type `kind` with `options`, on PARENT.
fn makes(kind: &str, options: &str) -> bool {
    let words = format!("link add link {PARENT} name probe0 type {kind} {options}");
    let made = Command::new("ip").args(words.split_whitespace()).stderr(Stdio::null()).status();
    let made = made.unwrap().success();
    if made {
        ip("link del probe0");
    }
    made
}

impl Host {
    pub fn new(underlay: &Path, programs: &Path) -> Self {
        let folder = PathBuf::from("/run/underlay-bench");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        let lan = Lan::new();
        lan.connect(PARENT, "lan0");
        ip(&format!("addr add 10.200.0.1/24 dev {PARENT}"));
        let parent = ifindex(PARENT);
        let (ipvlan, vlan) = (makes("ipvlan", ""), makes("vlan", "id 9"));
        let (underlay, programs) = (underlay.to_owned(), programs.to_owned());
        let host = Self { folder, programs, underlay, parent, ipvlan, vlan, lan };
        let v4 = "--subnet 10.201.0.0/16 --gateway 10.201.0.1";
        let v6 = "--subnet 2001:db8:201::/64 --gateway 2001:db8:201::1";
        let off = "-o conflict_detection=off -o announcements=0";
        host.create("macvlan", &format!("{v4} {off} m4"));
        host.create("macvlan", &format!("{v4} {v6} {off} m46"));
        host.create("macvlan", "--subnet 10.202.0.0/16 --gateway 10.202.0.1 probed");
        host.create("macvlan", &format!("--subnet 10.203.0.0/24 {off} second"));
        host.create("macvlan", &format!("--subnet 10.204.0.0/24 {off} third"));
        if host.vlan {
            ip(&format!("link add link {PARENT} name {PARENT}.7 type vlan id 7"));
            ip(&format!("link set {PARENT}.7 up"));
            host.create("macvlan", &format!("{v4} {off} -o parent={PARENT}.7 vlan"));
        }
        if host.ipvlan {
            // macvlan and ipvlan have no parent in common.
            host.lan.connect(&format!("{PARENT}i"), "lan1");
            host.create("ipvlan", &format!("{v4} {off} -o parent={PARENT}i i4"));
            host.create("ipvlan", &format!("{v4} {v6} {off} -o parent={PARENT}i i46"));
        }
        host
    }

    fn create(&self, driver: &str, options: &str) {
        let parent = if options.contains("parent=") { String::new() } else { format!("-o parent={PARENT}") };
        Job::new(&format!("{} network create -d {driver} {parent} {options}", self.underlay.display())).run();
    }

    pub fn hook(&self, stage: &str, state: String) -> Job {
        Job::new(&format!("{} hook {stage}", self.underlay.display())).stdin(state)
    }

    pub fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }

    /// The folder of the leases on the parent.
    pub fn segment(&self) -> PathBuf {
        Path::new(STATE).join("segments").join(self.parent.to_string())
    }

    /// The folder of the maps of its pools.
    pub fn maps(&self) -> PathBuf {
        Path::new(STATE).join("maps").join(self.parent.to_string())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
