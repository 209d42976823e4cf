//! Garbage collection: reclaims what dead containers hold at once, not only when an attach needs it.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::escape::shell::Line;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_links;
use crate::lifecycle::parents;
use crate::lifecycle::release::{self, Remaining};
use crate::lifecycle::repair;
use crate::lifecycle::shared_netns;
use crate::plan::host::HostOp;
use crate::plan::{self, Removal};

/// How long the kernel may take to delete a namespace that nothing leads to.
const DYING: Duration = Duration::from_millis(200);

/// The outcome of a collection.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// The changes, as equivalent commands.
    pub done: Vec<String>,
    /// What failed: it stays in the ledger.
    pub failed: Vec<Error>,
}

impl Collected {
    /// Records a failure. Returns true if there was none.
    fn note(&mut self, outcome: Result<()>) -> bool {
        outcome.map_err(|error| self.failed.push(error)).is_ok()
    }
}

/// Repairs the ledger; reclaims what dead containers hold, also in namespaces that something keeps; makes the
/// host's own links as living containers need them; and deletes unused parents. A `dry_run` changes nothing.
/// `lifted` ends all quarantines. A failure does not keep the rest from being collected.
pub(crate) fn gc(context: &mut Context<'_>, lifted: bool, dry_run: bool) -> Result<Collected> {
    let store = context.store;
    let repaired = repair::repair(context, dry_run)?;
    let done = repaired.steps.iter().map(ToString::to_string);
    let done = done.chain(repaired.seals.iter().map(ToString::to_string)).collect();
    let mut collected = Collected { done, failed: repaired.failed };
    // Listed first: a parent that a dead container is the last to use goes with it, and is reported too.
    let mut made = store.made_parents()?;
    // A VLAN goes before the link below it.
    made.sort_by_key(|name| std::cmp::Reverse(store.height(name)));
    let of_host =
        host_links::preview(store, &repaired.records, repaired.in_doubt, &mut context.host_netlink)?;
    for record in repaired.records.iter().filter(|record| !kernel::is_alive(&record.holder)) {
        let id = &record.container;
        let commands = if shared_netns::is_used(store, record)? {
            vec![format!("# the links of container {id} are handed over to one that shares them")]
        } else {
            match remaining(context, record) {
                Ok(remaining) => commands(store, record, &remaining),
                Err(error) => {
                    log::warn!("container {id}: {error}: it is left alone, and counts as alive");
                    continue;
                }
            }
        };
        let within = |error: Error| error.within(format!("container {id}"));
        if dry_run || collected.note(release::reclaim(context, record).map_err(within)) {
            collected.done.extend(commands);
        }
    }
    if dry_run || collected.note(host_links::reconcile(context)) {
        collected.done.extend(of_host);
    }
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    for (segment, address) in locked.expire(lifted, dry_run)? {
        collected.done.push(format!("# the quarantine of {address} on link number {segment} is over"));
    }
    match locked.follow_machine(dry_run) {
        Ok(true) => {
            let path = store.host_path();
            let reason = "the machine id has changed: the addresses of identities are forgotten";
            collected.done.push(format!("# write {} anew: {reason}", path.display()));
        }
        Ok(false) => {}
        Err(error) => collected.failed.push(error),
    }
    for name in made {
        if repaired.in_doubt || store.needs_parent(&name, |record| kernel::is_alive(&record.holder))? {
            let Some(left) = parents::leftover(store, &name, host)? else { continue };
            if dry_run || collected.note(parents::delete_leftover(&locked, &name, host)) {
                collected.done.push(HostOp::DeleteParent(left).to_string());
            }
            continue;
        }
        if dry_run || collected.note(parents::delete_unused(&locked, &name, host)) {
            collected.done.push(HostOp::DeleteParent(name).to_string());
        }
    }
    Ok(collected)
}

/// Where the links of `record` are. A namespace that nothing leads to is mostly one that the kernel is about to take apart:
/// it is waited for a little, so that it is not told of.
fn remaining(context: &mut Context<'_>, record: &Record) -> Result<Remaining> {
    let until = Instant::now() + DYING;
    loop {
        let remaining = release::remaining(context, record)?;
        if !matches!(remaining, Remaining::Numbered(_)) || Instant::now() >= until {
            return Ok(remaining);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The commands that delete all that `record` holds; `remaining` says where its links are.
fn commands(store: &Store, record: &Record, remaining: &Remaining) -> Vec<String> {
    let of_links = plan::detach(record);
    let mut commands: Vec<_> = match remaining {
        Remaining::Nowhere => Vec::new(),
        Remaining::In(path, _) => {
            let nsenter = Line::of("nsenter --net=").value(path);
            of_links.iter().map(|op| nsenter.clone().run(&op.line()).to_string()).collect()
        }
        Remaining::Numbered(nsid) => {
            let in_nsid = |op: &Removal| format!("# {op}, in the network namespace of number {nsid}");
            of_links.iter().map(in_nsid).collect()
        }
    };
    commands.extend(store.paths_of(record).iter().map(|path| Line::of("rm").path(path).to_string()));
    commands
}
