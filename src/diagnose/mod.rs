//! `underlay doctor` and `underlay check`.
//!
//! `doctor.rs` collects facts, one file for each subject turns them into findings (`finding.rs`). `check.rs` reads ledger
//! and kernel, `compare.rs` lists what differs (`difference.rs`). `system.rs` and `ask.rs` read the files of other
//! programs, and what these programs say.

pub(crate) mod ask;
pub(crate) mod check;
mod check_host;
pub(crate) mod compare;
pub(crate) mod containers;
pub(crate) mod difference;
pub(crate) mod docker;
pub(crate) mod doctor;
pub(crate) mod finding;
pub(crate) mod hooks;
pub(crate) mod links;
pub(crate) mod modules;
pub(crate) mod permissions;
pub(crate) mod programs;
pub(crate) mod quarantine;
pub(crate) mod system;

use crate::escape::shell;
use crate::net::driver::Driver;

/// The command that gives the network in `file` another driver, mode and flag.
fn edit_driver(file: &str, driver: Driver) -> String {
    let words = match driver {
        Driver::Macvlan { mode } => format!(r#""driver": "macvlan", "macvlan_mode": "{mode}""#),
        Driver::Ipvlan { mode, flag } => {
            format!(r#""driver": "ipvlan", "ipvlan_mode": "{mode}", "ipvlan_flag": "{flag}""#)
        }
    };
    let script = format!(
        r#"s/,\s*"(macvlan_mode|ipvlan_mode|ipvlan_flag)"\s*:\s*"\w+"//g; s/"driver"\s*:\s*"\w+"/{words}/"#
    );
    format!("sed -Ezi {} {}", shell::word(&script), shell::word(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{IpvlanFlag, IpvlanMode, MacvlanMode};

    /// A line for a shell, each word quoted.
    #[test]
    fn another_driver() {
        let clear =
            r#"s/,\s*"(macvlan_mode|ipvlan_mode|ipvlan_flag)"\s*:\s*"\w+"//g; s/"driver"\s*:\s*"\w+"/"#;
        let l3 = Driver::Ipvlan { mode: IpvlanMode::L3, flag: IpvlanFlag::Private };
        for (driver, words) in [
            (Driver::Macvlan { mode: MacvlanMode::Vepa }, r#""driver": "macvlan", "macvlan_mode": "vepa""#),
            (l3, r#""driver": "ipvlan", "ipvlan_mode": "l3", "ipvlan_flag": "private""#),
        ] {
            let expected = format!("sed -Ezi '{clear}{words}/' '/etc/my networks/lan.json'");
            assert_eq!(edit_driver("/etc/my networks/lan.json", driver), expected);
        }
    }
}
