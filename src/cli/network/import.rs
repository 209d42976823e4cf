//! `underlay network import`: the networks of podman and Docker, made again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;

use super::create;
use crate::cli::output;
use crate::config::network::Network;
use crate::error::{Error, Result};
use crate::import::{self, Foreign, Import as What};
use crate::ledger::Store;
use crate::netlink::Socket;

/// Where podman keeps the networks of root (`network_config_dir` of containers.conf(5)).
const PODMANS: &str = "/etc/containers/networks";
/// No list of networks is longer.
const LIMIT: u64 = 16 * 1024 * 1024;

#[derive(Debug, Args)]
pub(in crate::cli) struct Import {
    /// Only print the commands that would make the networks
    #[arg(long)]
    dry_run: bool,
    /// Only print the commands by which they become networks of podman and Docker with driver underlay
    #[arg(long, conflicts_with = "dry_run")]
    recreate: bool,
    /// Network files of podman, or what `docker network inspect` prints; `-` is stdin; without any, podman's files in
    /// /etc/containers/networks
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Makes each network that can be; the last failure is returned, the others are printed.
pub(super) fn import(store: &Store, options: &Import) -> Result<()> {
    let files = if options.files.is_empty() { podmans()? } else { options.files.clone() };
    let mut host = Socket::open()?;
    let uplink = host.uplink()?.map(|uplink| host.link_by_index(uplink)).transpose()?.flatten();
    let uplink = uplink.as_ref().map(|link| link.name.as_str());
    let networks = files.iter().flat_map(|file| {
        let read = read(file).and_then(|text| import::networks(&text, uplink));
        read.unwrap_or_else(|error| vec![Err(error.within(file.display()))])
    });
    output::last_failure(networks.map(|network| make(store, network?, options)))
}

fn make(store: &Store, what: What, options: &Import) -> Result<()> {
    let foreign = match what {
        What::Made(foreign) => foreign,
        What::Skipped(why) => {
            output::warning(&format!("{why}: skipped"));
            return Ok(());
        }
    };
    let Foreign { name, file, lost, .. } = &*foreign;
    for lost in lost {
        output::warning(&format!("network {name}: not carried over: {lost}"));
    }
    let of = |error: Error| error.within(format!("network {name}"));
    let network = Network::new(name, file.clone()).map_err(of)?;
    if options.recreate {
        return foreign.recreate().iter().try_for_each(|line| output::line(&line.to_string()));
    }
    if store.has_network(name)? && store.network(name)? == network {
        output::warning(&format!("network {name} is there already, and the same"));
        return Ok(());
    }
    if options.dry_run {
        return output::line(&foreign.command().to_string());
    }
    create::create(store, &network).map_err(of)
}

/// podman's network files.
fn podmans() -> Result<Vec<PathBuf>> {
    let folder = Path::new(PODMANS);
    let entries = fs::read_dir(folder).map_err(|error| {
        Error::io("read", folder, &error)
            .hint("name files of podman's, or give `docker network inspect NAME` on stdin as `-`")
    })?;
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(LIMIT).read_to_string(&mut text)
    } else {
        File::open(path).and_then(|file| file.take(LIMIT).read_to_string(&mut text))
    };
    read.map_err(|error| Error::io("read", path, &error))?;
    Ok(text)
}
