//! The hook's log: runtimes throw a hook's stderr away (crun) or show it only on failure (runc).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Store;
use crate::file;
use crate::printable;

/// The log is begun anew when it is larger; one older log is kept.
const LIMIT: u64 = 1024 * 1024;

impl Store {
    /// Where the log is.
    pub fn log_path(&self) -> PathBuf {
        self.state_dir.join("log")
    }

    /// Adds one line to the log. A log that cannot be written is no reason to fail: stderr has the line too.
    pub fn log(&self, line: &str) {
        let path = self.log_path();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LIMIT) {
            let _ = fs::rename(&path, path.with_extension("old"));
        }
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        let line = format!("{now} {}\n", printable::message(line));
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let file = open().or_else(|error| match file::make_folder(&self.state_dir, 0o700) {
            Ok(()) => open(),
            Err(_) => Err(error),
        });
        // One write to a file opened for appending: lines of several hooks do not mix.
        if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
            ::log::debug!("cannot write {}: {error}", path.display());
        }
    }
}
