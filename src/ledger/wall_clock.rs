//! Times of the ledger, which are since the boot, as people read them.

use std::time::{Duration, SystemTime};

use crate::ledger::segment_hints::since_boot;

/// The time `since` the boot as RFC 3339, in seconds and UTC. It moves with the clock, if that is set.
pub(crate) fn rfc3339(since: Duration) -> String {
    let (now, boot) = (SystemTime::now(), since_boot());
    let time = match since.checked_sub(boot) {
        Some(ahead) => now.checked_add(ahead),
        None => now.checked_sub(boot - since),
    };
    humantime::format_rfc3339_seconds(time.unwrap_or(now)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_and_after_now() {
        let at = |since| humantime::parse_rfc3339(&rfc3339(since)).unwrap();
        let now = SystemTime::now();
        let near = |time: SystemTime, expected: SystemTime| {
            let apart = time.duration_since(expected).or_else(|_| expected.duration_since(time)).unwrap();
            assert!(apart < Duration::from_secs(5), "{apart:?}");
        };
        near(at(since_boot()), now);
        near(at(since_boot() + Duration::from_secs(3600)), now + Duration::from_secs(3600));
        near(at(Duration::ZERO), now - since_boot());
    }
}
