//! `underlay-runtime`: this program under another name, called as runc is.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::{Folders, output, program};
use crate::event::Event;
use crate::report::report;
use crate::runtime;
use crate::runtime_call::Call;

/// Whether this program was called by that name.
pub(super) fn is_meant(args: &[OsString]) -> bool {
    args.first().and_then(|name| Path::new(name).file_name()) == Some(OsStr::new(runtime::NAME))
}

/// Becomes the real runtime, or says why not. All arguments are the runtime's, so our folders come from the
/// environment.
pub(super) fn main(args: &[OsString]) -> u8 {
    output::begin_log();
    let store = Folders::of_environment().store();
    let error = match Call::read(args.get(1..).unwrap_or_default()) {
        Ok(call) => {
            let error =
                program(&store).map_or_else(|error| error, |program| runtime::run(&store, &program, &call));
            if let Err(error) = runtime::report(&call, &error) {
                output::warning(&error.to_string());
            }
            error
        }
        Err(error) => error,
    };
    report(&store, &Event::failed(runtime::NAME, None, &error));
    output::error(&error);
    1
}
