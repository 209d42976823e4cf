//! `underlay network create -o`: options of the driver, in Docker's and podman's words.

use std::str::FromStr;

use crate::config::network_file::NetworkFile;
use crate::error::{Error, Kind, Result};
use crate::net::driver::Kind as Driver;
use crate::net::name::IfName;

/// Sets what one `-o KEY=VALUE` says.
///
/// # Errors
/// When there is no such option, or it cannot have this value.
pub(super) fn set(file: &mut NetworkFile, key: &str, value: &str) -> Result<()> {
    fn word<T: FromStr<Err = Error>>(place: &mut Option<T>, key: &str, value: &str) -> Result<()> {
        *place = Some(value.parse().map_err(|error: Error| error.within(format!("option {key}")))?);
        Ok(())
    }
    fn number<T: FromStr>(place: &mut Option<T>, key: &str, value: &str) -> Result<()> {
        let wrong = |_| Error::input(format!("option {key}: {value:?} is no number"));
        *place = Some(value.parse().map_err(wrong)?);
        Ok(())
    }
    match (key, file.driver) {
        // Docker: empty is none.
        ("parent", _) if value.is_empty() => Ok(()),
        ("parent", _) => word::<IfName>(&mut file.parent, key, value),
        ("vlan", _) => word(&mut file.vlan, key, value),
        ("vlans", _) => word(&mut file.vlans, key, value),
        ("vlan_protocol", _) => word(&mut file.vlan_protocol, key, value),
        // podman's spelling, the same for both drivers.
        ("macvlan_mode", _) | ("mode", Driver::Macvlan) => word(&mut file.macvlan_mode, key, value),
        ("ipvlan_mode", _) | ("mode", Driver::Ipvlan) => word(&mut file.ipvlan_mode, key, value),
        ("ipvlan_flag", _) => word(&mut file.ipvlan_flag, key, value),
        ("mtu" | "com.docker.network.driver.mtu", _) => number(&mut file.mtu, key, value),
        ("table", _) => word(&mut file.table, key, value),
        ("metric", _) => number(&mut file.metric, key, value),
        ("txqueuelen", _) => number(&mut file.txqueuelen, key, value),
        ("bcqueuelen", _) => number(&mut file.bcqueuelen, key, value),
        ("source_macs", _) => {
            let macs = value.split(',').map(|mac| mac.trim().parse()).collect::<Result<_>>();
            file.source_macs = macs.map_err(|error| error.within(format!("option {key}")))?;
            Ok(())
        }
        ("conflict_detection", _) => word(&mut file.conflict_detection, key, value),
        ("announcements", _) => number(&mut file.announcements, key, value),
        ("bclim", _) => number(&mut file.bclim, key, value),
        ("ipv6", _) => word(&mut file.ipv6, key, value),
        ("no_default_route", _) => {
            let wrong = |_| Error::input(format!("option {key}: {value:?} is neither true nor false"));
            file.no_default_route = value.parse().map_err(wrong)?;
            Ok(())
        }
        _ => Err(Error::new(Kind::Usage, format!("option {key:?} is not known")).hint(
            "use parent, vlan, vlans, vlan_protocol, macvlan_mode, ipvlan_mode, ipvlan_flag, mode, mtu, table, metric, \
             no_default_route, ipv6, bclim, txqueuelen, bcqueuelen, source_macs, conflict_detection, announcements",
        )),
    }
}
