//! Addresses that containers do not get because other hosts answered for them.

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::Line;
use crate::ledger::Store;
use crate::ledger::quarantine::{Quarantined, by_host, in_words};
use crate::net::link::HostLinkInfo;

/// So many addresses of one host are no accident.
const MANY: usize = 8;

/// What is in quarantine on each of `links`. A ledger that cannot be read is a finding of another file.
pub(crate) fn quarantine(store: &Store, links: &[HostLinkInfo]) -> Vec<Finding> {
    let of_segment = |segment| {
        let parent = links.iter().find(|link| link.link.ifindex == segment)?;
        let entries: Vec<_> = store.quarantined(segment).into_iter().map(|(_, entry)| entry).collect();
        finding(&parent.link.name, &entries)
    };
    store.segments().unwrap_or_default().into_iter().filter_map(of_segment).collect()
}

fn finding(parent: &str, all: &[Quarantined]) -> Option<Finding> {
    let hosts = by_host(all);
    let (severity, why) = match *hosts.values().max()? {
        ..MANY => (
            Severity::Note,
            "containers get other addresses, and these again when no host answers for them any more",
        ),
        MANY.. => (
            Severity::Warning,
            "a host that answers for addresses it does not have, as a router with proxy ARP does, keeps containers from \
             them: find it by its MAC address, then set them free",
        ),
    };
    let count = if all.len() == 1 { "1 address".to_owned() } else { format!("{} addresses", all.len()) };
    Some(Finding::new(
        (Area::Parents, severity, "quarantine"),
        format!("{count} in quarantine on {parent}, because other hosts answered: {}", in_words(&hosts)),
        why,
        Line::of("underlay gc --quarantine"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mac::MacAddr;

    #[test]
    fn some_and_many() {
        let entry = Quarantined { mac: MacAddr::from_bytes([2, 0, 0, 0, 0, 1]), until: 1 };
        assert_eq!(finding("eth0", &[]), None);
        let one = finding("eth0", &[entry]).unwrap();
        assert_eq!(
            one.what,
            "1 address in quarantine on eth0, because other hosts answered: 1 by 02:00:00:00:00:01"
        );
        assert_eq!(one.severity, Severity::Note);
        assert_eq!(finding("eth0", &[entry; MANY]).unwrap().severity, Severity::Warning);
    }
}
