//! Processes that outlive the one that starts them, and that nobody waits for.

use std::env;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{self, Path};
use std::process::{Command, Stdio};

use nix::unistd::{close, setsid};

use super::start::unblock_signals;
use crate::error::{Error, Result};

/// This very program, whatever its file is called by now.
const SELF: &str = "/proc/self/exe";

/// Starts this program with these folders and arguments, in the namespaces of the calling thread, without waiting for
/// its end.
///
/// # Errors
/// When it cannot be started.
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

/// Leaves the session, the folder and the blocked signals of whoever started this process, and closes all files but the three: runtimes wait
/// until nobody holds the pipes they have given to a hook, and unmount the bundle it was started in.
///
/// To be called before anything is opened.
pub(crate) fn detach_self() {
    unblock_signals();
    // Who leads a session already needs none.
    let _ = setsid();
    // Not when it is started: a folder to start in would have it forked, not spawned.
    let _ = env::set_current_dir("/");
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open: Vec<i32> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for file in open.into_iter().filter(|&file| file > 2) {
        // That of the folder is closed.
        let _ = close(file);
    }
}
