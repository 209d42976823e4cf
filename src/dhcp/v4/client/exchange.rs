//! A message that is sent until an answer comes: its number, and the times.

use std::time::Duration;

use crate::dhcp::times::jitter;

/// The wait after the first try, and the longest waits: of a client that gives up, and of one that does not (RFC 2131, 4.1).
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(64));
/// Waits are up to so many hundredths shorter or longer.
const SPREAD: u32 = 25;
/// The shortest wait of a client that renews its lease (RFC 2131, 4.4.5).
const SHORTEST_RENEWAL: Duration = Duration::from_secs(60);

/// The attempts to get one answer.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub xid: u32,
    /// When the client began with this and what went before.
    pub started: Duration,
    /// When what is asked for was asked for first: a lease counts from here.
    pub sent: Duration,
    /// Each wait is twice as long as the one before.
    pub tries: u32,
    /// When it is time for the next one.
    pub next: Duration,
    /// The seconds since the beginning.
    pub secs: u16,
}

impl Exchange {
    /// The first message of a client that gives up at `until`, at `now`.
    pub(super) fn new(now: Duration, random: u64, until: Option<Duration>) -> Self {
        let next = now + wait(0, random, until);
        Self { xid: random as u32, started: now, sent: now, tries: 1, next, secs: 0 }
    }

    /// Another DHCPDISCOVER: with the same number, because a server may answer the first one late.
    pub(super) fn again(&mut self, now: Duration, random: u64, until: Option<Duration>) {
        self.secs = seconds(now.saturating_sub(self.started));
        self.repeat(now, random, until);
    }

    /// The same message again.
    pub(super) fn repeat(&mut self, now: Duration, random: u64, until: Option<Duration>) {
        let wait = wait(self.tries, random, until);
        (self.tries, self.next) = (self.tries + 1, now + wait);
    }

    /// The first DHCPREQUEST after an offer: with the number and the seconds of the DHCPDISCOVER (RFC 2131, 4.4.1). It is
    /// followed by a longer wait, because its answer is the slower one.
    pub(super) fn request(&mut self, now: Duration, random: u64, until: Option<Duration>) {
        (self.sent, self.tries) = (now, 1);
        self.repeat(now, random, until);
    }

    /// A message to renew a lease, which has time until `end`: half of it is waited for an answer. Each has a number of its
    /// own, so that it is known from when the lease counts.
    pub(super) fn until(end: Duration, now: Duration, random: u64, started: Option<Duration>) -> Self {
        let started = started.unwrap_or(now);
        let wait = (end.saturating_sub(now) / 2).max(SHORTEST_RENEWAL);
        let secs = seconds(now.saturating_sub(started));
        Self { xid: random as u32, started, sent: now, tries: 1, next: (now + wait).min(end), secs }
    }
}

/// The wait after `tries` earlier ones.
fn wait(tries: u32, random: u64, until: Option<Duration>) -> Duration {
    let longest = if until.is_some() { LONGEST.0 } else { LONGEST.1 };
    jitter(FIRST.saturating_mul(1 << tries.min(16)).min(longest), SPREAD, random)
}

fn seconds(time: Duration) -> u16 {
    u16::try_from(time.as_secs()).unwrap_or(u16::MAX)
}
