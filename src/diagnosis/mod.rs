//! From facts to findings, one subject each: what `underlay doctor` knows.

pub mod containers;
pub mod docker;
pub mod files;
pub mod hooks;
pub mod kernel;
pub mod machine;
pub mod parents;
pub mod programs;
pub mod quarantine;

use crate::driver::Driver;
use crate::shell;

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
