//! Commands for a POSIX shell. All commands that are printed to be pasted are written here. Names and paths in them are
//! foreign text, so each word is quoted if it needs to be, and a shell reads it as the same word.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::escape::printable::is_visible;

/// A command line, or several joined by `&&`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line(String);

impl Line {
    /// The literal words `words`.
    pub(crate) fn of(words: &'static str) -> Self {
        Self(words.to_owned())
    }

    /// More literal words.
    #[must_use]
    pub(crate) fn text(self, words: &'static str) -> Self {
        self.join(" ", words)
    }

    /// One more word, quoted if need be.
    #[must_use]
    pub(crate) fn word(self, value: impl Display) -> Self {
        let word = word(value.to_string());
        self.join(" ", &word)
    }

    /// One more word, `name`. If a program would take it for an option, the literal word `keyword` comes before it.
    #[must_use]
    pub(crate) fn named(self, keyword: &'static str, name: impl Display) -> Self {
        let name = name.to_string();
        if name.starts_with('-') { self.text(keyword).word(name) } else { self.word(name) }
    }

    /// `words` and the value as one word, for each of `values`.
    #[must_use]
    pub(crate) fn option<T: Display>(self, words: &'static str, values: impl IntoIterator<Item = T>) -> Self {
        values.into_iter().fold(self, |line, value| line.text(words).word(value))
    }

    /// One more word for each of `values`.
    #[must_use]
    pub(crate) fn words<T: Display>(self, values: impl IntoIterator<Item = T>) -> Self {
        values.into_iter().fold(self, Self::word)
    }

    /// The words of `value`, which are separated by single blanks.
    #[must_use]
    pub(crate) fn split(self, value: impl Display) -> Self {
        let value = value.to_string();
        self.words(value.split(' '))
    }

    /// One more word, the path `path`, which no program takes for an option.
    #[must_use]
    pub(crate) fn path(self, path: &Path) -> Self {
        self.join(" ", &self::path(path))
    }

    /// The path `path` as the end of the last word, as in `--net=PATH`.
    #[must_use]
    pub(crate) fn value(self, path: &Path) -> Self {
        self.join("", &self::path(path))
    }

    /// `next`, a single command, which this one runs.
    #[must_use]
    pub(crate) fn run(self, next: &Self) -> Self {
        self.join(" ", &next.0)
    }

    /// The command `next`, which runs if this one succeeds.
    #[must_use]
    pub(crate) fn and(self, next: &Self) -> Self {
        self.join(" && ", &next.0)
    }

