//! What `underlay doctor` finds: one thing that keeps packets from flowing, or will, and the command that mends it.

use std::fmt;

use serde::Serialize;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What sort of thing it is: a word that stays the same from version to version.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// One sentence with the thing and the value.
    pub what: String,
    /// One sentence on what follows from it.
    pub why: String,
    /// The shell command that mends it; none where only hands do, at a cable or in an editor.
    pub command: Option<String>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It may be as it is meant.
    Note,
    /// Something does not work in some cases, or soon will not.
    Warning,
    /// Something does not work.
    Error,
}

/// What a finding is about, in the order they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Subject {
    /// What the kernel can make.
    Kernel,
    /// The definitions of networks, and the settings.
    Networks,
    /// The links that networks hang on.
    Parents,
    /// What runs.
    Containers,
    /// The hook files of podman and CRI-O.
    Hooks,
    /// Docker's settings.
    Docker,
    /// The ledger and its folders.
    State,
}

impl Subject {
    /// All there are.
    pub(crate) const ALL: [Self; 7] = [
        Self::Kernel,
        Self::Networks,
        Self::Parents,
        Self::Containers,
        Self::Hooks,
        Self::Docker,
        Self::State,
    ];
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Networks => "networks",
            Self::Parents => "parents",
            Self::Containers => "containers",
            Self::Hooks => "hooks",
            Self::Docker => "docker",
            Self::State => "state",
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

impl Finding {
    /// What nobody has a command for yet.
    pub(crate) fn new(
        (subject, severity, id): (Subject, Severity, &'static str),
        what: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Self { id, severity, subject, what: what.into(), why: why.into(), command: None }
    }

    /// The same with the command that mends it.
    #[must_use]
    pub(crate) fn mended_by(self, command: impl Into<String>) -> Self {
        Self { command: Some(command.into()), ..self }
    }
}
