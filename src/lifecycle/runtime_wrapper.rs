//! `underlay-runtime`: a wrapper of an OCI runtime. It adds our hooks to containers that ask for networks,
//! then executes the runtime.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::error::{Error, Kind, Result};
use crate::escape::printable;
use crate::fs::file;
use crate::fs::foreign_file::ForeignFile;
use crate::fs::trust;
use crate::kernel;
use crate::ledger::Store;
use crate::oci;
use crate::oci::hooks::Program;
use crate::oci::inject;
use crate::oci::runtime_args::Call;

/// The program name that selects the wrapper.
pub(crate) const NAME: &str = "underlay-runtime";
/// Runtimes in order of preference, and the folders that are searched. PATH is not: the caller controls it.
const RUNTIMES: [&str; 2] = ["runc", "crun"];
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Executes the runtime for `call`; `program` is this program. Returns only on an error.
pub(crate) fn run(store: &Store, program: &Program, call: &Call<'_>) -> Error {
    match prepare(store, program, call) {
        Ok(runtime) => {
            kernel::restore_signals();
            let error = Command::new(&runtime).args(call.arguments).exec();
            Error::io("execute", &runtime, &error)
        }
        Err(error) => error,
    }
}

/// Adds the hooks, and returns the path of the runtime.
fn prepare(store: &Store, program: &Program, call: &Call<'_>) -> Result<PathBuf> {
    let config = call.bundle.map(oci::config_path);
    let asks = config.as_deref().map(|path| add_hooks(path, program, call)).transpose()?.unwrap_or(false);
    let runtime = match store.settings() {
        Ok(settings) => settings.runtime,
        // The hook would fail with such settings, too. Containers without networks start all the same.
        Err(error) if asks => return Err(error),
        Err(error) => {
            log::warn!("{error}");
            None
        }
    };
    let is_other = |path: &Path| fs::canonicalize(path).is_ok_and(|path| path != program.path);
    match runtime {
        Some(path) if is_other(&path) => Ok(path),
        Some(path) => Err(Error::new(Kind::NotFound, format!("there is no OCI runtime {}", path.display()))
            .within("runtime")
            .within(store.settings_path().display())
            .hint("name the file of runc or crun")),
        None => {
            let mut found =
                RUNTIMES.iter().flat_map(|name| FOLDERS.map(|folder| Path::new(folder).join(name)));
            found.find(|path| is_other(path)).ok_or_else(|| {
                let text = format!("there is no {} in {}", RUNTIMES.join(" or "), FOLDERS.join(", "));
                Error::new(Kind::NotFound, text)
                    .hint(format!("install one, or set \"runtime\" in {}", store.settings_path().display()))
            })
        }
    }
}

/// Adds the hooks to the config.json at `path`, if the container asks for a network and has none of them.
/// Returns true if they were added. The runtime reports a config.json that cannot be read.
fn add_hooks(path: &Path, program: &Program, call: &Call<'_>) -> Result<bool> {
    let Ok(config) = ForeignFile::read(path, oci::LIMIT) else { return Ok(false) };
    let of_config = |error: Error| error.within(path.display());
    let Some(text) = inject::inject(&config.content, program, &call.networks).map_err(of_config)? else {
        return Ok(false);
    };
    trust::check_program(&program.path)?;
    config.replace(&text)?;
    Ok(true)
}

/// Writes the error to the log file of the call, as runc does: containerd and Docker show the last error of
/// that log.
pub(crate) fn report(call: &Call<'_>, error: &Error) -> Result<()> {
    let Some(log) = call.log else { return Ok(()) };
    let message = printable::message(&format!("{NAME}: {error}"));
    let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let line = match call.json {
        true => serde_json::json!({"level": "error", "msg": message, "time": time}).to_string(),
        false => format!("time={time:?} level=error msg={message:?}"),
    };
    file::append(log, &(line + "\n"))
}
