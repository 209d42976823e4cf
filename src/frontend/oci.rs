//! The hooks of an OCI runtime: `createRuntime` attaches a container, `poststop` detaches it (OCI runtime
//! specification, "POSIX-platform Hooks").

use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::frontend::admission;
use crate::kernel::Process;
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::lifecycle::attach::attach;
use crate::lifecycle::context::Context;
use crate::lifecycle::detach::detach;
use crate::lifecycle::dry_run;
use crate::lifecycle::release;
use crate::lifecycle::target::{Admitted, Target};
use crate::net::name::{ContainerId, NetworkName};
use crate::oci::{self, Bundle};

/// Attaches a container that is being created to the networks that it asks for: to all of them, or to none. It asks by
/// annotations and by CDI devices. A device has hooks of its own, with the network that it stands for: `device`. `None` if
/// the container asks for none, and nothing but the state and the bundle has been read, or if it is attached already.
///
/// The calling thread is in the container's network namespace afterwards.
///
/// # Errors
/// The first thing that is wrong. No link, lease or record is left behind.
pub(crate) fn create_runtime(
    store: &Store,
    state: &oci::Created,
    device: Option<&NetworkName>,
) -> Result<Option<Record>> {
    let bundle = oci::bundle(state, device)?;
    let Some(asked) = bundle.raw_request() else { return Ok(None) };
    let container: ContainerId = state.id.parse()?;
    let mut context = Context::new(store)?;
    let Admitted { identity, requests } = admission::admit(store, &context.settings, asked)?;
    let pid = state.pid.ok_or_else(|| Error::input("OCI state on stdin has no pid"))?;
    let target = Target::new(container, identity, &Process::open(pid)?, bundle.netns.as_deref())?;
    target.refuse_host(context.host_netns.get()?)?;
    if !bundle.devices.is_empty() {
        match is_done(store, &target, device) {
            Ok(true) => return Ok(None),
            Ok(false) => {}
            // The container dies of it, and another of its hooks has attached it: all or nothing.
            Err(error) => {
                undo(&mut context, &target.container);
                return Err(error);
            }
        }
    }
    attach(&mut context, &target, &requests)
}

/// Detaches the container `id`, which has stopped. `None` if nothing is to be told: it holds nothing, or others of its
/// namespace use its links.
///
/// # Errors
/// As [`detach`].
pub(crate) fn poststop(store: &Store, id: &ContainerId) -> Result<Option<Record>> {
    detach(&mut Context::for_removal(store), id)
}

/// What `createRuntime` would do for `container`, which `bundle` describes, as commands.
///
/// # Errors
/// Those of [`create_runtime`].
pub(crate) fn plan(store: &Store, container: &ContainerId, bundle: &Bundle) -> Result<Vec<String>> {
    let Some(asked) = bundle.raw_request() else {
        return Ok(vec!["# it asks for no network: the hook does nothing".to_owned()]);
    };
    let mut context = Context::new(store)?;
    let admitted = admission::admit(store, &context.settings, asked)?;
    let netns: Option<&Path> = bundle.netns.as_deref();
    dry_run::preview(&mut context, container, netns, &admitted)
}

/// Whether another hook of this container, of which there is one for each device, has attached it to all networks.
///
/// # Errors
/// When it was not attached to the network of `device`: that hook did not know of it.
fn is_done(store: &Store, target: &Target, device: Option<&NetworkName>) -> Result<bool> {
    // A record that cannot be read is repaired later.
    let record = store.record(&target.container).ok().flatten();
    let Some(record) = record.filter(|record| record.holder == target.holder && !record.is_pending()) else {
        return Ok(false);
    };
    let first = record.shared_with().map(|first| store.record(first)).transpose()?.flatten();
    let attachments = first.as_ref().unwrap_or(&record).attachments();
    match device.filter(|&name| attachments.iter().all(|attached| attached.network != *name)) {
        Some(name) => {
            Err(Error::new(Kind::Taken, format!("the container was attached without network {name}"))
                .hint("its config.json could not be found: ask for all networks by one annotation"))
        }
        None => Ok(true),
    }
}

/// Releases what another hook of this container has attached. A failure is told only: the container is dead then, and its
/// record is reclaimed as that of any dead container.
fn undo(context: &mut Context<'_>, container: &ContainerId) {
    let released = context.store.record(container).and_then(|record| match record {
        Some(record) => release::release(context, &record).map(drop),
        None => Ok(()),
    });
    released.unwrap_or_else(|error| log::warn!("{error}"));
}
