//! Containers as people name them.

use crate::error::{Error, Kind, Result};
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::net::name::ContainerId;

/// What the container `name` holds: an id, or the beginning of one.
///
/// # Errors
/// When no container of the ledger is meant, or several are, or its record is damaged.
pub(super) fn find(store: &Store, name: &str) -> Result<Record> {
    if let Ok(id) = name.parse::<ContainerId>() {
        if let Some(record) = store.record(&id)? {
            return Ok(record);
        }
    }
    let mut records = store.records()?.sound;
    records.retain(|record| record.container.as_str().starts_with(name));
    match (records.pop(), records.is_empty()) {
        (Some(record), true) => Ok(record),
        (Some(_), false) => Err(Error::input(format!("several containers begin with {name:?}"))
            .hint("give more of the id; `underlay ps` lists them")),
        (None, _) => Err(Error::new(Kind::NotFound, format!("container {name:?} holds nothing here"))
            .hint("`underlay ps` lists those that do")),
    }
}

/// The first twelve characters of a 64-digit id, as podman and docker show it; other ids as they are.
pub(super) fn short(id: &str) -> String {
    if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
        id.chars().take(12).collect()
    } else {
        id.to_owned()
    }
}
