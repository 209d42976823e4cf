//! The one error type: a sentence that names the thing and the value, and a hint that says what to do.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What went wrong, as far as the program itself must tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line is wrong.
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
    /// A fault of underlay itself.
    Bug,
}

impl Kind {
    /// The exit code of a command that fails by it. 70 is EX_SOFTWARE of sysexits.h.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Bug => 70,
            _ => 1,
        }
    }

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
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    /// What the kernel said.
    source: Option<Arc<io::Error>>,
}

/// The result of everything fallible here.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let errno = match kind {
            Kind::Kernel(errno) => Some(errno),
            _ => None,
        };
        Self { kind, message: message.into(), hint: None, source: None }.caused_by(errno)
    }

    /// A fault of underlay itself.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message).hint("this is a fault of underlay: please report it")
    }

    /// A wrong value in something that was given to us.
    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Kind::Input, message)
    }

    /// A failed file operation: `doing` is a verb ("read", "create"), the errno text is kept.
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot {doing} {}: {error}", path.display());
        Self::new(Kind::Io, message).caused_by(error.raw_os_error())
    }

    /// A failed system call: `doing` is a verb with its object, the errno text is kept.
    pub fn kernel(doing: &str, error: &io::Error) -> Self {
        let kind = Kind::Kernel(error.raw_os_error().unwrap_or_default());
        Self::new(kind, format!("cannot {doing}: {error}"))
    }

    fn caused_by(self, errno: Option<i32>) -> Self {
        let source = errno.filter(|&errno| errno > 0).map(io::Error::from_raw_os_error);
        Self { source: source.map(Arc::new), ..self }
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.message, &self.hint) == (other.kind, &other.message, &other.hint)
    }
}

impl Eq for Error {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    /// What docs/reference/commands.md says of errors of `kind`. A kind that is new must be listed below too.
    fn documented(kind: Kind) -> &'static str {
        match kind {
            Kind::Usage => "the command line is wrong",
            Kind::Input => "a file, an annotation, a state or a value is wrong",
            Kind::NotFound => "a network, a container, a link or a program does not exist",
            Kind::Taken => "a name, an address or a link has another holder",
            Kind::Exhausted => "no address is free",
            Kind::Busy => "another process has the ledger's lock, or the kernel does not answer",
            Kind::Kernel(_) => "the kernel refused",
            Kind::Io => "a file cannot be read or written",
            Kind::Damaged => "a file of the ledger is damaged",
            Kind::Newer => "a file of the ledger is of a newer version",
            Kind::Unreadable => "a file of the ledger cannot be read for now",
            Kind::Bug => "a fault of underlay itself",
        }
    }

    #[test]
    fn exit_codes_are_documented() {
        let page = include_str!("../docs/reference/commands.md");
        let table = page.split("| exit code |").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap();
        use Kind::*;
        let kinds =
            [Usage, Input, NotFound, Taken, Exhausted, Busy, Kernel(1), Io, Damaged, Newer, Unreadable, Bug];
        for kind in kinds {
            let row = format!("\n| {} | {}", kind.exit_code(), documented(kind));
            assert!(table.contains(&row), "{kind:?}: {row}");
        }
        let rows = table.lines().filter(|line| !line.starts_with("| 0 |"));
        assert_eq!(rows.count(), kinds.len() + 2, "{table}");
    }

    #[test]
    fn what_the_kernel_said_is_the_source() {
        let errno = |error: super::Error| {
            let error = error.within("there").hint("try again");
            error.source()?.downcast_ref::<io::Error>()?.raw_os_error()
        };
        let missing = io::Error::from_raw_os_error(2);
        let read = super::Error::io("read", Path::new("/a"), &missing);
        assert_eq!(read.to_string(), "cannot read /a: No such file or directory (os error 2)");
        assert_eq!(errno(read.of_kind(Kind::Unreadable)), Some(2));
        assert_eq!(errno(super::Error::new(Kind::Kernel(16), "busy")), Some(16));
        let not_text = io::Error::from(io::ErrorKind::InvalidData);
        assert_eq!(errno(super::Error::io("read", Path::new("/a"), &not_text)), None);
        assert_eq!(errno(super::Error::bug("a")), None);
    }
}
