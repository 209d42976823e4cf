//! Garbage collection: reclaims what dead containers hold at once, not only when an attach needs it.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::escape::shell::Line;
use crate::fs::file;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_links;
use crate::lifecycle::moved;
use crate::lifecycle::parents;
use crate::lifecycle::pod;
use crate::lifecycle::release::{self, LinksPlace};
use crate::lifecycle::repair;
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
    /// Makes a change that is equivalent to the commands `done`, except in a `dry_run`.
    fn change(&mut self, dry_run: bool, done: Vec<String>, change: impl FnOnce() -> Result<()>) {
        match if dry_run { Ok(()) } else { change() } {
            Ok(()) => self.done.extend(done),
            Err(error) => self.failed.push(error),
        }
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
    for record in &repaired.records {
        let id = &record.container;
        let stays = match kernel::is_alive(&record.holder) {
            true => !is_forgotten(context, record, dry_run),
            // A process may be in a namespace that is mounted no longer.
            false => record.holder.process().is_none() && release::is_in_use(context, record),
        };
        if stays {
            continue;
        }
        let commands = if pod::is_used(store, record)? {
            vec![format!("# the links of container {id} are handed over to one that shares them")]
        } else {
            match settled_place(context, record) {
                Ok(place) => commands(store, record, &place),
                Err(error) => {
                    log::warn!("container {id}: {error}: it is left alone, and counts as alive");
                    continue;
                }
            }
        };
        let within = |error: Error| error.within(format!("container {id}"));
        collected.change(dry_run, commands, || release::reclaim(context, record).map_err(within));
    }
    collected.change(dry_run, of_host, || host_links::reconcile(context));
    if !dry_run {
        store.trim_tasks().unwrap_or_else(|error| collected.failed.push(error));
        // What is only remembered keeps nothing that is held.
        store.trim_podman_networks().unwrap_or_else(|error| log::warn!("{error}"));
    }
    let stale = store.stale_resolv_confs().unwrap_or_else(|error| {
        collected.failed.push(error);
        Vec::new()
    });
    for folder in stale {
        let done = vec![Line::of("rm -r").path(&folder).to_string()];
        collected.change(dry_run, done, || file::remove_folder(&folder));
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
        let is_needed =
            repaired.in_doubt || store.needs_parent(&name, |record| kernel::is_alive(&record.holder))?;
        if !is_needed {
            let op = HostOp::DeleteParent(name.clone()).to_string();
            collected.change(dry_run, vec![op], || parents::delete_unused(&locked, &name, host));
        } else if let Some(parent) = parents::half_made(store, &name, host)? {
            // The lock keeps other processes from making it now.
            let op = HostOp::DeleteParent(parent.born_as.clone()).to_string();
            collected.change(dry_run, vec![op], || kernel::delete_leftover(&parent, host));
        }
    }
    Ok(collected)
}

/// Returns true if `record` is of an endpoint that nothing is left of. The link of any other endpoint is looked at, except in a
/// `dry_run`, because no agent may have done that.
fn is_forgotten(context: &mut Context<'_>, record: &Record, dry_run: bool) -> bool {
    if record.holder.endpoint().is_none() {
        return false;
    }
    if !dry_run {
        if let Err(error) = moved::look(context, record) {
            log::warn!("container {}: {error}", record.container);
            return false;
        }
    }
    release::is_forgotten(context, record)
}

/// Where the links of `record` are. A namespace that nothing leads to is mostly one that the kernel is about to take apart:
/// it is waited for a little, so that it is not told of.
fn settled_place(context: &mut Context<'_>, record: &Record) -> Result<LinksPlace> {
    let until = Instant::now() + DYING;
    loop {
        let place = release::locate_links(context, record)?;
        if !matches!(place, LinksPlace::Nsid(_)) || Instant::now() >= until {
            return Ok(place);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The commands that delete all that `record` holds; `place` is where its links are.
fn commands(store: &Store, record: &Record, place: &LinksPlace) -> Vec<String> {
    let of_links = plan::detach(record);
    let mut commands: Vec<_> = match place {
        LinksPlace::Nowhere => Vec::new(),
        LinksPlace::Netns(path, _) => {
            let nsenter = Line::of("nsenter --net=").value(path);
            of_links.iter().map(|op| nsenter.clone().run(&op.line()).to_string()).collect()
        }
        LinksPlace::Nsid(nsid) => {
            let in_nsid =
                |op: &Removal| format!("# {}, in the network namespace of number {nsid}", op.line());
            of_links.iter().map(in_nsid).collect()
        }
    };
    commands.extend(store.paths_of(record).iter().map(|path| Line::of("rm").path(path).to_string()));
    commands
}
