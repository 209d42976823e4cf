//! Names of containers: Docker tells a plugin the ids of endpoints alone, and has the rest in its own files. They are read for people
//! only, and never during a call.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::fs::file::{self, Trust};

/// The settings of Docker, which need not exist.
const SETTINGS: &str = "/etc/docker/daemon.json";
/// Where Docker keeps its data, unless the settings say so.
const DATA: &str = "/var/lib/docker";
/// The most bytes of a file about a container.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Returns the names of Docker's containers by the ids of their endpoints, as far as they can be read.
pub(crate) fn container_names() -> BTreeMap<String, String> {
    let settings = read(Path::new(SETTINGS));
    let data = settings.get("data-root").and_then(Value::as_str).unwrap_or(DATA);
    let folders = fs::read_dir(Path::new(data).join("containers"));
    folders.into_iter().flatten().flatten().flat_map(|folder| of_container(&folder.path())).collect()
}

/// What is in the file at `path`; nothing if it cannot be read.
fn read(path: &Path) -> Value {
    let text = file::read(path, LIMIT, Trust::Operator);
    let text = text.inspect_err(|error| log::debug!("{error}")).ok().flatten().unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn of_container(folder: &Path) -> Vec<(String, String)> {
    endpoints(&read(&folder.join("config.v2.json")))
}

fn endpoints(config: &Value) -> Vec<(String, String)> {
    let name = config.get("Name").and_then(Value::as_str).unwrap_or_default().trim_start_matches('/');
    let networks = config.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let ids = networks.into_iter().flatten().filter_map(|(_, network)| network.get("EndpointID")?.as_str());
    ids.filter(|id| !id.is_empty() && !name.is_empty()).map(|id| (id.to_owned(), name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes() {
        let of = |text: &str| endpoints(&serde_json::from_str(text).unwrap_or_default());
        let text = r#"{"ID": "c0ffee", "Name": "/web", "NetworkSettings": {"SandboxKey": "/run/docker/netns/a", "Networks": {
            "lan": {"EndpointID": "ab", "IPAMOperational": false}, "san": {"EndpointID": ""}, "wan": {"EndpointID": "cd"}}}}"#;
        let both = [("ab", "web"), ("cd", "web")].map(|(id, name)| (id.to_owned(), name.to_owned()));
        assert_eq!(of(text), both);
        for text in ["", "{", "[]", r#"{"Name": "/web", "NetworkSettings": {"Networks": null}}"#] {
            assert_eq!(of(text), []);
        }
    }
}
