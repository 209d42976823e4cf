//! Networks of other programs, in the words of `underlay network create`.

mod docker;
mod podman;

use std::fmt::Display;

use serde_json::Value;

use crate::error::{Error, Result};

/// A network that somebody else has defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Its name.
    pub name: String,
    /// What makes the same network, behind `underlay network create`.
    pub words: Vec<String>,
    /// What of it underlay has not.
    pub lost: Vec<String>,
}

/// What becomes of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    /// It can be made.
    Made(Foreign),
    /// It is none of ours: why not.
    Skipped(String),
    /// It would be one of ours, and cannot be made.
    Refused(Error),
}

/// The networks that `text` defines: a file of podman's (netavark(1)), or what `podman network inspect` or
/// `docker network inspect` prints. `uplink` is the link of the host's default route, which podman takes where no
/// parent is named.
///
/// # Errors
/// When it is none of these.
pub(crate) fn networks(text: &str, uplink: Option<&str>) -> Result<Vec<Import>> {
    let value: Value = serde_json::from_str(text).map_err(|error| Error::input(error.to_string()))?;
    let all = match value {
        Value::Array(all) => all,
        one => vec![one],
    };
    all.iter().map(|one| network(one, uplink)).collect()
}

fn network(value: &Value, uplink: Option<&str>) -> Result<Import> {
    // Docker writes its keys in capitals.
    let (name, driver, is_docker) = match (word(value, "Name"), word(value, "name")) {
        (Some(name), _) => (name, word(value, "Driver"), true),
        (None, Some(name)) => (name, word(value, "driver"), false),
        (None, None) => {
            return Err(Error::input("there is no network in it").hint(
                "give files of /etc/containers/networks, or what `docker network inspect NAME` prints",
            ));
        }
    };
    let driver = driver.unwrap_or("bridge");
    if !matches!(driver, "macvlan" | "ipvlan") {
        return Ok(Import::Skipped(format!("network {name} has driver {driver}")));
    }
    let mut foreign = Foreign { name: name.to_owned(), words: Vec::new(), lost: Vec::new() };
    foreign.say("-d", driver);
    let read =
        if is_docker { docker::read(value, &mut foreign) } else { podman::read(value, uplink, &mut foreign) };
    Ok(match read {
        Ok(()) => {
            foreign.words.push(name.to_owned());
            Import::Made(foreign)
        }
        Err(error) => Import::Refused(error.within(format!("network {name}"))),
    })
}

impl Foreign {
    fn say(&mut self, option: &str, value: impl Display) {
        self.words.extend([option.to_owned(), value.to_string()]);
    }

    fn lose(&mut self, what: impl Display) {
        self.lost.push(what.to_string());
    }

    fn labels(&mut self, labels: &Value) {
        for (key, value) in labels.as_object().into_iter().flatten() {
            self.say("--label", format!("{key}={}", value.as_str().unwrap_or_default()));
        }
    }
}

/// The text of `key`, if there is any.
fn word<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

fn is_true(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool) == Some(true)
}

/// The elements of the array `key`, if there is one.
fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// The members of the object `key`, if there is one, with their text.
fn members<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let members = value.get(key).and_then(Value::as_object).into_iter().flatten();
    members.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

#[cfg(test)]
mod tests;
