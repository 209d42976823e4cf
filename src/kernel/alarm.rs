//! A timer of `CLOCK_BOOTTIME`, which goes on in suspend and which nobody sets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::error::{Error, Result};

/// A descriptor that can be read once its time has come.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    pub(crate) fn new() -> Result<Self> {
        let made = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC);
        made.map(Self).map_err(|errno| Error::kernel("make a timer", &io::Error::from(errno)))
    }

    /// Sets it to `until`, in the time since the boot; without, it never comes.
    pub(crate) fn set(&self, until: Option<Duration>) {
        // No time at all switches the timer off.
        let until = until.map_or(Duration::ZERO, |until| until.max(Duration::from_nanos(1)));
        let it_value = Timespec::try_from(until).unwrap_or_default();
        let times = Itimerspec { it_interval: Timespec::default(), it_value };
        // It cannot fail with a timer and a time that is one.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &times);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
