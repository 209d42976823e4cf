//! Detached processes: they outlive the hook that starts them.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{self, Path};
use std::process::{Command, Stdio};

use nix::unistd::{close, setsid};

use super::start::unblock_signals;
use crate::error::{Error, Result};

/// This program, even if its file was replaced or deleted.
const SELF: &str = "/proc/self/exe";

/// Starts this program with these folders and arguments, in the namespaces of the calling thread, and does not wait for it.
pub(crate) fn start_detached(config_dir: &Path, state_dir: &Path, arguments: &[&str]) -> Result<()> {
    let start = || {
        Command::new(SELF)
            .arg0("underlay")
            .arg("--config-dir")
            .arg(path::absolute(config_dir)?)
            .arg("--state-dir")
            .arg(path::absolute(state_dir)?)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    };
    start().map(drop).map_err(|error: io::Error| Error::io("start", SELF.as_ref(), &error))
}

/// Leaves the session, the folder and the blocked signals of the process that started this one, and closes all files except
/// stdin, stdout and stderr: a runtime waits until all ends of the pipes that it gave to a hook are closed, and unmounts the
/// bundle that the hook was started in.
///
/// To be called before anything is opened.
pub(crate) fn detach_self() {
    unblock_signals();
    // A session leader stays what it is.
    let _ = setsid();
    // Not by the process that starts this one: with a folder to start in, `Command` would use fork(2) instead of posix_spawn(3).
    let _ = env::set_current_dir("/");
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for file in open.into_iter().filter(|&file| file > 2) {
        // The file of the folder itself is closed already.
        let _ = close(file);
    }
}