    fn join(mut self, between: &str, text: &str) -> Self {
        self.0.push_str(between);
        self.0.push_str(text);
        self
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path `path` as one word of a command line, which no program takes for an option.
pub(crate) fn path(path: &Path) -> String {
    let is_option = path.as_os_str().as_bytes().starts_with(b"-");
    if is_option { word(Path::new(".").join(path)) } else { word(path) }
}

/// `text` as one word of a command line, in visible characters, and in quotes if it needs them. Invisible characters are
/// written by `printf`, which every shell has. But a command substitution drops line breaks at the end: a word with one is
/// written as bash, zsh and ksh read it, and other shells read another word.
pub(crate) fn word(text: impl AsRef<OsStr>) -> String {
    let bytes = text.as_ref().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-@:,=".contains(byte);
    if bytes.first().is_some_and(|first| *first != b'=') && bytes.iter().all(is_plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(is_visible) => format!("'{}'", text.replace('\'', r"'\''")),
        _ if bytes.ends_with(b"\n") => format!("$'{}'", escaped(bytes)),
        _ => format!("\"$(printf '{}')\"", escaped(bytes)),
    }
}

/// Letters, digits and a few signs as they are, all other bytes as octal numbers.
fn escaped(bytes: &[u8]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._ ".contains(&byte);
    let of = |&byte: &u8| if is_plain(byte) { char::from(byte).into() } else { format!("\\{byte:03o}") };
    bytes.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What `shell` makes of `text`, as the arguments of a program.
    fn pasted(shell: &str, text: &str) -> Vec<Vec<u8>> {
        // What is printed has no line break.
        assert!(text.chars().all(is_visible), "{text:?}");
        let script = format!("printf '%s\\0' {text}");
        let done = Command::new(shell).arg("-c").arg(&script).env("LC_ALL", "C").output().unwrap();
        assert!(done.status.success() && done.stderr.is_empty(), "{script}: {done:?}");
        done.stdout.strip_suffix(b"\0").unwrap().split(|&byte| byte == 0).map(<[u8]>::to_vec).collect()
    }

    const EVIL: [&str; 28] = [
        "",
        ";reboot",
        "$(x)",
        "`x`",
        "${x}",
        "a'b\"c",
        "a\\b\\\\",
        "\\",
        "'",
        "''",
        "a b  c",
        " ",
        "*",
        "~",
        "!!",
        "=ls",
        "a=b",
        "#x",
        "{a,b}",
        "<x>|&",
        "-rf",
        "--",
        "a\nb",
        "a\tb\rc\u{7}\u{1b}[31m",
        "n%s%d\\n\n.",
        "ä 網路 \u{202e}abc\u{200b}",
        "e\u{301}",
        "\u{7f}\u{9b}",
    ];

    #[test]
    fn words_come_back() {
        for text in EVIL {
            assert_eq!(pasted("sh", &word(text)), [text.as_bytes()], "{text:?}");
        }
        let bytes = OsString::from_vec(b"/run/\xff\xfe'\x80".to_vec());
        assert_eq!(pasted("sh", &word(&bytes)), [bytes.as_bytes()]);
        for text in ["a\n", "\n\n", "'a\\\n"] {
            assert_eq!(pasted("bash", &word(text)), [text.as_bytes()], "{text:?}");
        }
        for plain in ["/run/netns/a-b_c.0+@1", "underlay:web:0:7:8:lan", "net/ipv4/conf/eth0/arp_notify=1"] {
            assert_eq!(word(plain), plain);
        }
        assert_eq!(word("a'b\\"), r"'a'\''b\'");
    }

    #[test]
    fn lines_come_back() {
        let line = Line::of("ip link add")
            .words(EVIL)
            .named("dev", "-x")
            .named("dev", "x")
            .text("--net=")
            .value(Path::new("/a b"))
            .path(Path::new("-rf x"))
            .option("mtu", Some(9))
            .option("mtu", None::<u32>)
            .split("default via 10.0.0.1");
        let mut words: Vec<&[u8]> = vec![b"ip", b"link", b"add"];
        words.extend(EVIL.map(str::as_bytes));
        words.extend([
            &b"dev"[..],
            b"-x",
            b"x",
            b"--net=/a b",
            b"./-rf x",
            b"mtu",
            b"9",
            b"default",
            b"via",
            b"10.0.0.1",
        ]);
        assert_eq!(pasted("sh", &line.to_string()), words);
        let both = Line::of("true").and(&Line::of("ip").word("&&"));
        assert_eq!(both.to_string(), "true && ip '&&'");
        assert_eq!(Line::of("nsenter x").run(&Line::of("ip").word("y z")).to_string(), "nsenter x ip 'y z'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_word_comes_back(bytes in proptest::collection::vec(1..=255_u8, 0..20)) {
            let text = OsString::from_vec(bytes);
            let shell = if text.as_bytes().ends_with(b"\n") { "bash" } else { "sh" };
            prop_assert_eq!(pasted(shell, &word(&text)), [text.as_bytes()]);
        }

        #[test]
        fn any_text_comes_back(text in "[^\0]{0,12}") {
            let shell = if text.ends_with('\n') { "bash" } else { "sh" };
            prop_assert_eq!(pasted(shell, &word(&text)), [text.as_bytes()]);
        }
    }
}
