//! Networks of podman and Docker, read into network definitions.

mod docker;
mod foreign;
mod plugin;
mod podman;

pub(crate) use foreign::Foreign;
use foreign::{Engine, is_true, members, word};
pub(crate) use plugin::PluginNetwork;
pub(crate) use plugin::{kept as kept_of_plugin, network as network_of_plugin};
use serde_json::Value;

use crate::config::network_file::NetworkFile;
use crate::error::{Error, Result};
use crate::net::driver::Kind as Driver;

/// What becomes of a definition.
#[derive(Clone, Debug)]
pub(crate) enum Import {
    /// It can be made.
    Made(Box<Foreign>),
    /// It is none of ours: why not.
    Skipped(String),
}

/// The networks that `text` defines: a file of podman's (netavark(1)), or what `podman network inspect` or
/// `docker network inspect` prints. `uplink` is the link of the host's default route, which podman takes where no
/// parent is named. One that would be ours and cannot be made is an error among them.
///
/// # Errors
/// When it is none of these.
pub(crate) fn networks(text: &str, uplink: Option<&str>) -> Result<Vec<Result<Import>>> {
    let value: Value = serde_json::from_str(text).map_err(|error| Error::input(error.to_string()))?;
    let all = match value {
        Value::Array(all) => all,
        one => vec![one],
    };
    all.iter().map(|one| network(one, uplink)).collect()
}

fn network(value: &Value, uplink: Option<&str>) -> Result<Result<Import>> {
    // Docker writes its keys in capitals.
    let is_docker = word(value, "Name").is_some();
    let [name, driver, internal, labels] = match is_docker {
        true => ["Name", "Driver", "Internal", "Labels"],
        false => ["name", "driver", "internal", "labels"],
    };
    let name = word(value, name).ok_or_else(|| {
        Error::input("there is no network in it")
            .hint("give files of /etc/containers/networks, or what `docker network inspect NAME` prints")
    })?;
    let driver = word(value, driver).unwrap_or("bridge");
    let Ok(kind) = driver.parse::<Driver>() else {
        return Ok(Ok(Import::Skipped(format!("network {name} has driver {driver}"))));
    };
    // As `network create` refuses it.
    let name_error = |error| Error::input(format!("invalid value '{name}' for '<NAME>': {error}"));
    let read = name.parse().map_err(name_error).and_then(|name| {
        let mut file = NetworkFile::new(kind);
        file.internal = is_true(value, internal);
        file.labels = members(value, labels).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let engine = if is_docker { Engine::Docker } else { Engine::Podman };
        let foreign = Foreign { engine, name, file, options: Vec::new(), lost: Vec::new() };
        if is_docker { docker::read(value, foreign) } else { podman::read(value, uplink, foreign) }
    });
    let of = |error: Error| error.within(format!("network {name}"));
    Ok(read.map(|foreign| Import::Made(Box::new(foreign))).map_err(of))
}

#[cfg(test)]
mod tests;
