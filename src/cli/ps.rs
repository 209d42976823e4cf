//! `underlay ps` and `underlay inspect`: what containers have.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Serialize;

use super::container;
use super::leases::{self, Lease};
use super::output::{self, Format};
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::holder::Holder;
use crate::ledger::record::{Record, State, VERSION};
use crate::ledger::segment_hints::since_boot;
use crate::net::name::{ContainerId, Identity};

/// A container as it is shown.
#[derive(Serialize)]
struct Known<'a> {
    version: u32,
    container: &'a ContainerId,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a Identity>,
    state: State,
    holder: &'a Holder,
    /// The container whose links it uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    shares: Option<&'a ContainerId>,
    /// Its links, or those that it shares.
    attachments: &'a [Attached],
    /// What these have by DHCP.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    leases: Vec<Lease<'a>>,
    /// The name that its engine has for it, if it is attached by a network of the engine's.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// True if its process runs, or its namespace is kept.
    alive: bool,
}

impl<'a> Known<'a> {
    /// The container of `record`; `first` is the one whose links it uses, if they are not its own. Engines have these `names`.
    fn new(record: &'a Record, first: Option<&'a Record>, names: &BTreeMap<String, String>) -> Self {
        let attachments = first.unwrap_or(record).attachments();
        let name = names.get(record.container.as_str()).cloned();
        Self {
            version: VERSION,
            container: &record.container,
            identity: record.identity.as_ref(),
            state: record.own().map_or(State::Attached, |own| own.state),
            holder: &record.holder,
            shares: record.shared_with(),
            attachments,
            leases: leases::of(attachments),
            name,
            alive: kernel::is_alive(&record.holder),
        }
    }

    /// What shows whether it is alive, for people.
    fn held_by(&self) -> String {
        match (self.holder.process(), self.holder.engine(), &self.name) {
            (Some(process), ..) => format!("pid {}", process.pid),
            // No process is known: the engine is, which has attached it by a network of its own.
            (None, Some(engine), Some(name)) => format!("{engine} {name}"),
            (None, Some(engine), None) => engine.to_string(),
            (None, None, _) => "-".to_owned(),
        }
    }

    fn state(&self) -> String {
        match (self.alive, self.state, self.shares) {
            (_, State::Ended, _) => "ended".to_owned(),
            (false, ..) => "dead".to_owned(),
            (true, State::Pending, _) => "pending".to_owned(),
            (true, State::Attached, Some(first)) => format!("shares {}", container::short(first.as_str())),
            (true, State::Attached, None) => "attached".to_owned(),
        }
    }
}

pub(super) fn list(store: &Store, format: Format) -> Result<()> {
    let records = store.records()?.sound;
    let first = |record: &Record| records.iter().find(|other| record.shared_with() == Some(&other.container));
    let names = container::engine_names(&records);
    let all: Vec<_> = records.iter().map(|record| Known::new(record, first(record), &names)).collect();
    if format == Format::Json {
        return output::json(&all);
    }
    let (mut rows, now) = (Vec::new(), since_boot());
    for known in &all {
        for attached in known.attachments {
            let shown = |address: &IpNet| match attached.has_expired(*address, now) {
                true => "expired".to_owned(),
                false => address.to_string(),
            };
            let mut addresses: Vec<_> = attached.addresses.iter().map(shown).collect();
            if attached.is_asking() && known.state != State::Ended {
                addresses.insert(0, "asking".to_owned());
            }
            rows.push([
                container::short(known.container.as_str()),
                attached.network.to_string(),
                attached.ifname.to_string(),
                addresses.join(","),
                attached.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                format!("{}@{}", attached.driver.kind(), attached.parent),
                known.held_by(),
                known.state(),
            ]);
        }
    }
    output::table(
        ["CONTAINER", "NETWORK", "INTERFACE", "ADDRESSES", "MAC", "LINK", "HELD BY", "STATE"],
        &rows,
    )
}

pub(super) fn inspect(store: &Store, container: &str) -> Result<()> {
    let record = container::by_prefix(store, container)?;
    let first = store.shared_by(&record)?;
    let names = container::engine_names(std::slice::from_ref(&record));
    output::json(&Known::new(&record, first.as_ref(), &names))
}
