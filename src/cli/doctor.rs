//! `underlay doctor`: prints what is wrong, and what fixes it.

use std::path::PathBuf;

use clap::Args;

use super::output::{self, Format, Listing};
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
    #[command(flatten)]
    listing: Listing,
}

/// Prints the findings. Errors and warnings are an error, which sets the exit code.
pub(super) fn doctor(store: &Store, options: Doctor) -> Result<()> {
    let findings = doctor::doctor(store, &System::new(options.root))?;
    match options.listing.format {
        Format::Json => output::json(&findings)?,
        Format::Table => page(&findings)?,
    }
    let counted = |severity| {
        let count = findings.iter().filter(|finding| finding.severity == severity).count();
        (count > 0).then(|| output::counted(count, severity))
    };
    let counts: Vec<_> = [Severity::Error, Severity::Warning].into_iter().filter_map(counted).collect();
    if counts.is_empty() { Ok(()) } else { Err(Error::input(counts.join(", "))) }
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
