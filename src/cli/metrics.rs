//! `underlay metrics`: what Prometheus reads, in its text format, version 0.0.4.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;

use super::network::inspect;
use super::output;
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
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
    let [in_use, free, quarantined, attachments] = of_networks(store)?;
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

/// Returns addresses in use, free, and in quarantine, and attachments. A network that cannot be read is reported and left out.
fn of_networks(store: &Store) -> Result<[Samples; 4]> {
    let [mut in_use, mut free, mut quarantined, mut attachments] = [const { Samples::new() }; 4];
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
                in_use.push((labels.clone(), subnet.usage.in_use));
                free.push((labels, subnet.usage.free));
            }
            quarantined.push((place, segment.quarantine.len() as u64));
        }
        for (state, alive) in [("alive", true), ("dead", false)] {
            let records = records.iter().filter(|record| kernel::is_alive(&record.holder) == alive);
            let links = records.flat_map(Record::attachments).filter(|attached| attached.network == name);
            attachments.push((labels(&[("network", &name), ("state", &state)]), links.count() as u64));
        }
    }
    Ok([in_use, free, quarantined, attachments])
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
