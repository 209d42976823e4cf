//! Shell patterns, by which settings and networks say what is allowed.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::net::value::as_text;

/// A case-sensitive pattern for a whole text: `*` is any number of characters, `?` is one, `[ab]` and `[a-z]` one of these,
/// `[!ab]` any other one, and `[*]` the star itself. `/` and a leading dot are characters like any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(glob::Pattern);

impl Pattern {
    /// Whether all of `text` matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.matches(text)
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::input(format!("pattern {text:?} is not usable: {why}"))
                .hint("write it as for a shell: *, ?, [ab], [a-z], [!ab]")
        };
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        // glob takes it for any number of folders.
        if text.contains("**") {
            return Err(wrong("it has two stars in a row"));
        }
        glob::Pattern::new(text).map(Self).map_err(|error| wrong(error.msg))
    }
}

as_text!(Pattern);

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_shells_have_them() {
        for (pattern, matching, others) in [
            ("eth1.*", &["eth1.5", "eth1.", "eth1.10.20"][..], &["eth1", "eth10", "eth1x5", "xeth1.5"][..]),
            ("br*", &["br", "br0", "br-lan"], &["Br0", "abr0"]),
            ("*", &["", "a/b", ".a", "a\nb"], &[]),
            ("eth?", &["eth0", "ethä"], &["eth", "eth10"]),
            ("eth[0-2]", &["eth0", "eth2"], &["eth3", "eth", "eth[0-2]"]),
            ("[!ab]*", &["c", "cab"], &["a", "bc", ""]),
            ("[*]", &["*"], &["a", ""]),
            ("a*b*c", &["abc", "axbxc", "abcbc"], &["ab", "acb"]),
        ] {
            let pattern: Pattern = pattern.parse().unwrap();
            for text in matching {
                assert!(pattern.matches(text), "{pattern} does not match {text}");
            }
            for text in others {
                assert!(!pattern.matches(text), "{pattern} matches {text}");
            }
        }
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in ["", "a[", "[]", "[!]", "[a", "**", "a**b", "a/**/b", "***"] {
            let error = text.parse::<Pattern>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("pattern {text:?} is not usable: ")), "{error}");
        }
    }

    /// Stars in the operator's pattern meet annotations of any length.
    #[test]
    fn no_text_takes_long() {
        let pattern: Pattern = "*a*a*a*a*a*a*a*a*b".parse().unwrap();
        assert!(!pattern.matches(&"a".repeat(1 << 20)));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "[]a*?!\\[/.-]{0,8}", text in "[a*?/.-]{0,8}") {
            if let Ok(parsed) = pattern.parse::<Pattern>() {
                parsed.matches(&text);
                prop_assert_eq!(parsed.to_string(), pattern);
            }
        }

        /// Text without any sign of a pattern is a pattern for itself.
        #[test]
        fn plain_text_matches_itself(text in "[a-zA-Z0-9_./-]{1,20}", other in "[a-zA-Z0-9_./-]{1,20}") {
            let pattern: Pattern = text.parse().unwrap();
            prop_assert!(pattern.matches(&text));
            prop_assert_eq!(pattern.matches(&other), text == other);
        }
    }
}
