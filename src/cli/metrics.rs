//! `underlay metrics`: what Prometheus reads, in its text format, version 0.0.4.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;

use super::network::inspect;
use super::output;
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::netlink::Socket;

/// The labels of each sample of a metric, and its value.
type Samples = Vec<(String, u64)>;

/// Returns labels with their values, as the text format writes them: `\`, `"` and line breaks are escaped.
fn labels(labels: &[(&str, &dyn Display)]) -> String {
    let escaped = |value: &dyn Display| {
        value.to_string().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
    };
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    labels.collect::<Vec<_>>().join(",")
}

pub(super) fn print(store: &Store) -> Result<()> {
    let Networks { in_use, free, quarantined, attachments, leased, asking, expiry } = of_networks(store)?;
    let metrics = [
        ("underlay_addresses_in_use", "gauge", "Addresses of a subnet that are held or reserved.", in_use),
        ("underlay_addresses_free", "gauge", "Addresses of a pool that can be allocated.", free),
        (
            "underlay_addresses_quarantined",
            "gauge",
            "Addresses that other hosts on the LAN have.",
            quarantined,
        ),
        ("underlay_attachments", "gauge", "Links of containers, alive and dead.", attachments),
        ("underlay_dhcp_leases", "gauge", "Links with an address of a DHCP server.", leased),
        ("underlay_dhcp_asking", "gauge", "Links that wait for an address of a DHCP server.", asking),
        (
            "underlay_dhcp_expiry_seconds",
            "gauge",
            "Time until the first lease ends if it is not renewed.",
            expiry,
        ),
        ("underlay_events_total", "counter", "Events since the last boot.", events(store)?),
    ];
    for (name, kind, help, samples) in metrics {
        output::line(&format!("# HELP {name} {help}"))?;
        output::line(&format!("# TYPE {name} {kind}"))?;
        for (labels, value) in samples {
            output::line(&format!("{name}{{{labels}}} {value}"))?;
        }
    }
    Ok(())
}

/// The samples of the metrics that are by network.
#[derive(Default)]
struct Networks {
    in_use: Samples,
    free: Samples,
    quarantined: Samples,
    attachments: Samples,
    leased: Samples,
    asking: Samples,
    expiry: Samples,
}

/// Returns what is by network. A network that cannot be read is reported and left out.
fn of_networks(store: &Store) -> Result<Networks> {
    let mut all = Networks::default();
    let records = store.records()?.sound;
    let mut host = Socket::open()?;
    let on_host: BTreeSet<IpAddr> = host.addresses()?.into_iter().collect();
    for name in store.network_names()? {
        let Ok(network) = store.network(&name).inspect_err(output::error) else { continue };
        let (own, vlans) = inspect::segments(store, &network, &records, &on_host, &mut host)?;
        for segment in [own].into_iter().chain(vlans) {
            let Some(usage) = segment.usage else { continue };
            let place = labels(&[("network", &name), ("parent", &segment.parent_link.name)]);
            for subnet in &usage {
                let labels = format!("{place},{}", labels(&[("subnet", &subnet.subnet)]));
                all.in_use.push((labels.clone(), subnet.usage.in_use));
                all.free.push((labels, subnet.usage.free));
            }
            all.quarantined.push((place, segment.quarantine.len() as u64));
        }
        for (state, alive) in [("alive", true), ("dead", false)] {
            let records = records.iter().filter(|record| kernel::is_alive(&record.holder) == alive);
            let links = records.flat_map(Record::attachments).filter(|attached| attached.network == name);
            all.attachments.push((labels(&[("network", &name), ("state", &state)]), links.count() as u64));
        }
        if network.file.dhcp.is_some() {
            let alive = records.iter().filter(|record| kernel::is_alive(&record.holder));
            let links = alive.flat_map(Record::attachments).filter(|attached| attached.network == name);
            all.add_leases(&labels(&[("network", &name)]), links);
        }
    }
    Ok(all)
}

impl Networks {
    /// Adds the leases of `links`, which are of the network that has these `labels`.
    fn add_leases<'a>(&mut self, labels: &str, links: impl Iterator<Item = &'a Attached> + Clone) {
        let sample = |value| (labels.to_owned(), value);
        self.asking.push(sample(links.clone().filter(|attached| attached.is_asking()).count() as u64));
        let leases: Vec<_> = links.flat_map(Attached::dhcp_leases).collect();
        self.leased.push(sample(leases.len() as u64));
        let ends = leases.iter().filter_map(|lease| lease.times().limits).map(|limits| limits.expiry);
        let first = ends.min().map(|end| sample(end.saturating_sub(since_boot()).as_secs()));
        self.expiry.extend(first);
    }
}

/// Returns how many events there were. All kinds are there from the start, so that a rate counts the first event.
fn events(store: &Store) -> Result<Samples> {
    let totals = store.event_totals()?;
    let sample = |kind| (labels(&[("event", &kind)]), totals.get(kind).copied().unwrap_or_default());
    Ok(Event::KINDS.map(sample).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let text = labels(&[("a", &"e\"x\\"), ("b", &"one\ntwo"), ("c", &7)]);
        assert_eq!(text, r#"a="e\"x\\",b="one\ntwo",c="7""#);
    }
}
