//! When a lease is to be renewed and when it ends. All times are since the boot, by a clock that goes on while the host is
//! suspended (`CLOCK_BOOTTIME`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A lease of so many seconds has no end (RFC 2131, 3.3; RFC 8415, 7.7).
pub(crate) const FOR_EVER: u32 = u32::MAX;

/// T1 is missed by up to so many hundredths: leases that began together are not renewed together.
const SPREAD: u32 = 5;

/// For how many seconds the kernel keeps an address: [`FOR_EVER`] is without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// For how long new connections are made with it.
    pub preferred: u32,
    pub valid: u32,
}

/// The times of a lease. They count from when it was asked for, not from when the answer came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    #[serde(with = "milliseconds")]
    pub obtained: Duration,
    /// None for a lease without end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// What is due when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// The server that gave the lease is asked to renew it.
    #[serde(with = "milliseconds")]
    pub t1: Duration,
    /// Any server is asked.
    #[serde(with = "milliseconds")]
    pub t2: Duration,
    /// The address must not be used any longer.
    #[serde(with = "milliseconds")]
    pub expiry: Duration,
}

impl Times {
    /// The times of a lease that was asked for at `obtained`, of `lifetime` seconds. `t1` and `t2` are the server's, and those
    /// that the defaults are, where the server's make no sense.
    pub(crate) fn new(obtained: Duration, lifetime: u32, t1: (u32, Duration), t2: (u32, Duration)) -> Self {
        let expiry = Duration::from_secs(lifetime.into());
        let given = |(seconds, default): (u32, Duration), end: Duration| {
            let given = Duration::from_secs(seconds.into());
            if given.is_zero() || given >= end { default } else { given }
        };
        let t2 = given(t2, expiry);
        // The default too may lie behind a T2 that is early.
        let t1 = Some(given(t1, t2)).filter(|&t1| t1 < t2).unwrap_or(t2 / 2);
        let limits = Limits { t1: obtained + t1, t2: obtained + t2, expiry: obtained + expiry };
        Self { obtained, limits: (lifetime != FOR_EVER).then_some(limits) }
    }

    pub(crate) fn is_over(&self, now: Duration) -> bool {
        self.limits.is_some_and(|limits| limits.expiry <= now)
    }

    /// The full seconds that are left of the lease, as the kernel takes them: [`FOR_EVER`] if it has no end.
    pub(crate) fn seconds_left(&self, now: Duration) -> u32 {
        let left = |limits: Limits| limits.expiry.saturating_sub(now).as_secs().min((FOR_EVER - 1).into());
        self.limits.map_or(FOR_EVER, |limits| left(limits) as u32)
    }
}

/// When a lease is to be renewed: about at T1, and no later than T2.
pub(super) fn renewal(times: &Times, random: u64) -> Option<Duration> {
    let Limits { t1, t2, .. } = times.limits?;
    let wait = jitter(t1.saturating_sub(times.obtained), SPREAD, random);
    Some(times.obtained.saturating_add(wait).min(t2))
}

/// The pause before a client begins again after so many `setbacks`: a second, then each time twice as long, up to half an hour.
pub(super) fn pause(setbacks: u32, random: u64) -> Duration {
    let pause = Duration::from_secs(1 << setbacks.min(16));
    jitter(pause.min(Duration::from_secs(1800)), 25, random)
}

/// `base`, up to `percent` of it shorter or longer: as `random` says.
pub(super) fn jitter(base: Duration, percent: u32, random: u64) -> Duration {
    // Enough bits to choose by, and few enough to multiply with.
    let part = (random >> 48) as u32;
    let most = base.saturating_mul(percent) / 100;
    (base - most).saturating_add(most.saturating_mul(part) / 32768)
}

/// A time as milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, output: S) -> Result<S::Ok, S::Error> {
        output.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        u64::deserialize(input).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// T1, T2 and the end in milliseconds after the request, as for DHCPv4.
    fn v4(lifetime: u32, t1: u32, t2: u32) -> Option<[u128; 3]> {
        let whole = Duration::from_secs(lifetime.into());
        let times = Times::new(seconds(1000), lifetime, (t1, whole / 2), (t2, whole * 7 / 8));
        times.limits.map(|limits| {
            [limits.t1, limits.t2, limits.expiry].map(|time| (time - seconds(1000)).as_millis())
        })
    }

    #[test]
    fn times_that_make_no_sense_are_the_defaults() {
        assert_eq!(v4(3600, 0, 0), Some([1_800_000, 3_150_000, 3_600_000]), "neither is given");
        assert_eq!(v4(3600, 900, 1200), Some([900_000, 1_200_000, 3_600_000]));
        assert_eq!(v4(3600, 3600, 3600), Some([1_800_000, 3_150_000, 3_600_000]));
        assert_eq!(v4(3600, 1200, 900), Some([450_000, 900_000, 3_600_000]), "T1 behind T2");
        assert_eq!(v4(3600, 900, FOR_EVER), Some([900_000, 3_150_000, 3_600_000]));
        assert_eq!(v4(1, 0, 0), Some([500, 875, 1000]), "a lease of a second");
        assert_eq!(v4(6, 2, 4), Some([2000, 4000, 6000]));
        assert_eq!(v4(FOR_EVER, 900, 1200), None, "for ever");
    }

    proptest! {
        #[test]
        fn t1_is_before_t2_is_before_the_end(lifetime in 1..FOR_EVER, t1: u32, t2: u32) {
            let [t1, t2, end] = v4(lifetime, t1, t2).unwrap();
            prop_assert!(0 < t1 && t1 < t2 && t2 < end);
        }

        #[test]
        fn jitter_stays_within_its_bounds(base in 0..u64::MAX, random: u64) {
            let base = Duration::from_millis(base);
            let changed = jitter(base, 25, random);
            prop_assert!(base * 3 / 4 <= changed && changed <= base * 5 / 4);
        }
    }

    #[test]
    fn what_is_left() {
        let times = Times::new(seconds(1000), 60, (0, seconds(30)), (0, seconds(52)));
        assert_eq!(times.seconds_left(seconds(1000)), 60);
        assert_eq!(
            times.seconds_left(Duration::from_millis(1_000_001)),
            59,
            "no moment longer than the server's"
        );
        assert_eq!((times.seconds_left(seconds(1060)), times.seconds_left(seconds(5000))), (0, 0));
        assert!(!times.is_over(seconds(1059)) && times.is_over(seconds(1060)));
        let far = Limits { expiry: seconds(1 << 40), ..times.limits.unwrap() };
        let far = Times { limits: Some(far), ..times };
        assert_eq!(far.seconds_left(seconds(1000)), FOR_EVER - 1, "it has an end");
        let for_ever = Times { limits: None, ..times };
        assert_eq!(for_ever.seconds_left(seconds(5000)), FOR_EVER);
        assert!(!for_ever.is_over(Duration::MAX));
    }

    #[test]
    fn read_as_written() {
        let times = Times::new(Duration::from_millis(1_500), 60, (0, seconds(30)), (0, seconds(52)));
        let text = r#"{"obtained":1500,"limits":{"t1":31500,"t2":53500,"expiry":61500}}"#;
        assert_eq!(serde_json::to_string(&times).unwrap(), text);
        assert_eq!(serde_json::from_str::<Times>(text).unwrap(), times);
        assert_eq!(
            serde_json::from_str::<Times>(r#"{"obtained":1500}"#).unwrap(),
            Times { limits: None, ..times }
        );
    }
}
