//! The machine's own secret, from which MAC addresses are derived.

use std::path::Path;
use std::sync::OnceLock;

use crate::file::{self, Trust};
use crate::link::Link;

/// machine-id(5): made once for each installation, the same after each boot.
const MACHINE_ID: &str = "/etc/machine-id";

/// The machine id; where there is none, the MAC address of `parent`, which is unique on its segment too.
pub(super) fn key(parent: &Link) -> [u8; 16] {
    static ID: OnceLock<Option<[u8; 16]>> = OnceLock::new();
    if let Some(id) = ID.get_or_init(id) {
        return *id;
    }
    let mut key = [0; 16];
    let bytes = parent.mac.map(|mac| mac.bytes()).unwrap_or_default();
    key.iter_mut().zip(bytes).for_each(|(key, byte)| *key = byte);
    key
}

fn id() -> Option<[u8; 16]> {
    let read = file::read(Path::new(MACHINE_ID), 64, Trust::Operator);
    match read.map(|text| text.and_then(|text| parse(&text))) {
        Ok(Some(id)) => return Some(id),
        Ok(None) => log::info!("{MACHINE_ID} has no machine id: MAC addresses are derived from the parent's"),
        Err(error) => log::info!("{error}: MAC addresses are derived from the parent's"),
    }
    None
}

/// 32 hexadecimal digits and the end of the line.
fn parse(text: &[u8]) -> Option<[u8; 16]> {
    let text = std::str::from_utf8(text).ok()?.trim_end();
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let key = is_id.then(|| u128::from_str_radix(text, 16).ok()).flatten()?;
    (key != 0).then(|| key.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        let id = parse(b"3d1219c7c4c5404aaa1f6d2a48adfda4\n").unwrap();
        assert_eq!((id[0], id[15]), (0x3d, 0xa4));
        for text in [
            "",
            "uninitialized\n",
            "3d1219c7c4c5404aaa1f6d2a48adfda\n",
            "+d1219c7c4c5404aaa1f6d2a48adfda4",
            "00000000000000000000000000000000\n",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(&[0xff; 32]), None);
    }
}
