//! The one error type: a sentence that names the thing and the value, and a hint that says what to do.

use std::fmt;
use std::path::Path;

/// What went wrong, as far as the program itself must tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong (exit code 2).
    Usage,
    /// A file, annotation or state we were given is wrong.
    Input,
    /// The named network, container or link does not exist.
    NotFound,
    /// The name, address or identity is held by somebody else.
    Taken,
    /// No address is free in the subnets of a network.
    Exhausted,
    /// Another process holds the ledger's lock for too long.
    Busy,
    /// The kernel refused; holds its errno.
    Kernel(i32),
    /// A file could not be read or written.
    Io,
    /// A file of the ledger is not as underlay writes it.
    Damaged,
    /// A file of the ledger is of a newer version than this program knows.
    Newer,
    /// A file of the ledger cannot be read for now: the disk fails, or somebody has a lease on it.
    Unreadable,
}

impl Kind {
    /// Whether it is about one file of the ledger: what that one tells is unknown, and nothing else.
    pub fn is_of_one_file(self) -> bool {
        self == Self::Damaged || self.is_left_alone()
    }

    /// Whether a file of the ledger is to stay as it is, because it may be sound.
    pub fn is_left_alone(self) -> bool {
        matches!(self, Self::Newer | Self::Unreadable)
    }
}

/// One sentence (lower case, no full stop) and, where one is known, a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
}

/// The result of everything fallible here.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// A wrong value in something that was given to us.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// A failed file operation: `doing` is a verb ("read", "create"), the errno text is kept.
    pub fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(Kind::Io, format!("cannot {doing} {}: {error}", path.display()))
    }

    /// A failed system call: `doing` is a verb with its object, the errno text is kept.
    pub fn kernel(doing: &str, error: &std::io::Error) -> Self {
        let kind = Kind::Kernel(error.raw_os_error().unwrap_or_default());
        Self::new(kind, format!("cannot {doing}: {error}"))
    }

    /// The same error with what the user can do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with the place it happened in put before the sentence.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same error of another kind.
    #[must_use]
    pub fn of_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// The sentence with its hint, where a warning is all there is of it.
    pub fn in_full(&self) -> String {
        self.hint.as_ref().map_or(self.message.clone(), |hint| format!("{} (hint: {hint})", self.message))
    }

    /// What sort of error this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What to do about it, if known.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
