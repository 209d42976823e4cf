//! `underlay hook`: the two calls of an OCI runtime.

use std::io;

use super::output;
use crate::error::{Error, Result};
use crate::frontend;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::event::Event;
use crate::lifecycle::report::report;
use crate::net::name::{ContainerId, NetworkName};
use crate::oci;

/// Attaches the container on stdin. A failure is reported too, for crun throws stderr away.
pub(super) fn create_runtime(store: &Store, network: Option<&NetworkName>) -> Result<()> {
    let mut id = None;
    let attached = oci::created(io::stdin().lock()).and_then(|state| {
        let attached = frontend::oci::create_runtime(store, &state, network).map_err(rootless);
        id = Some(state.id);
        attached
    });
    match attached {
        Ok(Some(record)) => report(store, &Event::Attached((&record).into())),
        Ok(None) => {}
        Err(error) => {
            report(store, &Event::failed("createRuntime", id.as_deref(), &error));
            return Err(match id {
                Some(id) => error.within(format!("container {id}")),
                None => error,
            });
        }
    }
    Ok(())
}

/// What failed, with the reason why nothing else can come of a rootless engine.
pub(super) fn rootless(error: Error) -> Error {
    if !kernel::is_rootless() {
        return error;
    }
    error.within("the engine is rootless, and a user namespace has no rights to the host's links").hint(
        "start the container as root (sudo podman run …); its processes need not be root on the host: --userns=auto",
    )
}

/// Detaches the container on stdin. Only a state that cannot be read is an error: what cannot be cleared away
/// stays in the ledger, and runc would skip the hooks of others.
pub(super) fn poststop(store: &Store) -> Result<()> {
    let id = oci::stopped(io::stdin().lock())?;
    let Ok(id) = id.parse::<ContainerId>() else {
        log::info!("container {id:?} cannot be ours");
        return Ok(());
    };
    match frontend::oci::poststop(store, &id) {
        Ok(Some(record)) => report(store, &Event::Detached((&record).into())),
        Ok(None) => {}
        Err(error) => {
            report(store, &Event::failed("poststop", Some(id.as_str()), &error));
            output::error(&error.within(format!("container {id}")));
        }
    }
    Ok(())
}
