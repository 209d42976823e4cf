//! Arguments that are refused with a hint: clap prints an error without.

use std::str::FromStr;

use crate::error::Error;

/// Parses an argument. Says in full why it is refused.
pub(super) fn hinted<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| error.in_full())
}
