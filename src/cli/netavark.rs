//! `underlay netavark`: the calls of podman's network stack, for which this program is a plugin in its folder.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::hook::rootless;
use super::output;
use crate::error::{Error, Result};
use crate::escape::printable;
use crate::frontend::netavark::{self, Call};
use crate::ledger::Store;
use crate::ledger::event::Event;
use crate::lifecycle::report::report;
use crate::oci;

/// podman's plugin folders have this name.
const FOLDER: &str = "netavark";

/// The calls of netavark's plugin API.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Called {
    /// Check a network that podman is about to create, on stdin, and print it as podman is to keep it
    Create,
    /// Attach the container on stdin to one network
    Setup {
        /// Where its network namespace is mounted
        path: PathBuf,
    },
    /// Detach the container on stdin from one network
    Teardown {
        /// Where its network namespace is, or was, mounted
        path: PathBuf,
    },
    /// Print the version of the API
    Info,
}

/// The command line of a call, if the program was called in a plugin folder of podman's.
pub(super) fn as_command(args: Vec<OsString>) -> Vec<OsString> {
    let folder = args.first().and_then(|program| Path::new(program).parent()?.file_name());
    if folder != Some(OsStr::new(FOLDER)) {
        return args;
    }
    let call = if args.len() > 1 { None } else { Some("info".into()) };
    let mut args = args.into_iter();
    args.next().into_iter().chain([FOLDER.into()]).chain(args).chain(call).collect()
}

/// Answers on stdout. podman shows an error that is there, in its own form.
pub(super) fn answer(store: &Store, called: &Called) -> Result<()> {
    let answered: Result<()> = match called {
        Called::Create => input().and_then(|text| {
            let created = netavark::create(store, &text)?;
            output::json(&created)
        }),
        Called::Setup { path } => set_up(store, path),
        Called::Teardown { path } => tear_down(store, path),
        Called::Info => output::json(&json!({"version": env!("CARGO_PKG_VERSION"), "api_version": "1.0.0"})),
    };
    answered.map_err(rootless).inspect_err(|error| {
        // The exit code tells of it too.
        let _ = output::json(&json!({"error": printable::message(&error.in_full().to_string())}));
    })
}

fn set_up(store: &Store, path: &Path) -> Result<()> {
    let call = input().and_then(|text| Call::read(&text));
    let done = call.as_ref().map_err(Error::clone).and_then(|call| netavark::set_up(store, path, call));
    let done = done.inspect_err(|error| {
        let key = call.as_ref().ok().map(|call| call.key.as_str());
        report(store, &Event::failed("setup", key, error));
    })?;
    if let Some(record) = &done.attached {
        report(store, &Event::Attached(record.into()));
    }
    output::json(&done.status)
}

fn tear_down(store: &Store, path: &Path) -> Result<()> {
    let call = Call::read(&input()?)?;
    let done = netavark::tear_down(store, path, &call);
    let done =
        done.inspect_err(|error| report(store, &Event::failed("teardown", Some(call.key.as_str()), error)))?;
    if let Some(record) = &done {
        report(store, &Event::Detached(record.into()));
    }
    Ok(())
}

fn input() -> Result<Vec<u8>> {
    oci::read_to_end(io::stdin().lock(), "what podman says")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_podman_calls_it() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (line, becomes) in [
            ("/usr/libexec/netavark/underlay create", "/usr/libexec/netavark/underlay netavark create"),
            ("/usr/lib/netavark/underlay setup /run/x", "/usr/lib/netavark/underlay netavark setup /run/x"),
            ("/usr/lib/netavark/underlay", "/usr/lib/netavark/underlay netavark info"),
            ("/usr/bin/underlay netavark info", "/usr/bin/underlay netavark info"),
            ("underlay ps", "underlay ps"),
            ("netavark ps", "netavark ps"),
        ] {
            assert_eq!(as_command(words(line)), words(becomes), "{line}");
        }
    }
}
