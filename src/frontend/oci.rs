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

/// Attaches a container that is being created to the networks that it asks for: to all of them, or to none.
/// It asks by annotations and by CDI devices. Each device has its own hook with its network, `device`.
/// Returns `None` if the container is attached already, or asks for no network; then only the state and the
/// bundle have been read.
///
/// The calling thread is in the container's network namespace afterwards.
///
/// # Errors
/// No link, lease or record is left behind.
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
    let host_name = bundle.host_name();
    let target = Target::new(container, identity, host_name, &Process::open(pid)?, bundle.netns.as_deref())?;
    let target = Target { resolv_conf: bundle.resolv_conf.clone(), ..target };
    target.refuse_host(context.host_netns.get()?)?;
    if !bundle.devices.is_empty() {
        // After an error: another hook of the container has attached it. The error ends the container, so the attach is
        // undone.
        let is_done = is_done(store, &target, device);
        if is_done.inspect_err(|_| undo(&mut context, &target.container))? {
            return Ok(None);
        }
    }
    attach(&mut context, &target, &requests)
}

/// Detaches the stopped container `id`. Returns `None` if it holds nothing, or if others of its namespace use
/// its links.
pub(crate) fn poststop(store: &Store, id: &ContainerId) -> Result<Option<Record>> {
    detach(&mut Context::for_removal(store), id)
}

/// Returns what `createRuntime` would do for `container` with `bundle`, as commands.
pub(crate) fn plan(store: &Store, container: &ContainerId, bundle: &Bundle) -> Result<Vec<String>> {
    let Some(asked) = bundle.raw_request() else {
        return Ok(vec!["# it asks for no network: the hook does nothing".to_owned()]);
    };
    let mut context = Context::new(store)?;
    let admitted = admission::admit(store, &context.settings, asked)?;
    let netns: Option<&Path> = bundle.netns.as_deref();
    dry_run::preview(&mut context, container, netns, &admitted)
}

/// Returns true if another hook of this container has attached it to all networks: there is one hook for each
/// device. It is an error if the container is attached without the network of `device`, which the other hook
/// did not see.
fn is_done(store: &Store, target: &Target, device: Option<&NetworkName>) -> Result<bool> {
    // A record that cannot be read is repaired later.
    let record = store.record(&target.container).ok().flatten();
    let Some(record) = record.filter(|record| record.holder == target.holder && !record.is_pending()) else {
        return Ok(false);
    };
    let first = store.shared_by(&record)?;
    let attachments = first.as_ref().unwrap_or(&record).attachments();
    match device.filter(|&name| attachments.iter().all(|attached| attached.network != *name)) {
        Some(name) => {
            Err(Error::new(Kind::Taken, format!("the container was attached without network {name}"))
                .hint("its config.json could not be found: ask for all networks by one annotation"))
        }
        None => Ok(true),
    }
}

/// Releases what another hook of this container has attached. A failure is logged only, because the record is
/// reclaimed as that of any dead container.
fn undo(context: &mut Context<'_>, container: &ContainerId) {
    let released = context.store.record(container).and_then(|record| match record {
        Some(record) => release::release(context, &record).map(drop),
        None => Ok(()),
    });
    released.unwrap_or_else(|error| log::warn!("{error}"));
}
