//! `underlay docker-plugin`: serves Docker, as long as it calls.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::error::{Error, Kind, Result};
use crate::frontend;
use crate::kernel::PluginSocket;
use crate::ledger::Store;

#[derive(Debug, Args)]
pub(super) struct DockerPlugin {
    /// Listen at this socket, in place of that which systemd passes
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// End after so many seconds without a call
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    idle: u32,
}

pub(super) fn plugin(store: &Store, options: &DockerPlugin) -> Result<()> {
    let socket = match &options.socket {
        Some(path) => PluginSocket::at(path)?,
        None => PluginSocket::passed()?.ok_or_else(|| {
            Error::new(Kind::Usage, "systemd has passed no socket")
                .hint("start underlay-docker.socket, or give --socket /run/docker/plugins/underlay.sock")
        })?,
    };
    frontend::docker::serve(store, &socket, Duration::from_secs(options.idle.into()))
}
