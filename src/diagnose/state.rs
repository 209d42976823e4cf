//! The ledger: its folder, and what of it is left over, cannot be read, or differs from the kernel.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::diagnose::check;
use crate::diagnose::difference::{Difference, NO_AGENT, What};
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::system::permissions;
use crate::error::Error;
use crate::escape::shell::Line;
use crate::ledger::Store;
use crate::lifecycle::context::Context;
use crate::lifecycle::gc;

/// What is wrong with the ledger. What needs settings is not told if those cannot be read.
pub(crate) fn state(store: &Store) -> Vec<Finding> {
    let [_, folder, _] = store.dirs();
    let mut findings: Vec<_> = on_disk(folder).into_iter().chain(permissions(folder, Area::State)).collect();
    // To look into a folder that is not there would make it. What others can write is not read.
    let is_read = folder.exists() && findings.iter().all(|finding| finding.id == "state-dir");
    if !is_read || store.settings().is_err() {
        return findings;
    }
    let collected = Context::new(store).and_then(|mut context| gc::gc(&mut context, false, true));
    let left_over = collected.map(|collected| left_over(&collected.done).into_iter().collect());
    let differing = check::all(store).map(|all| all.iter().filter_map(differs).collect());
    for found in [left_over, differing] {
        let unread = |error: Error| vec![unread(&error.to_string(), error.hint_text())];
        findings.extend::<Vec<_>>(found.unwrap_or_else(unread));
    }
    findings
}

/// Whether `folder`, or where it will be, is on a file system that outlives a boot.
fn on_disk(folder: &Path) -> Option<Finding> {
    let there = folder.ancestors().find(|path| path.exists())?;
    if statfs(there).ok()?.filesystem_type() == TMPFS_MAGIC {
        return None;
    }
    Some(Finding::new(
        (Area::State, Severity::Warning, "state-dir"),
        format!("the state folder {} is not on a tmpfs", folder.display()),
        "after a reboot the ledger would have containers that are gone, and each write waits for a disk; mount it while no \
         container runs",
        Line::of("mkdir -p").path(folder).and(&Line::of("mount -t tmpfs -o mode=0700 tmpfs").path(folder)),
    ))
}

/// What `gc` would do.
fn left_over(steps: &[String]) -> Option<Finding> {
    let first = steps.first()?;
    let more = if steps.len() == 1 { String::new() } else { format!(", and {} more", steps.len() - 1) };
    Some(Finding::new(
        (Area::State, Severity::Warning, "left-over"),
        format!("garbage collection is due: {first}{more}"),
        "dead containers hold addresses and links until another container needs them",
        Line::of("underlay gc"),
    ))
}

/// A part of the ledger cannot be read, for `error`.
fn unread(error: &str, hint: Option<&str>) -> Finding {
    let why = "it is not known what containers hold";
    let fix = hint.unwrap_or("see `journalctl --dmesg` for errors of the disk");
    Finding::new((Area::State, Severity::Error, "ledger"), error, why, fix)
}

/// A difference that `gc` does not repair: of a container, a parent, or a file of the ledger that cannot be read.
fn differs(difference: &Difference) -> Option<Finding> {
    let hint = difference.hint.as_deref();
    // What a network lacks on its parent is a finding of the parent.
    let is_of_network = difference.container.is_none() && difference.network.is_some();
    // Leases have findings of their own.
    if is_of_network || hint == Some(NO_AGENT) || hint.is_some_and(|hint| hint.contains("`underlay gc`")) {
        return None;
    }
    if let (What::File, Some(error)) = (difference.what, &difference.found) {
        return Some(unread(error, hint));
    }
    let place = [
        difference.container.as_ref().map(|id| format!("container {id}")),
        difference.network.as_ref().map(|network| format!("network {network}")),
        difference.interface.as_ref().map(|interface| format!("link {interface}")),
    ];
    let place: Vec<_> = place.into_iter().flatten().collect();
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let (expected, found) = (or_none(&difference.expected), or_none(&difference.found));
    Some(Finding::new(
        (Area::Containers, Severity::Warning, "differs"),
        format!("{}: {} is {found}, and should be {expected}", place.join(", "), difference.what),
        "it was changed after underlay made it",
        hint.unwrap_or_default(),
    ))
}
