//! Reading JSON so that an error names the key it is about.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::marker::PhantomData;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

use crate::error::{Error, Result};

/// Reads an object as a `T`; a list of its values in order, which serde would take too, is none.
///
/// # Errors
/// As [`read`].
pub(crate) fn object<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    is_object(text)?;
    read(text)
}

/// Reads an object that this program has written. Its errors name no key: nobody edits such a file, and code that follows the
/// keys of all that the ledger has would be a tenth of the program.
pub(crate) fn own<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
    is_object(text)?;
    serde_json::from_slice(text).map_err(|error| Error::input(error.to_string()))
}

fn is_object(text: &[u8]) -> Result<()> {
    match text.trim_ascii_start().first() {
        Some(b'{') | None => Ok(()),
        Some(_) => Err(Error::input("is not a JSON object")),
    }
}

/// Reads an object whose format is `version` as a `T`.
///
/// # Errors
/// As [`read`]. Another version, which may have other keys, is refused first.
pub(crate) fn of_version<'a, T: Deserialize<'a>>(text: &'a [u8], version: u32) -> Result<T> {
    #[derive(Deserialize)]
    struct Format {
        version: Option<u32>,
    }
    let Format { version: written } = object(text)?;
    match written.filter(|&written| written != version) {
        Some(other) => Err(Error::input(format!("version {other} is not known"))
            .hint(format!("this underlay reads version {version}"))),
        None => read(text),
    }
}

/// Reads one value of type `T` from the whole of `text`.
///
/// # Errors
/// Begins with the path of the offending key, where there is one: `subnets[0].gateway: …`.
pub(crate) fn read<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T> {
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

/// Reads a map whose keys differ: of two equal ones serde would take the last without a word.
///
/// # Errors
/// Names the key that is given twice.
pub(crate) fn distinct<'de, D, K, V>(input: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    struct Distinct<K, V>(PhantomData<(K, V)>);

    impl<'de, K, V> Visitor<'de> for Distinct<K, V>
    where
        K: Deserialize<'de> + Ord + Display,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Self::Value, A::Error> {
            let mut map: Self::Value = BTreeMap::new();
            while let Some((key, value)) = input.next_entry()? {
                if map.contains_key(&key) {
                    return Err(de::Error::custom(format!("{:?} is given twice", key.to_string())));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }

    input.deserialize_map(Distinct(PhantomData))
}
