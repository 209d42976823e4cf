//! The text of the `host` link: the key of the seals, and the machine id.

use crate::error::Result;
use crate::net::seal::{KEY, Key};
use crate::random::random;

/// 128 bits, never all zero.
pub(super) type MachineId = [u8; 16];

/// The content of the link.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) key: Key,
    /// The machine id when the link was written, if there was one.
    pub(super) machine: Option<MachineId>,
}

impl Host {
    /// Returns a host with a new random key.
    pub(super) fn new(machine: Option<MachineId>) -> Result<Self> {
        Ok(Self { key: Key::new(random::<KEY>()?), machine })
    }

    /// Returns the key, a `-`, and the machine id if there is one: 32 hexadecimal digits each.
    pub(super) fn text(&self) -> String {
        format!("{}-{}", hex(self.key.bytes()), self.machine.map(hex).unwrap_or_default())
    }

    pub(super) fn of_text(text: &str) -> Option<Self> {
        let (key, machine) = text.split_once('-')?;
        let machine = match machine {
            "" => None,
            machine => Some(machine_id_of(machine)?),
        };
        Some(Self { key: Key::new(of_hex(key)?), machine })
    }
}

pub(super) fn hex(bytes: [u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(bytes))
}

fn of_hex(text: &str) -> Option<[u8; 16]> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    Some(number.to_be_bytes())
}

/// Parses a machine id; all zero is invalid.
pub(super) fn machine_id_of(text: &str) -> Option<MachineId> {
    of_hex(text).filter(|id| *id != [0; 16])
}
