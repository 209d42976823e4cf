//! The setting `conflict_detection`: whether and when the LAN is asked if another host has an address.

use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{Error, Result};
use crate::net::driver::Driver;
use crate::net::value::at_most;

/// The number of probes for one address (RFC 5227, PROBE_NUM).
pub(crate) const PROBES: usize = 3;
/// The number of conflicts after which an attach fails (RFC 5227, MAX_CONFLICTS).
pub(crate) const MAX_CONFLICTS: usize = 10;
/// How often a container's addresses are announced by default, one second apart, as Docker does.
pub(crate) const ANNOUNCEMENTS: u32 = 3;
/// How long an address counts as unclaimed by default, in seconds. A host that comes to the LAN meanwhile asks for it first
/// (RFC 5227, section 2.1), and the agent asks again as soon as a container has it. Ten minutes are as long as a quarantine.
pub(crate) const PROBE_AHEAD: u64 = 600;
/// The longest such time.
pub(crate) const LONGEST_AHEAD: u64 = 3600;
/// The most announcements that can be asked for.
pub(crate) const MOST_ANNOUNCEMENTS: u32 = 10;
/// The longest time that can be asked for, in milliseconds: that of RFC 5227 is at most 7 seconds.
const LONGEST: u32 = 10_000;

/// How long underlay waits for answers to probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", expecting = "expected \"off\", \"rfc\" or milliseconds from 1 to 10000")]
pub(crate) enum Detection {
    /// There are no probes.
    Off,
    /// The times of RFC 5227 (section 1.1): four to seven seconds.
    Rfc,
    /// So many milliseconds.
    #[serde(untagged)]
    For(#[serde(deserialize_with = "milliseconds")] u32),
}

impl Default for Detection {
    /// Hosts answer within a millisecond, busy ones and those behind a radio link within some ten. 100 ms leave time for
    /// the answer to the second probe if the first is lost.
    fn default() -> Self {
        Self::For(100)
    }
}

/// When the probes for an address are sent, and how long underlay waits for answers, from the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    pub probes: [Duration; PROBES],
    pub end: Duration,
}

impl Detection {
    /// When to probe. `chance` is a random number, so that hosts which start together do not probe together.
    pub(crate) fn schedule(self, chance: u64) -> Schedule {
        let ms = |ms: u64| Duration::from_millis(ms);
        match self {
            Self::Off => Schedule { probes: [Duration::ZERO; PROBES], end: Duration::ZERO },
            Self::For(all) => {
                let part = |n: u64| ms(u64::from(all) * n / PROBES as u64);
                Schedule { probes: [part(0), part(1), part(2)], end: ms(u64::from(all)) }
            }
            Self::Rfc => {
                // PROBE_WAIT, PROBE_MIN to PROBE_MAX, ANNOUNCE_WAIT.
                let part = |shift: u32| ms((chance >> shift) % 1001);
                let first = part(0);
                let second = first + ms(1000) + part(16);
                let third = second + ms(1000) + part(32);
                Schedule { probes: [first, second, third], end: third + ms(2000) }
            }
        }
    }

    /// Whether other hosts could answer probes of links of `driver`, whose parent is a dummy link if `on_dummy`.
    ///
    /// # Errors
    /// Says why none could.
    pub(crate) fn check(self, driver: Driver, on_dummy: bool) -> Result<()> {
        let why = match self {
            Self::Off => return Ok(()),
            _ if driver.is_routed() => format!("{driver} has no ARP"),
            _ if on_dummy => "a network without a parent has no LAN".to_owned(),
            _ => return Ok(()),
        };
        Err(Error::input(format!("conflict_detection: {why}")).hint("leave it out, or set it to off"))
    }
}

impl FromStr for Detection {
    type Err = Error;

