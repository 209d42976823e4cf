//! Bytes as hexadecimal digits.

use std::fmt::{self, Write};

use crate::error::{Error, Result};

/// The bytes that the digits of `text` are.
pub(crate) fn read(text: &str) -> Result<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<_>> = text.as_bytes().chunks(2).map(byte).collect();
    bytes.ok_or_else(|| Error::input("is not made of pairs of hexadecimal digits"))
}

pub(crate) fn write(bytes: &[u8], f: &mut impl Write) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}
