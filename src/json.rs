//! Reading JSON so that an error names the key it is about.

use serde::Deserialize;

use crate::error::{Error, Result};

/// Reads an object as a `T`; a list of its values in order, which serde would take too, is none.
///
/// # Errors
/// As [`read`].
pub fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    match text.trim_ascii_start().first() {
        Some(b'{') | None => read(text),
        Some(_) => Err(Error::input("is no JSON object")),
    }
}

/// Reads one value of type `T` from the whole of `text`.
///
/// # Errors
/// Begins with the path of the offending key, where there is one: `subnets[0].gateway: …`.
pub fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    let mut input = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut input).map_err(|error| {
        let path = error.path().to_string();
        let error = Error::input(error.into_inner().to_string());
        // Where the text breaks off, there is no key to name.
        if path.contains(['.', '?']) && path.trim_matches(['.', '?']).is_empty() {
            error
        } else {
            error.within(path)
        }
    })?;
    input.end().map_err(|error| Error::input(error.to_string()))?;
    Ok(value)
}
