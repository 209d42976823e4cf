//! How checked values are defined, so that all of them are read, written and refused alike.

/// JSON has values of these types as text: `FromStr` reads them, and `Display` writes them.
macro_rules! as_text {
    ($name:ty) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(input)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, output: S) -> Result<S::Ok, S::Error> {
                output.collect_str(self)
            }
        }
    };
}

/// Defines a checked text, for which `$is_usable` holds. `$refusal` says of another that it is refused.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $refusal:literal, $is_usable:expr, $hint:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(String);

        impl $name {
            /// The text itself.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::error::Error;

            fn from_str(text: &str) -> crate::error::Result<Self> {
                if $is_usable(text) {
                    return Ok(Self(text.to_owned()));
                }
                // A text that is far too long is not repeated in full.
                let shown: String = text.chars().take(256).collect();
                Err(Self::Err::input(format!($refusal, shown)).hint($hint))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        crate::net::value::as_text!($name);
    };
}

/// Defines an enum that is spelled by the same words in files, options and messages. Those behind a `|` are read too. A number
/// in parentheses is the kernel's.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, {
        $($(#[$vdoc:meta])* $variant:ident $(($number:literal))? = $word:literal $(| $alias:literal)*),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub(crate) enum $name {
            $($(#[$vdoc])* #[serde(rename = $word $(, alias = $alias)*)] $variant $(= $number)?),+
        }

        #[allow(dead_code, reason = "not every enum is listed, or has numbers")]
        impl $name {
            pub(crate) const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            pub(crate) fn of_number(number: u32) -> Option<Self> {
                Self::ALL.into_iter().find(|&known| known as u32 == number)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::error::Error;

            fn from_str(text: &str) -> crate::error::Result<Self> {
                match text {
                    $($word $(| $alias)* => Ok(Self::$variant),)+
                    _ => Err(Self::Err::input(format!(concat!("unknown ", $what, " {:?}"), text))
                        .hint(concat!("use one of:", $(" ", $word),+))),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

/// Defines a number of which some values are refused: a newtype of `$int`, of which `$is_allowed` says which ones it has.
macro_rules! number {
    ($(#[$meta:meta])* $name:ident($int:ty), $is_allowed:expr, $what:literal, $hint:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name($int);

        impl $name {
            fn refused(text: impl std::fmt::Display) -> crate::error::Error {
                crate::error::Error::input(format!(concat!("{} is not a ", $what), text)).hint($hint)
            }
        }

        impl TryFrom<$int> for $name {
            type Error = crate::error::Error;

            fn try_from(number: $int) -> crate::error::Result<Self> {
                let is_allowed: fn($int) -> bool = $is_allowed;
                if is_allowed(number) { Ok(Self(number)) } else { Err(Self::refused(number)) }
            }
        }

        impl From<$name> for $int {
            fn from($name(number): $name) -> Self {
                number
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::error::Error;

            fn from_str(text: &str) -> crate::error::Result<Self> {
                let number = text.parse::<$int>().ok().and_then(|number| Self::try_from(number).ok());
                number.ok_or_else(|| Self::refused(format!("{text:?}")))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Whether a value need not be written.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Refuses more than `most` of what the key `key` lists.
pub(crate) fn at_most(key: &str, count: usize, most: usize) -> crate::error::Result<()> {
    if count <= most {
        return Ok(());
    }
    Err(crate::error::Error::input(format!("{key}: {count} are too many, {most} are possible")))
}

pub(crate) use {as_text, number, text, words};
