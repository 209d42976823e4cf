//! `underlay plan`: what the hook would do, before it does.

use std::path::PathBuf;

use clap::Args;

use super::network::create::pair;
use super::output;
use crate::error::Result;
use crate::frontend;
use crate::ledger::Store;
use crate::net::name::ContainerId;
use crate::oci;

#[derive(Debug, Args)]
#[group(id = "what", required = true, multiple = true, args = ["annotation", "bundle"])]
pub(super) struct Plan {
    /// Annotation of the container, as io.underlay.networks=pub_net; it goes before the bundle's
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Folder of the container's config.json
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// The container's id, which MAC and remembered addresses depend on where it has no identity
    #[arg(long, default_value = "container")]
    id: ContainerId,
}

pub(super) fn plan(store: &Store, options: &Plan) -> Result<()> {
    let mut bundle = options.bundle.as_deref().map(oci::bundle_at).transpose()?.unwrap_or_default();
    for annotation in &options.annotation {
        let (key, value) = pair("annotation", annotation)?;
        bundle.annotations.insert(key.to_owned(), value.to_owned());
    }
    frontend::oci::plan(store, &options.id, &bundle)?.iter().try_for_each(|line| output::line(line))
}
