//! `underlay ps` and `underlay inspect`: what the ledger says, and who lives.

use serde::Serialize;

use super::container;
use super::output::{self, Format};
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::{Record, State};

/// A record with what only the kernel knows.
#[derive(Serialize)]
struct Known {
    #[serde(flatten)]
    record: Record,
    /// Whether the container's process runs.
    alive: bool,
}

impl From<&Record> for Known {
    /// What it holds; how its record came about is the ledger's own matter.
    fn from(record: &Record) -> Self {
        Self { alive: kernel::lives(&record.holder), record: Record { rebuilt: false, ..record.clone() } }
    }
}

pub(super) fn list(store: &Store, format: Format) -> Result<()> {
    let records = store.records()?.sound;
    let known: Vec<Known> = records.iter().map(Known::from).collect();
    if format == Format::Json {
        return output::json(&known);
    }
    let mut rows = Vec::new();
    for Known { record, alive } in &known {
        let state = match (alive, record.state) {
            (false, _) => "dead",
            (true, State::Pending) => "pending",
            (true, State::Attached) => "attached",
        };
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
                state.to_owned(),
            ]);
        }
    }
    output::table(["CONTAINER", "NETWORK", "INTERFACE", "ADDRESSES", "MAC", "LINK", "PID", "STATE"], &rows)
}

pub(super) fn inspect(store: &Store, container: &str) -> Result<()> {
    output::json(&Known::from(&container::find(store, container)?))
}
