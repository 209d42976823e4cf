//! `underlay doctor`: a page of what is wrong, and how it is mended.

use std::path::PathBuf;

use clap::Args;

use super::output::{self, Format};
use crate::diagnose::doctor;
use crate::diagnose::finding::{Finding, Severity, Subject};
use crate::diagnose::system::System;
use crate::error::{Error, Result};
use crate::ledger::Store;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Look for the files of engines and kernel modules below this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Prints the findings; that there are any but notes is an error, so that the exit code tells.
pub(super) fn doctor(store: &Store, options: Doctor) -> Result<()> {
    let findings = doctor::doctor(store, &System::new(options.root))?;
    match options.format {
        Format::Json => output::json(&findings)?,
        Format::Table => page(&findings)?,
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let counted = [Severity::Error, Severity::Warning].map(|severity| (severity, count(severity)));
    let counts: Vec<_> =
        counted.iter().filter(|(_, count)| *count > 0).map(|&(what, count)| many(what, count)).collect();
    if counts.is_empty() { Ok(()) } else { Err(Error::input(counts.join(", "))) }
}

fn many(what: Severity, count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Each subject, and what there is to say of it.
fn page(findings: &[Finding]) -> Result<()> {
    for subject in Subject::ALL {
        let here: Vec<_> = findings.iter().filter(|finding| finding.subject == subject).collect();
        if here.is_empty() {
            output::line(&format!("{subject}: all is well"))?;
            continue;
        }
        output::line(&format!("{subject}:"))?;
        for Finding { id, severity, what, why, command, .. } in here {
            output::line(&format!("  {severity}: {what} [{id}]"))?;
            output::line(&format!("    {why}"))?;
            if let Some(command) = command {
                output::line(&format!("    mend it: {command}"))?;
            }
        }
    }
    Ok(())
}
