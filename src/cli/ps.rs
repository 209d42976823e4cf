//! `underlay ps` and `underlay inspect`: what the ledger says, and who lives.

use serde::Serialize;

use super::output::{self, Format};
use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::record::{Record, State};
use crate::store::Store;

/// A record with what only the kernel knows.
#[derive(Serialize)]
struct Known<'a> {
    #[serde(flatten)]
    record: &'a Record,
    /// Whether the container's process runs.
    alive: bool,
}

impl<'a> From<&'a Record> for Known<'a> {
    fn from(record: &'a Record) -> Self {
        Self { record, alive: kernel::lives(&record.holder) }
    }
}

pub(super) fn list(store: &Store, format: Format) -> Result<()> {
    let records = store.records()?.sound;
    let known: Vec<Known<'_>> = records.iter().map(Known::from).collect();
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
        for attached in &record.attachments {
            let addresses: Vec<_> = attached.addresses.iter().map(ToString::to_string).collect();
            rows.push([
                short(record.container.as_str()),
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
    let records = store.records()?.sound;
    let exact = records.iter().find(|record| record.container.as_str() == container);
    let mut matching = records.iter().filter(|record| record.container.as_str().starts_with(container));
    let record = match (exact, matching.next(), matching.next()) {
        (Some(record), ..) | (None, Some(record), None) => record,
        (None, Some(_), Some(_)) => {
            return Err(Error::input(format!("several containers begin with {container:?}"))
                .hint("give more of the id; `underlay ps` lists them"));
        }
        (None, None, _) => {
            return Err(Error::new(Kind::NotFound, format!("container {container:?} holds nothing here"))
                .hint("`underlay ps` lists those that do"));
        }
    };
    output::json(&Known::from(record))
}

/// The first twelve characters of a 64-digit id, as podman and docker show it; other ids as they are.
fn short(id: &str) -> String {
    if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        id.chars().take(12).collect()
    } else {
        id.to_owned()
    }
}
