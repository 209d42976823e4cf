//! Networks of podman and Docker, as options of `underlay network create`.

mod docker;
mod foreign;
mod podman;

pub(crate) use foreign::Foreign;
use foreign::word;
use serde_json::Value;

use crate::error::{Error, Result};

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

#[cfg(test)]
mod tests;
