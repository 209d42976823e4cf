//! Addresses that containers do not get because somebody else answers for them.

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::Line;
use crate::ledger::quarantine::{Quarantined, by_host, in_words};

/// Of so many addresses nobody has each by an accident of his own.
const MANY: usize = 8;

/// What is set aside on the link called `parent`.
pub(crate) fn set_aside(parent: &str, all: &[Quarantined]) -> Option<Finding> {
    let hosts = by_host(all);
    let &most = hosts.values().max()?;
    let (severity, why) = match most < MANY {
        true => {
            (Severity::Note, "containers get other addresses, and these again when nobody answers for them")
        }
        false => (
            Severity::Warning,
            "a host that answers for addresses it does not have, as a router with proxy ARP does, keeps containers from \
             them: find it by its MAC address, then set them free",
        ),
    };
    let count = match all.len() {
        1 => "one address is".to_owned(),
        many => format!("{many} addresses are"),
    };
    let what = format!("{count} set aside on {parent}, for others answered: {}", in_words(&hosts));
    let fix = Line::of("underlay gc --quarantine");
    Some(Finding::new((Area::Parents, severity, "quarantine"), what, why, fix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mac::MacAddr;

    #[test]
    fn some_and_many() {
        let entry = Quarantined { mac: MacAddr::from_bytes([2, 0, 0, 0, 0, 1]), until: 1 };
        assert_eq!(set_aside("eth0", &[]), None);
        let one = set_aside("eth0", &[entry]).unwrap();
        assert_eq!(one.what, "one address is set aside on eth0, for others answered: 1 by 02:00:00:00:00:01");
        assert_eq!(one.severity, Severity::Note);
        assert_eq!(set_aside("eth0", &[entry; MANY]).unwrap().severity, Severity::Warning);
    }
}
