//! Containers as arguments name them, and as tables show them.

use crate::error::{Error, Kind, Result};
use crate::escape::shell::Line;
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::net::name::ContainerId;

/// Returns the record of the container whose id is `name`, or begins with it.
pub(super) fn by_prefix(store: &Store, name: &str) -> Result<Record> {
    let record = name.parse::<ContainerId>().ok().map(|id| store.record(&id)).transpose()?;
    if let Some(record) = record.flatten() {
        return Ok(record);
    }
    let mut records = store.records()?.sound;
    records.retain(|record| record.container.as_str().starts_with(name));
    match (records.pop(), records.is_empty()) {
        (Some(record), true) => Ok(record),
        (Some(_), false) => Err(Error::input(format!("several containers begin with {name:?}"))
            .hint("give more of the id; `underlay ps` lists them")),
        (None, _) => {
            Err(Error::new(Kind::NotFound, format!("container {name:?} holds nothing here")).hint(format!(
                "`underlay ps` lists the ids of those that do; that of a name is told by `{}`",
                Line::of("podman inspect -f '{{.Id}}'").word(name)
            )))
        }
    }
}

/// Returns the first twelve characters of a 64-digit id, as podman and Docker show it, also of one with an interface; other ids
/// as they are.
pub(super) fn short(id: &str) -> String {
    let (own, _) = id.split_once('+').unwrap_or((id, ""));
    let is_long = own.len() == 64 && own.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.chars().take(if is_long { 12 } else { usize::MAX }).collect()
}
