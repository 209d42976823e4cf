//! Text for a terminal: nothing in it moves the cursor, changes the direction of writing, or is invisible.
//!
//! Annotations, link names and aliases are foreign text, which gets into messages, tables and the log.

use std::fmt::Write;

/// The most characters of a message.
const LONGEST: usize = 8192;

/// `text` with each character that is not visible escaped as in a Rust literal: `\u{1b}`, `\n`.
pub(crate) fn line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_visible(c) {
            line.push(c);
        } else {
            line.extend(c.escape_default());
        }
    }
    line
}

/// A message as [`line()`] writes it, shortened, because it may quote long annotations.
pub(crate) fn message(text: &str) -> String {
    line(text.char_indices().nth(LONGEST).and_then(|(end, _)| text.get(..end)).unwrap_or(text))
}

/// Each line of `text` as [`line()`] writes it, for texts whose line breaks are our own.
pub(crate) fn lines(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// The JSON `text` in visible characters, with the same meaning. Outside of strings, JSON has no invisible characters except
/// white space. In strings they are escaped like `\u202e` (RFC 8259, section 7).
pub(crate) fn json(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || is_visible(c) {
            json.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(json, "\\u{unit:04x}");
        }
    }
    json
}

/// Whether the standard library prints `c` as it is; also quotes and the backslash. Invisible are controls (also C1 and DEL),
/// format characters such as those of bidirectional text, separators except the space, combining marks, and unassigned
/// code points.
pub(crate) fn is_visible(c: char) -> bool {
    matches!(c, '\\' | '\'' | '"') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_of_text() {
        for (text, shown) in [
            ("plain \"text\" 'ü' \\ 網路", "plain \"text\" 'ü' \\ 網路"),
            ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
            ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("\u{202e}abc\u{2066}\u{200b}\u{feff}", "\\u{202e}abc\\u{2066}\\u{200b}\\u{feff}"),
            ("a\u{2028}b\u{a0}c\u{301}", "a\\u{2028}b\\u{a0}c\\u{301}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("a\u{1b}\n b\n"), "a\\u{1b}\n b\n");
    }

    proptest! {
        #[test]
        fn nothing_passes(text in "(\\PC|\\pC|\\pZ|\\pM){0,40}") {
            let shown = line(&text);
            prop_assert!(shown.chars().all(is_visible), "{shown:?}");
            prop_assert_eq!(line(&shown), shown, "visible text stays");
        }

        /// Whatever the strings, it is the same value afterwards.
        #[test]
        fn json_means_the_same(key in "(\\PC|\\pC|\\pZ|\\pM){0,20}", value in "(\\PC|\\pC|\\pZ|\\pM){0,40}") {
            let value = serde_json::json!([{ key: value }]);
            let shown = json(&serde_json::to_string_pretty(&value).unwrap());
            prop_assert!(shown.chars().all(|c| c == '\n' || is_visible(c)), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
