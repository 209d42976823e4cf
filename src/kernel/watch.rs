//! Waiting for what the agent has to know: files in a folder, changes of links, and a time.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::alarm::Alarm;
use super::wait::wait;
use crate::error::{Error, Kind, Result};
use crate::netlink::LinkMonitor;

/// A folder, the links of the namespace of the thread that made this, and a clock.
pub(crate) struct Watch {
    folder: Inotify,
    links: LinkMonitor,
    timer: Alarm,
}

impl Watch {
    /// Watches links, and no folder yet.
    pub(crate) fn open() -> Result<Self> {
        let folder = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let folder = folder.map_err(|errno| failed(&errno.into()))?;
        Ok(Self { folder, links: LinkMonitor::open()?, timer: Alarm::new()? })
    }

    /// Watches the folder at `path`, which may be another one than before.
    pub(crate) fn follow(&self, path: &Path) -> Result<()> {
        let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_ONLYDIR;
        let watched = self.folder.add_watch(path, flags).map_err(io::Error::from);
        watched.map(drop).map_err(|error| Error::io("watch", path, &error))
    }

    /// Waits until a file is made in the folder, the folder is deleted, a link changes, or `until` has come, in the time since
    /// the boot. Returns true if links have changed.
    pub(crate) fn wait(&self, until: Duration) -> Result<bool> {
        self.timer.set(Some(until));
        let all = [self.folder.as_fd(), self.links.as_fd(), self.timer.as_fd()];
        wait(all.into_iter(), None).map_err(|error| failed(&error))?;
        while self.folder.read_events().is_ok_and(|events| !events.is_empty()) {}
        Ok(self.links.has_changed())
    }
}

fn failed(error: &io::Error) -> Error {
    let kind = Kind::Kernel(error.raw_os_error().unwrap_or_default());
    Error::new(kind, format!("cannot wait for events: {error}"))
}
