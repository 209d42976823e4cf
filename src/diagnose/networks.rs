//! The definitions of networks, and the settings.

use crate::config::network::Network;
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::system::permissions;
use crate::error::{Error, Result};
use crate::ledger::Store;
use crate::lifecycle::parents;
use crate::netlink::Socket;

/// A network, the file that defines it, and why its parent takes no containers, if that is so.
#[derive(Clone, Debug)]
pub(crate) struct Defined {
    /// The network.
    pub network: Network,
    /// The path of its file.
    pub file: String,
    /// What an attach would say.
    pub problem: Option<Error>,
}

/// The networks that can be read, and what is wrong with the others and with the settings.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn networks(store: &Store, host: &mut Socket) -> Result<(Vec<Defined>, Vec<Finding>)> {
    let [config, ..] = store.dirs();
    let common = [config.to_owned(), config.join("networks"), store.settings_path()];
    let mut findings: Vec<_> = common.iter().flat_map(|path| permissions(path, Area::Networks)).collect();
    // What others can write is not read.
    let is_read = findings.is_empty();
    if let Some(error) = store.settings().err().filter(|_| is_read) {
        findings.push(unread("settings", &error));
    }
    let names = store.network_names()?;
    let of_engines =
        store.has_podman_networks() || store.docker_networks().is_ok_and(|networks| !networks.is_empty());
    if names.is_empty() && is_read && !of_engines {
        findings.push(Finding::new(
            (Area::Networks, Severity::Note, "no-network"),
            format!("no network is defined in {}", config.join("networks").display()),
            "containers have nothing to be attached to",
            "define one: see `underlay network create --help`",
        ));
    }
    let mut defined = Vec::new();
    for name in names {
        let path = store.network_path(&name);
        let of_file = permissions(&path, Area::Networks);
        let is_read = is_read && of_file.is_empty();
        findings.extend(of_file);
        match is_read.then(|| store.network(&name)) {
            Some(Ok(network)) => {
                let problem = parents::find(&network, host).err();
                defined.push(Defined { network, file: path.to_string_lossy().into_owned(), problem });
            }
            Some(Err(error)) => findings.push(unread("network-file", &error)),
            None => {}
        }
    }
    Ok((defined, findings))
}

fn unread(id: &'static str, error: &Error) -> Finding {
    let why = "no container that needs it starts";
    let fix = error.hint_text().unwrap_or("correct the file in an editor");
    Finding::new((Area::Networks, Severity::Error, id), error.to_string(), why, fix)
}
