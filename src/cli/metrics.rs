//! `underlay metrics`: what Prometheus reads, in its text format, version 0.0.4.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};
use std::net::IpAddr;

use super::network::inspect;
use super::output;
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::netlink::Socket;

/// A metric with its samples: labels and value.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: Vec<(String, u64)>,
}

impl Metric {
    fn new(name: &'static str, kind: &'static str, help: &'static str) -> Self {
        Self { name, kind, help, samples: Vec::new() }
    }

    fn add(&mut self, labels: String, value: u64) {
        self.samples.push((labels, value));
    }
}

/// Labels with their values, as the text format wants them: `\`, `"` and line breaks escaped.
fn labels(labels: &[(&str, &dyn Display)]) -> String {
    let escaped = |value: &dyn Display| {
        value.to_string().replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
    };
    let labels = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
    labels.collect::<Vec<_>>().join(",")
}

pub(super) fn print(store: &Store) -> Result<()> {
    let mut text = String::new();
    for Metric { name, kind, help, samples } in addresses(store)?.into_iter().chain([events(store)?]) {
        // Writing to a string does not fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in samples {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    }
    text.trim_end().lines().try_for_each(output::line)
}

/// How full the networks are. One whose file is wrong is said, and the others go on.
fn addresses(store: &Store) -> Result<[Metric; 4]> {
    let mut used =
        Metric::new("underlay_addresses_in_use", "gauge", "Addresses of a subnet that are held or reserved.");
    let mut free = Metric::new("underlay_addresses_free", "gauge", "Addresses of a pool that can be picked.");
    let mut aside = Metric::new(
        "underlay_addresses_quarantined",
        "gauge",
        "Addresses that others on the LAN were seen to have.",
    );
    let mut links =
        Metric::new("underlay_attachments", "gauge", "Links of containers, by whether those live.");
    let records = store.records()?.sound;
    let mut host = Socket::open()?;
    let on_host: BTreeSet<IpAddr> = host.addresses()?.into_iter().collect();
    for name in store.network_names()? {
        let network = match store.network(&name) {
            Ok(network) => network,
            Err(error) => {
                output::error(&error);
                continue;
            }
        };
        let (own, vlans) = inspect::segments(store, &network, &records, &on_host, &mut host)?;
        // Nobody has addresses on the link that carries many VLANs.
        let own = (!network.is_of_many_vlans()).then_some(own);
        for segment in own.into_iter().chain(vlans) {
            let place = labels(&[("network", &name), ("parent", &segment.parent_link.name)]);
            for subnet in &segment.usage {
                let labels = format!("{place},{}", labels(&[("subnet", &subnet.subnet)]));
                used.add(labels.clone(), subnet.usage.in_use);
                free.add(labels, subnet.usage.free);
            }
            aside.add(place, segment.quarantine.len() as u64);
        }
        let count = |record: &Record| {
            record.attachments().iter().filter(|attached| attached.network == name).count() as u64
        };
        let (alive, dead): (Vec<_>, Vec<_>) =
            records.iter().partition(|record| kernel::lives(&record.holder));
        for (state, records) in [("alive", alive), ("dead", dead)] {
            links.add(labels(&[("network", &name), ("state", &state)]), records.into_iter().map(count).sum());
        }
    }
    Ok([used, free, aside, links])
}

/// How often what has happened. All kinds are there from the start, so that a rate is one from the first on.
fn events(store: &Store) -> Result<Metric> {
    let mut events =
        Metric::new("underlay_events_total", "counter", "What has happened since the last boot.");
    let totals = store.event_totals()?;
    for kind in Event::KINDS {
        events.add(labels(&[("event", &kind)]), totals.get(kind).copied().unwrap_or_default());
    }
    Ok(events)
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
