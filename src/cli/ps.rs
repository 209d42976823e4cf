//! `underlay ps` and `underlay inspect`: what the ledger says, and who lives.

use serde::Serialize;

use super::container;
use super::output::{self, Format};
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::{Record, State};
use crate::lifecycle::shared_netns;
use crate::net::name::ContainerId;

/// A record with what only the kernel knows.
#[derive(Serialize)]
struct Known {
    #[serde(flatten)]
    record: Record,
    /// Whether the container's process runs.
    alive: bool,
    /// The container that holds its links since it has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_by: Option<ContainerId>,
}

impl Known {
    /// What the container of `record` holds; how its record came about is the ledger's own matter.
    fn new(store: &Store, record: &Record) -> Result<Self> {
        let used_by = shared_netns::user(store, record)?;
        let alive = used_by.is_none() && kernel::lives(&record.holder);
        Ok(Self { alive, used_by, record: Record { rebuilt: false, ..record.clone() } })
    }

    /// What there is to say of it in a word, and who shares what.
    fn state(&self) -> String {
        match (self, self.record.state) {
            (Self { used_by: Some(user), .. }, _) => {
                format!("ended, used by {}", container::short(user.as_str()))
            }
            (Self { alive: false, .. }, _) => "dead".to_owned(),
            (_, State::Pending) => "pending".to_owned(),
            (_, State::Attached) => match &self.record.shares {
                Some(first) => format!("shares {}", container::short(first.as_str())),
                None => "attached".to_owned(),
            },
        }
    }
}

pub(super) fn list(store: &Store, format: Format) -> Result<()> {
    let records = store.records()?.sound;
    let known: Vec<Known> = records.iter().map(|record| Known::new(store, record)).collect::<Result<_>>()?;
    if format == Format::Json {
        return output::json(&known);
    }
    let mut rows = Vec::new();
    for known in &known {
        let record = &known.record;
        // What it shares with another is told of both.
        let first = record.shares.as_ref().and_then(|of| records.iter().find(|other| other.container == *of));
        for attached in &first.unwrap_or(record).attachments {
            let addresses: Vec<_> = attached.addresses.iter().map(ToString::to_string).collect();
            rows.push([
                container::short(record.container.as_str()),
                attached.network.to_string(),
                attached.ifname.to_string(),
                addresses.join(","),
                attached.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                format!("{}@{}", attached.driver.kind(), attached.parent),
                record.holder.pid.to_string(),
                known.state(),
            ]);
        }
    }
    output::table(["CONTAINER", "NETWORK", "INTERFACE", "ADDRESSES", "MAC", "LINK", "PID", "STATE"], &rows)
}

pub(super) fn inspect(store: &Store, container: &str) -> Result<()> {
    output::json(&Known::new(store, &container::find(store, container)?)?)
}
