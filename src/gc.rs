//! The story of the garbage collection: what the dead hold is taken back at once, not only when it is needed.

use crate::detach;
use crate::error::Result;
use crate::host_side;
use crate::kernel::{self, NetnsFile, Socket};
use crate::mend;
use crate::parents;
use crate::plan;
use crate::printable;
use crate::record::Record;
use crate::share;
use crate::store::Store;

/// Mends the ledger; takes back what containers hold whose process is gone, also in namespaces that something keeps;
/// makes the host's own links as those that live need them; and deletes parents that nobody needs. Returns all of it as
/// commands that do the same; with `dry_run` it is left as it is.
///
/// # Errors
/// When something cannot be taken back: it stays in the ledger.
pub fn gc(store: &Store, dry_run: bool) -> Result<Vec<String>> {
    let settings = store.settings()?;
    let mut host = Socket::open()?;
    let home = NetnsFile::own()?;
    let mended = mend::mend(store, &settings, &home, &mut host, dry_run)?;
    let mut done: Vec<_> = mended.steps.iter().map(ToString::to_string).collect();
    done.extend(mended.seals.iter().map(ToString::to_string));
    // What a dead container is the last to need goes with it, and is told of all the same.
    let mut made = store.made_parents()?;
    // A VLAN before the link below it.
    made.sort_by_key(|name| std::cmp::Reverse(store.height(name)));
    let mut outcome = Ok(());
    let of_host = host_side::review(store, &mended.records, &mut host)?;
    for record in mended.records.iter().filter(|record| !kernel::lives(&record.holder)) {
        if share::is_used(store, record)? {
            let id = &record.container;
            done.push(format!("# what container {id} was attached to is passed on to one that shares it"));
        } else {
            done.extend(commands(store, record)?);
        }
        if !dry_run {
            outcome = detach::reclaim(store, &settings, record, &mut host).and(outcome);
        }
    }
    done.extend(of_host);
    let locked = store.lock(settings.lock_timeout())?;
    if !dry_run {
        outcome = host_side::settle(&locked, &home, &mut host).and(outcome);
    }
    for (segment, address) in locked.expire(dry_run)? {
        done.push(format!("# the quarantine of {address} on link number {segment} is over"));
    }
    for name in made {
        if store.needs_parent(&name, |record| kernel::lives(&record.holder))? {
            if let Some(left) = parents::left_of(store, &name, &mut host)? {
                done.push(format!("ip link del {left}"));
                if !dry_run {
                    parents::sweep(&locked, &name, &mut host)?;
                }
            }
            continue;
        }
        done.push(format!("ip link del {name}"));
        if !dry_run {
            parents::drop_unneeded(&locked, &name, &mut host)?;
        }
    }
    outcome.map(|()| done)
}

/// What takes away all that `record` holds, in the words of a shell.
fn commands(store: &Store, record: &Record) -> Result<Vec<String>> {
    let mut commands = Vec::new();
    if let (Some(path), Some(_)) = (&record.holder.netns.path, NetnsFile::of(&record.holder)?) {
        let of_links = plan::detach(record);
        commands.extend(
            of_links
                .iter()
                .map(|op| format!("nsenter --net={} {op}", printable::word(&path.to_string_lossy()))),
        );
    }
    commands.extend(store.paths_of(record).iter().map(|path| format!("rm {}", path.display())));
    Ok(commands)
}
