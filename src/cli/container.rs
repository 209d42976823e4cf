//! Containers as arguments name them, and as tables show them.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::escape::shell::Line;
use crate::frontend;
use crate::ledger::Store;
use crate::ledger::holder::Engine;
use crate::ledger::record::Record;
use crate::net::name::ContainerId;

/// Returns the record of the container whose id is `name`, or begins with it.
pub(super) fn by_prefix(store: &Store, name: &str) -> Result<Record> {
    let record = name.parse::<ContainerId>().ok().map(|id| store.record(&id)).transpose()?;
    if let Some(record) = record.flatten() {
        return Ok(record);
    }
    let records = store.records()?.sound;
    let names = engine_names(&records);
    let is_its_name =
        |record: &&Record| names.get(record.container.as_str()).is_some_and(|known| known == name);
    let mut found: Vec<_> =
        records.iter().filter(|record| record.container.as_str().starts_with(name)).collect();
    if found.is_empty() {
        found = records.iter().filter(is_its_name).collect();
    }
    match (found.pop(), found.is_empty()) {
        (Some(record), true) => Ok(record.clone()),
        (Some(last), false) => {
            let all: Vec<_> =
                found.iter().chain([&last]).map(|record| record.container.to_string()).collect();
            Err(Error::input(format!("there are several containers {name:?}"))
                .hint(format!("name one of {}", all.join(", "))))
        }
        (None, _) => {
            Err(Error::new(Kind::NotFound, format!("container {name:?} holds nothing here")).hint(format!(
                "`underlay ps` lists the ids of those that do; that of a name is told by `{}`",
                Line::of("podman inspect -f '{{.Id}}'").word(name)
            )))
        }
    }
}

/// Returns the names that engines have for containers of networks of theirs, by the ids of `records`. Docker's files are read only if
/// it has one.
pub(super) fn engine_names(records: &[Record]) -> BTreeMap<String, String> {
    let is_of = |engine| move |record: &&Record| record.holder.engine() == Some(engine);
    let mut names = match records.iter().any(|record| is_of(Engine::Docker)(&record)) {
        true => frontend::docker::container_names(),
        false => BTreeMap::new(),
    };
    // podman's name is the identity, unless the user has named one.
    let of_podman = records.iter().filter(is_of(Engine::Podman));
    names
        .extend(of_podman.filter_map(|record| {
            Some((record.container.to_string(), record.identity.as_ref()?.to_string()))
        }));
    names
}

/// Returns the first twelve characters of a 64-digit id, as podman and Docker show it, also of one with an interface; other ids
/// as they are.
pub(super) fn short(id: &str) -> String {
    let (own, _) = id.split_once('+').unwrap_or((id, ""));
    let is_long = own.len() == 64 && own.bytes().all(|byte| byte.is_ascii_hexdigit());
    id.chars().take(if is_long { 12 } else { usize::MAX }).collect()
}
