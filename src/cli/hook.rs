//! `underlay hook`: the two calls of an OCI runtime.

use std::fmt::Write;
use std::io;

use super::output;
use crate::attach;
use crate::detach;
use crate::error::{Error, Result};
use crate::name::ContainerId;
use crate::oci;
use crate::record::Record;
use crate::store::Store;

/// Attaches the container on stdin. A failure goes into the log too, for crun throws stderr away.
pub(super) fn create_runtime(store: &Store) -> Result<()> {
    let attached = oci::created(io::stdin().lock()).and_then(|state| {
        attach::attach(store, &state).map_err(|error| error.within(format!("container {}", state.id)))
    });
    match attached {
        Ok(Some(record)) => {
            store.log(&describe("attached", &record));
            Ok(())
        }
        Ok(None) => Ok(()),
        Err(error) => {
            store.log(&with_hint("createRuntime failed: ", &error));
            Err(error)
        }
    }
}

/// Detaches the container on stdin. Only a state that cannot be read is an error: what cannot be cleared away
/// stays in the ledger, and runc would skip the hooks of others.
pub(super) fn poststop(store: &Store) -> Result<()> {
    let id = oci::stopped(io::stdin().lock())?;
    let Ok(id) = id.parse::<ContainerId>() else {
        log::info!("container {id:?} cannot be ours");
        return Ok(());
    };
    match detach::detach(store, &id) {
        Ok(Some(record)) => store.log(&describe("detached", &record)),
        Ok(None) => {}
        Err(error) => {
            let error = error.within(format!("container {id}"));
            store.log(&with_hint("poststop failed: ", &error));
            output::error(&error);
        }
    }
    Ok(())
}

/// One line: what happened to which container, with its networks, interfaces and addresses.
fn describe(what: &str, record: &Record) -> String {
    let mut line = format!("{what} {}", record.container);
    for attached in &record.attachments {
        // Writing to a string does not fail.
        let _ = write!(line, " {}:{}", attached.network, attached.ifname);
        for address in &attached.addresses {
            let _ = write!(line, ",{address}");
        }
    }
    line
}

fn with_hint(what: &str, error: &Error) -> String {
    match error.hint_text() {
        Some(hint) => format!("{what}{error} (hint: {hint})"),
        None => format!("{what}{error}"),
    }
}
