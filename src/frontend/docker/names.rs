//! Names of containers: Docker tells a plugin the ids of endpoints alone, and has the rest in its own files. They are read for people
//! only, and never during a call.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::fs::file::{self, Trust};
use crate::json;

/// The settings of Docker, which need not exist.
const SETTINGS: &str = "/etc/docker/daemon.json";
/// Where Docker keeps its data, unless the settings say so.
const DATA: &str = "/var/lib/docker";
/// The most bytes of a file about a container.
const LIMIT: u64 = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "data-root")]
    data_root: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    /// With a slash.
    name: String,
    network_settings: NetworkSettings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    networks: Option<BTreeMap<String, Endpoint>>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "EndpointID", default)]
    id: String,
}

/// Returns the names of Docker's containers by the ids of their endpoints, as far as they can be read.
pub(crate) fn container_names() -> BTreeMap<String, String> {
    let settings = read(Path::new(SETTINGS));
    let data = json::read::<Settings>(&settings).ok().and_then(|settings| settings.data_root);
    let folders = fs::read_dir(data.unwrap_or_else(|| DATA.into()).join("containers"));
    folders.into_iter().flatten().flatten().flat_map(|folder| of_container(&folder.path())).collect()
}

fn read(path: &Path) -> Vec<u8> {
    let text = file::read(path, LIMIT, Trust::Operator);
    text.inspect_err(|error| log::debug!("{error}")).ok().flatten().unwrap_or_default()
}

fn of_container(folder: &Path) -> Vec<(String, String)> {
    endpoints(&read(&folder.join("config.v2.json")))
}

fn endpoints(config: &[u8]) -> Vec<(String, String)> {
    let Ok(Config { name, network_settings }) = json::read::<Config>(config) else { return Vec::new() };
    let name = name.trim_start_matches('/');
    let endpoints = network_settings.networks.into_iter().flatten().map(|(_, endpoint)| endpoint.id);
    endpoints.filter(|id| !id.is_empty()).map(|id| (id, name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_writes() {
        let text = br#"{"ID": "c0ffee", "Name": "/web", "NetworkSettings": {"SandboxKey": "/run/docker/netns/a", "Networks": {
            "lan": {"EndpointID": "ab", "IPAMOperational": false}, "san": {"EndpointID": ""}, "wan": {"EndpointID": "cd"}}}}"#;
        let both = [("ab", "web"), ("cd", "web")].map(|(id, name)| (id.to_owned(), name.to_owned()));
        assert_eq!(endpoints(text), both);
        for text in ["", "{", r#"{"Name": "/web", "NetworkSettings": {"Networks": null}}"#] {
            assert_eq!(endpoints(text.as_bytes()), []);
        }
    }
}
