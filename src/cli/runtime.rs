//! `underlay-runtime`: this program under another name, with the command line of runc.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::folders::{Folders, program};
use super::output;
use crate::ledger::event::Event;
use crate::lifecycle::report::report;
use crate::lifecycle::runtime_wrapper;
use crate::oci::runtime_args::Call;

/// Returns true if this program was called by that name.
pub(super) fn is_meant(args: &[OsString]) -> bool {
    args.first().and_then(|name| Path::new(name).file_name()) == Some(OsStr::new(runtime_wrapper::NAME))
}

/// Executes the real runtime, or says why that failed.
pub(super) fn main(args: &[OsString]) -> u8 {
    output::begin_log();
    let call = Call::read(args.get(1..).unwrap_or_default());
    let given = |option: &str| {
        let (_, path) = call.as_ref().ok()?.folders.iter().rev().find(|(name, _)| *name == option)?;
        Some(path.to_path_buf())
    };
    let [config_dir, state_dir, data_dir, cdi_dir] =
        ["config-dir", "state-dir", "data-dir", "cdi-dir"].map(given);
    let folders = Folders { config_dir, state_dir, data_dir, cdi_dir };
    // As in a hook, the environment is the caller's and names no folders.
    let store = folders.store(|_| None);
    let run = |call: &Call<'_>| {
        let error = program(&store)
            .map_or_else(|error| error, |program| runtime_wrapper::run(&store, &program, call));
        if let Err(error) = runtime_wrapper::report(call, &error) {
            output::warning(&error.to_string());
        }
        error
    };
    let error = call.as_ref().map_or_else(Clone::clone, run);
    report(&store, &Event::failed(runtime_wrapper::NAME, None, &error));
    output::error(&error);
    error.kind().exit_code()
}
