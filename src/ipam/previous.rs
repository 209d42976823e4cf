//! What an identity had when it was attached last, so that it can have the same again.
//!
//! It is written as the annotation that would ask for it (`lan:ip=10.0.0.9,mac=02:00:00:00:00:09;wan:…`). It is no
//! request: what is held by now, or no longer in the range of the network, is skipped.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::error::Result;
use crate::ledger::record::Record;
use crate::net::lease_key::LeaseKey;
use crate::net::mac::MacAddr;
use crate::net::name::NetworkName;
use crate::oci::annotations::{self, Attachment};

/// The longest text: what a symbolic link can hold on every file system (XFS: 1024 bytes with the final zero).
const LONGEST: usize = 1023;

/// What one attachment had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PreviousAddresses {
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address.
    pub mac: Option<MacAddr>,
}

impl PreviousAddresses {
    /// All that it had.
    pub(crate) fn claims(&self) -> impl Iterator<Item = LeaseKey> {
        self.addresses.iter().copied().map(LeaseKey::from).chain(self.mac.map(LeaseKey::from))
    }
}

/// What was remembered of an identity, or is to be: by network, in order.
pub(crate) type Remembered = Vec<(NetworkName, PreviousAddresses)>;

/// What `record` holds.
pub(crate) fn held(record: &Record) -> Remembered {
    let held = record.attachments().iter().map(|attached| {
        let addresses = attached.addresses.iter().map(IpNet::addr).collect();
        (attached.network.clone(), PreviousAddresses { addresses, mac: attached.own_mac() })
    });
    held.filter(|(_, held)| held.claims().next().is_some()).collect()
}

/// Whether `remembered` says of the networks of `held` what that says.
pub(crate) fn says(remembered: &Remembered, held: &Remembered) -> bool {
    let is_of = |network: &NetworkName| held.iter().any(|(other, _)| other == network);
    remembered.iter().filter(|(network, _)| is_of(network)).eq(held)
}

/// Writes `held`, and what was `remembered` of other networks: engines with networks of their own attach a container network by
/// network. Of all that, as much as fits.
pub(crate) fn write(held: &Remembered, remembered: &Remembered) -> String {
    let is_other = |network: &NetworkName| held.iter().all(|(own, _)| own != network);
    let others = remembered.iter().filter(|(network, _)| is_other(network));
    let mut text = String::new();
    for (network, PreviousAddresses { addresses, mac }) in held.iter().chain(others) {
        let addresses = addresses.iter().map(|address| format!("ip={address}"));
        let words: Vec<_> = addresses.chain(mac.map(|mac| format!("mac={mac}"))).collect();
        let separator = if text.is_empty() { "" } else { ";" };
        let longer = format!("{text}{separator}{network}:{}", words.join(","));
        if longer.len() > LONGEST {
            break;
        }
        text = longer;
    }
    text
}

/// Reads what [`write`] wrote: what each attachment had, by network, in order.
///
/// # Errors
/// When `text` is something else, or of a newer version.
pub(crate) fn read(text: &str) -> Result<Remembered> {
    let previous = |attachment: Attachment| {
        let addresses = attachment.ips.iter().map(|ip| ip.address).collect();
        (attachment.network, PreviousAddresses { addresses, mac: attachment.mac })
    };
    Ok(annotations::short_form(text)?.into_iter().map(previous).collect())
}

/// What each of `requests` had: the second attachment to a network gets what the second had.
pub(crate) fn of<'a>(
    requests: impl Iterator<Item = &'a Attachment>,
    remembered: &Remembered,
) -> Vec<PreviousAddresses> {
    let mut rest: Vec<_> = remembered.iter().collect();
    let previous = |request: &Attachment| {
        let at = rest.iter().position(|(network, _)| *network == request.network);
        at.map(|at| rest.remove(at).1.clone()).unwrap_or_default()
    };
    requests.map(previous).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::annotations::short_form;

    fn record(attachments: &str) -> Record {
        let text = format!(
            r#"{{"version": 1, "container": "web", "state": "attached",
                "holder": {{"pid": 7, "start_time": 8, "netns": {{"device": 4, "inode": 5}}}},
                "attachments": [{attachments}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn attached(network: &str, driver: &str, addresses: &str) -> String {
        format!(
            r#"{{"network": "{network}", "driver": {driver}, "parent": "eth0", "parent_index": 2, "segment": 2,
                "ifname": "eth0", "mac": "02:00:00:00:00:09", "addresses": [{addresses}], "routes": []}}"#
        )
    }

    fn text(attachments: &str) -> String {
        write(&held(&record(attachments)), &Vec::new())
    }

    /// A container that is attached network by network.
    #[test]
    fn other_networks_stay() {
        let held = |attachments: &[&String]| {
            held(&record(&attachments.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(",")))
        };
        let [lan, moved] =
            ["10.0.0.9", "10.0.0.10"].map(|ip| attached("lan", MACVLAN, &format!("\"{ip}/24\"")));
        let wan = attached("wan", MACVLAN, r#""10.1.0.9/24""#);
        let remembered = read(&write(&held(&[&lan]), &Vec::new())).unwrap();
        let both = read(&write(&held(&[&wan]), &remembered)).unwrap();
        assert_eq!(both, held(&[&wan, &lan]));
        for (own, says) in [([&lan], true), ([&wan], true), ([&moved], false)] {
            assert_eq!(super::says(&both, &held(&own)), says);
        }
        assert!(!super::says(&remembered, &held(&[&lan, &lan])), "two links in one network");
        assert_eq!(write(&held(&[&moved]), &both).matches("lan:").count(), 1);
    }

    const MACVLAN: &str = r#"{"kind": "macvlan", "mode": "bridge"}"#;

    #[test]
    fn written_and_read() {
        let ipvlan = r#"{"kind": "ipvlan", "mode": "l2", "flag": "bridge"}"#;
        let both = [
            attached("lan", MACVLAN, r#""10.0.0.9/24", "2001:db8::9/64""#),
            attached("san", ipvlan, ""),
            attached("wan", ipvlan, r#""10.1.0.9/24""#),
        ];
        let text = text(&both.join(","));
        assert_eq!(text, "lan:ip=10.0.0.9,ip=2001:db8::9,mac=02:00:00:00:00:09;wan:ip=10.1.0.9");
        let read = read(&text).unwrap();
        assert_eq!((read.len(), read[0].1.claims().count(), read[1].1.claims().count()), (2, 3, 1));
        let wanted = of(short_form("wan;lan;lan").unwrap().iter(), &read);
        assert_eq!(wanted, [read[1].1.clone(), read[0].1.clone(), PreviousAddresses::default()]);
        assert_eq!(super::tests::text(""), "");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let many: Vec<_> =
            (0..30).map(|n| attached(&format!("network-{n}"), MACVLAN, r#""10.0.0.9/24""#)).collect();
        let text = text(&many.join(","));
        assert!(text.len() <= LONGEST && read(&text).unwrap().len() > 15, "{text}");
    }

    #[test]
    fn odd_ones() {
        for text in
            ["", "/etc/passwd", "lan:ip=x", "lan:vni=5", "lan:ip=10.0.0.9;", "../../containers/a.json"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
