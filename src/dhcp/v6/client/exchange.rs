//! A message that is sent until an answer comes: its number, and the times (RFC 8415, section 15).

use std::time::Duration;

use crate::dhcp::times::jitter;

/// Waits are up to so many hundredths shorter or longer (RAND).
const SPREAD: u32 = 10;

/// The attempts to get one answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    /// It stays the same when the message is sent again.
    pub xid: u32,
    pub started: Duration,
    /// When the message was sent last. A lease counts from here.
    pub sent: Duration,
    /// The last wait.
    wait: Duration,
    pub tries: u32,
    /// When it is time for the next one.
    pub next: Duration,
}

impl Exchange {
    /// An exchange that begins at `start`.
    pub(super) fn new(start: Duration, random: u64) -> Self {
        let xid = random as u32 & 0xff_ffff;
        Self { xid, started: start, sent: start, wait: Duration::ZERO, tries: 0, next: start }
    }

    /// Notes that the message is sent: it is waited for `first`, then each time twice as long, up to `longest`.
    pub(super) fn send(&mut self, now: Duration, first: Duration, longest: Duration, random: u64) {
        let wait = if self.tries == 0 { first } else { (self.wait * 2).min(longest) };
        if self.tries == 0 {
            self.started = now;
        }
        self.wait = jitter(wait, SPREAD, random);
        self.sent = now;
        self.tries += 1;
        self.next = now + self.wait;
    }

    /// The hundredths of a second since the first message.
    pub(super) fn elapsed(&self, now: Duration) -> u16 {
        if self.tries == 0 {
            return 0;
        }
        u16::try_from(now.saturating_sub(self.started).as_millis() / 10).unwrap_or(u16::MAX)
    }
}
