//! What `underlay doctor` finds: one thing that keeps packets from flowing, or will, and what fixes it.

use std::fmt;

use serde::Serialize;

use crate::escape::shell::Line;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// A word that stays the same from version to version.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where it was found.
    pub subject: Area,
    /// One sentence with the thing and the value.
    pub what: String,
    /// One sentence on what follows from it.
    pub why: String,
    /// What to do about it.
    #[serde(flatten)]
    pub fix: Fix,
}

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Something does not work.
    Error,
    /// Something does not work in some cases, or soon will not.
    Warning,
    /// It may be intended.
    Note,
}

/// What is examined, in the order in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Area {
    /// What the kernel can make.
    Kernel,
    /// The definitions of networks, and the settings.
    Networks,
    /// The parents of networks.
    Parents,
    /// The containers that run.
    Containers,
    /// The hook files of podman and CRI-O.
    Hooks,
    /// Docker's settings.
    Docker,
    /// What is due after attaches.
    Agent,
    /// The ledger and its folders.
    State,
}

/// All areas.
pub(crate) const AREAS: [Area; 8] = {
    use Area::*;
    [Kernel, Networks, Parents, Containers, Hooks, Docker, Agent, State]
};

/// What fixes a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fix {
    /// A shell command.
    Command(String),
    /// What to do by hand: at a cable, or in an editor.
    Advice(String),
}

impl Finding {
    /// Takes where it was found, how bad it is, and its id; then the fields in order.
    pub(crate) fn new(
        (subject, severity, id): (Area, Severity, &'static str),
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<Fix>,
    ) -> Self {
        Self { id, severity, subject, what: what.into(), why: why.into(), fix: fix.into() }
    }
}

impl From<Line> for Fix {
    fn from(line: Line) -> Self {
        Self::Command(line.to_string())
    }
}

impl<T: Into<String>> From<T> for Fix {
    fn from(advice: T) -> Self {
        Self::Advice(advice.into())
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Command(text) | Self::Advice(text)) = self;
        f.write_str(text)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}
