//! `underlay doctor`: prints what is wrong, and what fixes it.

use std::path::PathBuf;

use clap::Args;

use super::output::{self, Format};
use crate::diagnose::doctor;
use crate::diagnose::finding::{AREAS, Finding, Severity};
use crate::diagnose::system::System;
use crate::error::{Error, Result};
use crate::ledger::Store;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Look for the files of engines below this folder
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

/// Prints the findings by area.
fn page(findings: &[Finding]) -> Result<()> {
    for area in AREAS {
        let here: Vec<_> = findings.iter().filter(|finding| finding.subject == area).collect();
        output::line(&format!("{area}:{}", if here.is_empty() { " all is well" } else { "" }))?;
        for Finding { id, severity, what, why, fix, .. } in here {
            output::line(&format!("  {severity}: {what} [{id}]"))?;
            output::line(&format!("    {why}"))?;
            output::line(&format!("    fix: {fix}"))?;
        }
    }
    Ok(())
}
