//! The operator's settings: `underlay.json`, which need not exist.

use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::json;
use crate::name::IfName;
use crate::network::Network;

/// The version of the settings format this program reads.
const VERSION: u32 = 1;

/// Settings and policy; every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    version: u32,
    /// Whether annotations may define networks themselves (`io.underlay.network.NAME`).
    pub inline_networks: bool,
    /// The parents such definitions may name; any, if not given.
    pub allowed_parents: Option<Vec<IfName>>,
    /// How long to wait for the ledger's lock, in milliseconds.
    lock_timeout_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { version: VERSION, inline_networks: false, allowed_parents: None, lock_timeout_ms: 20_000 }
    }
}

impl Settings {
    /// Reads the settings from JSON text.
    ///
    /// # Errors
    /// Names the key that is wrong.
    pub fn from_json(text: &[u8]) -> Result<Self> {
        let settings: Self = json::object(text)?;
        if settings.version != VERSION {
            return Err(Error::input(format!("version {} is not known", settings.version))
                .hint(format!("this underlay reads version {VERSION}")));
        }
        Ok(settings)
    }

    /// How long to wait for the ledger's lock.
    pub fn lock_timeout(&self) -> Duration {
        Duration::from_millis(self.lock_timeout_ms)
    }

    /// Whether the container's own definition of `network` may be used.
    ///
    /// # Errors
    /// Says which rule forbids it.
    pub fn allow_inline(&self, network: &Network) -> Result<()> {
        if !self.inline_networks {
            return Err(Error::input(format!(
                "network {} is defined by an annotation, which is not allowed here",
                network.name
            ))
            .hint(
                "create it with `underlay network create`, or set \"inline_networks\": true in underlay.json",
            ));
        }
        match &self.allowed_parents {
            Some(parents) if !parents.contains(&network.parent) => Err(Error::input(format!(
                "network {} names parent {}, which underlay.json does not allow",
                network.name, network.parent
            ))
            .hint("add it to \"allowed_parents\", or use another parent")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads() {
        assert_eq!(Settings::from_json(b"{}").unwrap(), Settings::default());
        let text =
            br#"{"version": 1, "inline_networks": true, "allowed_parents": ["eth0"], "lock_timeout_ms": 5}"#;
        let settings = Settings::from_json(text).unwrap();
        assert!(settings.inline_networks);
        assert_eq!(settings.lock_timeout(), Duration::from_millis(5));
        for text in [&b"[]"[..], b"{\"version\": 2}", b"{\"x\": 1}", b"{\"inline_networks\": 1}", b"{} x"] {
            assert!(Settings::from_json(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn policy() {
        let network = Network::from_json(
            &"lan".parse().unwrap(),
            br#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#,
        )
        .unwrap();
        let allowed =
            |text: &str| Settings::from_json(text.as_bytes()).unwrap().allow_inline(&network).is_ok();
        assert!(!allowed("{}"));
        assert!(allowed(r#"{"inline_networks": true}"#));
        assert!(allowed(r#"{"inline_networks": true, "allowed_parents": ["eth0"]}"#));
        assert!(!allowed(r#"{"inline_networks": true, "allowed_parents": ["eth1"]}"#));
    }
}