    /// Reads what JSON has, without quotes.
    fn from_str(text: &str) -> Result<Self> {
        let json = text.parse::<u32>().map_or_else(|_| json!(text), |ms| json!(ms));
        serde_json::from_value(json).map_err(|_| {
            Error::input(format!("{text:?} is not a time for conflict detection"))
                .hint(format!("use off, rfc, or milliseconds from 1 to {LONGEST}"))
        })
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    let ms = u32::deserialize(input)?;
    // serde replaces the text by that of the enum.
    if (1..=LONGEST).contains(&ms) { Ok(ms) } else { Err(D::Error::custom("out of range")) }
}

/// # Errors
/// When the time is too long.
pub(crate) fn check_probe_ahead(seconds: u64) -> Result<()> {
    if seconds <= LONGEST_AHEAD {
        return Ok(());
    }
    Err(Error::input(format!("probe_ahead: {seconds} seconds are too long"))
        .hint(format!("use at most {LONGEST_AHEAD}, or 0 to ask during each attach")))
}

/// # Errors
/// When they are too many.
pub(crate) fn check_announcements(count: u32) -> Result<()> {
    at_most("announcements", count as usize, MOST_ANNOUNCEMENTS as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;
    use crate::net::link::{Link, eth0};

    #[test]
    fn words_and_json() {
        for (text, json, expected) in [
            ("off", "\"off\"", Detection::Off),
            ("rfc", "\"rfc\"", Detection::Rfc),
            ("1", "1", Detection::For(1)),
            ("10000", "10000", Detection::For(10_000)),
        ] {
            assert_eq!(text.parse::<Detection>(), Ok(expected));
            assert_eq!(serde_json::from_str::<Detection>(json).unwrap(), expected);
            assert_eq!(serde_json::to_string(&expected).unwrap(), json);
        }
        for text in ["", "0", "10001", "on", "-1", "5ms"] {
            let said = text.parse::<Detection>().unwrap_err().to_string();
            assert_eq!(said, format!("{text:?} is not a time for conflict detection"));
        }
        for json in ["0", "10001", "-1", "\"on\"", "\"5\"", "true", "null", "[]"] {
            let said = serde_json::from_str::<Detection>(json).unwrap_err().to_string();
            assert!(said.contains("expected \"off\", \"rfc\" or milliseconds from 1 to 10000"), "{said}");
        }
    }

    #[test]
    fn schedules() {
        let ms = Duration::from_millis;
        assert_eq!(Detection::For(90).schedule(7), Schedule { probes: [ms(0), ms(30), ms(60)], end: ms(90) });
        for chance in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            let Schedule { probes: [first, second, third], end } = Detection::Rfc.schedule(chance);
            assert!(first <= ms(1000));
            for gap in [second - first, third - second] {
                assert!((ms(1000)..=ms(2000)).contains(&gap), "{gap:?}");
            }
            assert_eq!(end, third + ms(2000));
        }
        // Each of the three is another part of the number, modulo 1001.
        assert_eq!(
            Detection::Rfc.schedule(0x0003_0384_0007_0005),
            Schedule { probes: [ms(927), ms(927 + 1342), ms(927 + 1342 + 1311)], end: ms(3580 + 2000) }
        );
        assert_eq!(Detection::Off.schedule(7), Schedule { probes: [ms(0); 3], end: ms(0) });
    }

    #[test]
    fn no_host_could_answer() {
        let network = |extra: &str| {
            let text = format!(r#"{{"version": 1, "conflict_detection": 5, "announcements": 2, {extra}}}"#);
            Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
        };
        let said = |extra: &str| network(extra).unwrap_err().to_string();
        assert_eq!(
            said(r#""driver": "ipvlan", "ipvlan_mode": "l3", "parent": "eth0""#),
            "conflict_detection: ipvlan mode l3 bridge has no ARP"
        );
        assert_eq!(
            said(r#""driver": "macvlan""#),
            "conflict_detection: a network without a parent has no LAN"
        );
        let lan = network(r#""driver": "macvlan", "parent": "eth0""#).unwrap();
        assert_eq!(lan.announced(), 2);
        let text = br#"{"version": 1, "driver": "macvlan", "announcements": 11}"#;
        let error = Network::from_json(&"lan".parse().unwrap(), text).unwrap_err();
        assert_eq!(error.to_string(), "announcements: 11 are too many, 10 are possible");
    }

    #[test]
    fn which_networks_probe() {
        let network = |keys: &str| {
            let text = format!(r#"{{"version": 1, {keys}}}"#);
            Network::from_json(&"lan".parse().unwrap(), text.as_bytes()).unwrap()
        };
        let of_kind = |kind: &str| Link { kind: Some(kind.to_owned()), ..eth0() };
        let macvlan = r#""driver": "macvlan", "parent": "eth0""#;
        let five = Some(Detection::For(5));
        for (keys, wanted, parent, expected) in [
            (macvlan, five, eth0(), five),
            (macvlan, Some(Detection::Rfc), of_kind("vlan"), Some(Detection::Rfc)),
            (macvlan, Some(Detection::Off), eth0(), None),
            (macvlan, None, eth0(), None),
            // No host could answer.
            (macvlan, five, Link { up: false, ..eth0() }, Some(Detection::For(5))),
            (macvlan, five, of_kind("dummy"), None),
            (r#""driver": "macvlan""#, five, of_kind("veth"), None),
            (r#""driver": "ipvlan", "parent": "eth0""#, five, eth0(), five),
            (r#""driver": "ipvlan", "ipvlan_mode": "l3", "parent": "eth0""#, five, eth0(), None),
            (r#""driver": "ipvlan", "ipvlan_mode": "l3s", "parent": "eth0""#, five, eth0(), None),
        ] {
            // As the settings say where the definition does not.
            let mut network = network(keys);
            (network.file.conflict_detection, network.file.announcements) = (wanted, Some(2));
            assert_eq!(network.detection_on(&parent), expected, "{keys} {wanted:?} {parent:?}");
            assert_eq!(network.announced(), if keys.contains("l3") { 0 } else { 2 }, "{keys}");
        }
        assert_eq!(network(macvlan).announced(), 0);
        assert!(check_announcements(10).is_ok() && check_announcements(11).is_err());
    }
}
