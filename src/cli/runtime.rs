//! `underlay-runtime`: this program under another name, called as runc is.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::folders::{Folders, program};
use super::output;
use crate::error::Result;
use crate::ledger::event::Event;
use crate::lifecycle::report::report;
use crate::lifecycle::runtime_wrapper;
use crate::oci::runtime_args::Call;

/// Whether this program was called by that name.
pub(super) fn is_meant(args: &[OsString]) -> bool {
    args.first().and_then(|name| Path::new(name).file_name()) == Some(OsStr::new(runtime_wrapper::NAME))
}

/// Our folders, as arguments before the runtime's name them: the environment is the caller's, as a hook's is.
fn folders(call: &Result<Call<'_>>) -> Folders {
    let named = |name: &str| {
        let folders = call.as_ref().ok()?.folders.iter().rev();
        folders.clone().find(|(option, _)| *option == name).map(|(_, path)| path.to_path_buf())
    };
    Folders {
        config_dir: named("config-dir"),
        state_dir: named("state-dir"),
        data_dir: named("data-dir"),
        cdi_dir: named("cdi-dir"),
    }
}

/// Becomes the real runtime, or says why not.
pub(super) fn main(args: &[OsString]) -> u8 {
    output::begin_log();
    let call = Call::read(args.get(1..).unwrap_or_default());
    let store = folders(&call).store(|_| None);
    let error = match call {
        Ok(call) => {
            let error = program(&store)
                .map_or_else(|error| error, |program| runtime_wrapper::run(&store, &program, &call));
            if let Err(error) = runtime_wrapper::report(&call, &error) {
                output::warning(&error.to_string());
            }
            error
        }
        Err(error) => error,
    };
    report(&store, &Event::failed(runtime_wrapper::NAME, None, &error));
    output::error(&error);
    1
}
