//! The agent: what is due after an attach or a stop, and may not keep the hook. It repeats announcements, asks the LAN again
//! where an attach did not wait for the answer, asks ahead for the next addresses, and releases what poststop has left.
//!
//! It has no state of its own: what is to be done is in the ledger, so that the next one goes on where one was killed. It holds
//! no descriptor of a container's namespace while it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use crate::error::Result;
use crate::fs::file;
use crate::kernel::Watch;
use crate::ledger::Store;
use crate::ledger::agent::{AgentLock, Task, Tasks};
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::holder::Holder;
use crate::ledger::quarantine::FORWARDING;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::announce;
use crate::lifecycle::connected::{Change, Connected};
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp;
use crate::lifecycle::late_conflicts;
use crate::lifecycle::leftovers;
use crate::lifecycle::probe_ahead::{self, Pool};
use crate::lifecycle::release;
use crate::net::name::ContainerId;

/// How long the agent stays when there is nothing to do: containers that end are often followed by others.
const IDLE: Duration = Duration::from_secs(10);
/// How long to wait after an error, which may be over then.
const RETRY: Duration = Duration::from_secs(1);
/// How long changes of links are collected: a container may make them as fast as it can.
const PAUSE: Duration = Duration::from_millis(200);
/// When the LAN is asked again for addresses on a parent that was connected lately, from then on: a switch port with spanning
/// tree forwards nothing for twice its forward delay, 15 seconds by default (802.1D, 8.10).
const AGAIN: [Duration; 3] =
    [Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(FORWARDING + 1)];

/// The agent's process.
struct Agent<'a> {
    context: Context<'a>,
    lock: AgentLock,
    tasks: BTreeMap<Task, Progress>,
    /// The links of the host that are connected. `None` before the first look.
    connected: Option<Connected>,
    /// When the addresses on a parent are to be asked for again.
    again: Vec<(Duration, u32)>,
    /// When the leases of containers that have ended are given back.
    lingering: BTreeMap<ContainerId, Duration>,
    /// How often parents had been connected when questions were planned for them.
    planned: BTreeMap<u32, u32>,
    /// Parents that are connected again, and whose addresses are not announced yet.
    reconnected: Vec<u32>,
}

/// How far the agent has come with a task.
struct Progress {
    /// The process of the container: another container may get its id.
    holder: Holder,
    /// How often its addresses are announced, and how often they were.
    times: u32,
    sent: u32,
    /// When the next announcement is due.
    next: Duration,
    /// Whether the LAN is still to be asked.
    unasked: bool,
}

/// Runs the agent until there is nothing to do for a while.
///
/// # Errors
/// [`Kind::Taken`](crate::error::Kind::Taken) if another agent is alive; when the kernel or the ledger cannot be read at all.
pub(crate) fn run(store: &Store) -> Result<()> {
    let agent = Agent::new(store)?;
    let watch = Watch::open()?;
    // What it asks ahead may take seconds (RFC 5227). It has a store of its own, because a process has the lock once.
    let store_ahead = store.another();
    let (store_dhcp, notices) = (store.another(), dhcp::Notices::new()?);
    thread::scope(|scope| {
        let mut agent = agent;
        let (sender, pools) = std::sync::mpsc::channel();
        scope.spawn(|| probe_ahead::run(&store_ahead, pools));
        scope.spawn(|| dhcp::run(&store_dhcp, &notices));
        let used = |pool| {
            // The thread ends with the channel.
            let _ = sender.send(pool);
        };
        let result = agent.work(&watch, used, &notices);
        drop(sender);
        notices.end();
        // The other thread may be asking for a while: another process can be the agent meanwhile.
        drop(agent);
        result
    })
}

/// Does what is due now, once: for hosts without a service manager.
///
/// # Errors
/// Those of [`run`].
pub(crate) fn run_once(store: &Store) -> Result<()> {
    let mut agent = Agent::new(store)?;
    leftovers::release_all(&mut agent.context, &agent.lingering)?;
    let mut pools = Vec::new();
    agent.look_at_links(&mut |pool| pools.push(pool))?;
    agent.take_tasks(&mut |pool| pools.push(pool))?;
    let conflicts = agent.ask(&mut |pool| pools.push(pool));
    // Once more, however long ago the attach was.
    agent
        .tasks
        .values_mut()
        .for_each(|progress| progress.sent = progress.sent.min(progress.times.saturating_sub(1)));
    agent.announce(Duration::MAX);
    for task in std::mem::take(&mut agent.tasks).into_keys() {
        store.end_task(&task)?;
    }
    dhcp::once(store, conflicts)?;
    let asked = probe_ahead::once(store, pools);
    // A poststop may have left something to it meanwhile. Other tasks are for the next one.
    agent.take_tasks(&mut |_| {})?;
    leftovers::release_all(&mut agent.context, &agent.lingering)?;
    asked
}

impl<'a> Agent<'a> {
    fn new(store: &'a Store) -> Result<Self> {
        let context = Context::for_removal(store);
        context.host_netns.get()?;
        let lock = store.lock_agent()?;
        Ok(Self {
            context,
            lock,
            tasks: BTreeMap::new(),
            connected: None,
            again: Vec::new(),
            lingering: BTreeMap::new(),
            planned: BTreeMap::new(),
            reconnected: Vec::new(),
        })
    }

    fn work(&mut self, watch: &Watch, mut used: impl FnMut(Pool), notices: &dhcp::Notices) -> Result<()> {
        let store = self.context.store;
        let mut busy = since_boot();
        let mut swept = None;
        // Links are read at first, and whenever they have changed.
        let mut look_at = Some(busy);
        loop {
            if look_at.is_some_and(|at| at <= since_boot()) {
                look_at = self
                    .look_at_links(&mut used)
                    .inspect_err(|error| log::warn!("{error}"))
                    .is_err()
                    .then(|| since_boot() + RETRY);
            }
            // Before the tasks are read, so that none is missed.
            let folder = store.agent_dir();
            let followed = file::make_subfolder(&folder, 0o700).and_then(|()| watch.follow(&folder));
            if !self.lock.is_current() {
                log::info!("the state folder was removed: the next agent begins with the new one");
                return Ok(());
            }
            if self.take_tasks(&mut used)? {
                notices.records();
            }
            if swept.is_none_or(|swept| swept + IDLE <= since_boot()) {
                leftovers::release_all(&mut self.context, &self.lingering)?;
                swept = Some(since_boot());
            }
            self.reconnected.iter().for_each(|&parent| notices.moved(parent));
            self.ask(&mut used).into_iter().for_each(|conflict| notices.conflict(conflict));
            self.announce(since_boot());
            self.announce_reconnected();
            self.finish()?;
            let now = since_boot();
            if !self.is_idle()? {
                busy = now;
            } else if now >= busy + IDLE {
                return Ok(());
            }
            // The kernel may watch no more folders: then this one is read again and again.
            let poll = followed.inspect_err(|error| log::info!("{error}")).is_err().then_some(now + RETRY);
            let until = self.next().unwrap_or(busy + IDLE);
            if watch.wait([look_at, poll].into_iter().flatten().fold(until, Duration::min))? {
                look_at.get_or_insert(now + PAUSE);
            }
        }
    }

    /// Returns when something is due.
    fn next(&self) -> Option<Duration> {
        let announcements = self.tasks.iter().filter(|(_, progress)| progress.sent < progress.times);
        let announcements = announcements.map(|(_, progress)| progress.next);
        announcements
            .chain(self.again.iter().map(|&(at, _)| at))
            .chain(self.lingering.values().copied())
            .min()
    }

    /// Returns true if no container is left that the agent would look after.
    fn is_idle(&self) -> Result<bool> {
        Ok(self.tasks.is_empty() && !self.context.store.has_records()?)
    }

    /// Reads the tasks that have come, releases what ended containers have left, and hands the pools of the others to `used`.
    /// Returns true if there was a container with a DHCP client.
    fn take_tasks(&mut self, used: &mut impl FnMut(Pool)) -> Result<bool> {
        let store = self.context.store;
        let mut has_dhcp = false;
        self.lingering.clear();
        let Tasks { tasks, others } = store.tasks()?;
        // systemd starts the agent as long as there is anything in that folder.
        for path in others {
            file::remove(&path).unwrap_or_else(|error| log::warn!("{error}"));
        }
        for task in tasks {
            if self.tasks.contains_key(&task) {
                continue;
            }
            match store.record(&task.container) {
                Ok(Some(record)) if record.has_ended() => {
                    has_dhcp |= record.has_dhcp();
                    let until = task.since + dhcp::LINGER;
                    if dhcp::has_lease(&record) && since_boot() < until {
                        let deleted = release::delete_links(&mut self.context, &record);
                        deleted.map(drop).unwrap_or_else(|error| log::warn!("{error}"));
                        self.lingering.insert(task.container.clone(), until);
                        continue;
                    }
                    leftovers::release(&mut self.context, &record);
                    store.end_task(&task)?;
                }
                Ok(Some(record)) if !record.is_pending() => {
                    has_dhcp |= record.has_dhcp();
                    Pool::of(&record).for_each(&mut *used);
                    self.plan_first(&record, task.since);
                    let times = announce::times(&record);
                    let sent = task.sent.min(times);
                    let unasked = record.attachments().iter().any(|attached| attached.asked != Asked::Yes);
                    let next = announce::due(task.since, sent);
                    self.tasks.insert(task, Progress { holder: record.holder, times, sent, next, unasked });
                }
                found => {
                    found.map(drop).unwrap_or_else(|error| log::warn!("{error}"));
                    store.end_task(&task)?;
                }
            }
        }
        Ok(has_dhcp)
    }

    /// Plans to ask again for addresses on the parents of `record`, which was attached at `since`, unless that was done: a parent
    /// that had no container was of no interest when it was connected, and its switch port may not forward yet.
    fn plan_first(&mut self, record: &Record, since: Duration) {
        for attached in record.attachments().iter().filter(|attached| attached.detection.is_some()) {
            let (parent, ups) = (attached.parent_index, attached.carrier_ups);
            if self.planned.insert(parent, ups) != Some(ups) {
                self.plan(parent, since);
            }
        }
    }

    /// Plans to ask again for addresses on `parent`, from `since` on.
    fn plan(&mut self, parent: u32, since: Duration) {
        self.again.retain(|(_, due)| *due != parent);
        self.again.extend(AGAIN.map(|after| (since + after, parent)));
    }

    /// Returns the record of the container of `task`, unless it has ended or its id is another container's.
    fn record(&self, task: &Task, progress: &Progress) -> Option<Record> {
        let record = self.context.store.record(&task.container);
        let record = record.inspect_err(|error| log::warn!("{error}")).ok().flatten();
        record.filter(|record| record.holder == progress.holder && record.is_attached())
    }

    /// Sends the announcements that are due at `now`.
    fn announce(&mut self, now: Duration) {
        let mut gone = Vec::new();
        for (task, progress) in &self.tasks {
            if progress.sent >= progress.times || progress.next > now {
                continue;
            }
            let is_there = self.record(task, progress).is_some_and(|record| {
                let announced = announce::announce(self.context.store, &record, progress.sent);
                // After an error, the next one may be sent.
                announced.inspect_err(|error| log::info!("{error}")).unwrap_or(true)
            });
            gone.push((task.clone(), is_there));
        }
        for (task, is_there) in gone {
            let Some(mut progress) = self.tasks.remove(&task) else { continue };
            progress.sent = if is_there { progress.sent + 1 } else { progress.times };
            // A neighbour ignores what comes too soon after one that was late.
            progress.next = since_boot() + announce::INTERVAL;
            let is_over = progress.sent >= progress.times;
            // After a kill, the next agent goes on from there. The container may have ended, and its task with it.
            let noted = (!is_over).then(|| self.context.store.note_sent(&task, progress.sent));
            let noted = noted.and_then(|noted| noted.inspect_err(|error| log::info!("{error}")).ok());
            self.tasks.insert(noted.unwrap_or(task), progress);
        }
    }

    /// Asks the LAN for the addresses of all tasks that have not been asked for, and of parents that are due again. Returns the
    /// conflicts of DHCP leases. Hands the pools of these parents to `used`: what was asked for ahead before a switch port forwards
    /// does not count any more.
    fn ask(&mut self, used: &mut impl FnMut(Pool)) -> Vec<dhcp::LateConflict> {
        let now = since_boot();
        let mut records = Vec::new();
        for (task, progress) in self.tasks.iter().filter(|(_, progress)| progress.unasked) {
            records.extend(self.record(task, progress));
        }
        self.tasks.values_mut().for_each(|progress| progress.unasked = false);
        let due: Vec<u32> =
            self.again.iter().filter(|(at, _)| *at <= now).map(|&(_, parent)| parent).collect();
        self.again.retain(|(at, _)| *at > now);
        if !due.is_empty() {
            match self.context.store.records() {
                Ok(all) => {
                    let again: Vec<_> = all.sound.into_iter().filter(|record| record.is_on(&due)).collect();
                    again.iter().flat_map(Pool::of).collect::<BTreeSet<_>>().into_iter().for_each(used);
                    records.extend(again);
                }
                Err(error) => log::warn!("{error}"),
            }
        }
        let mut leased = Vec::new();
        if let Err(error) = late_conflicts::ask(&mut self.context, &records, &mut leased) {
            log::warn!("{error}");
            let parents = records.iter().flat_map(Record::attachments).map(|attached| attached.parent_index);
            self.again.extend(parents.map(|parent| (now + RETRY, parent)).collect::<BTreeSet<_>>());
        }
        leased
    }

    /// Announces the addresses on parents that are connected again: neighbours and switches may have forgotten them. Those that
    /// the LAN was not asked for, or that another host has, are not announced.
    fn announce_reconnected(&mut self) {
        let parents = std::mem::take(&mut self.reconnected);
        if parents.is_empty() {
            return;
        }
        let records = self.context.store.records().inspect_err(|error| log::warn!("{error}"));
        let records = records.unwrap_or_default().sound;
        let may = |attached: &Attached| parents.contains(&attached.parent_index) && attached.asked.is_free();
        for record in records.iter().filter(|record| record.attachments().iter().any(may)) {
            let sent = announce::announce(self.context.store, record, 0).map(drop);
            sent.unwrap_or_else(|error| log::debug!("{error}"));
        }
    }

    /// Ends the tasks that are done.
    fn finish(&mut self) -> Result<()> {
        let store = self.context.store;
        let done = |progress: &Progress| progress.sent >= progress.times && !progress.unasked;
        for task in self.tasks.iter().filter(|(_, progress)| done(progress)).map(|(task, _)| task) {
            store.end_task(task)?;
        }
        self.tasks.retain(|_, progress| !done(progress));
        Ok(())
    }

    /// Reads which links of the host are connected. Plans to ask for addresses on parents that are it again, and to announce
    /// them: nobody could be asked before, and it may be another LAN. After a failover of a bond they are announced: kernels
    /// before 6.14 do not announce those of links on a bond.
    fn look_at_links(&mut self, used: &mut impl FnMut(Pool)) -> Result<()> {
        let (now, store) = (since_boot(), self.context.store);
        let links = self.context.host_netlink.links()?;
        let connected = Connected::of(&links);
        let changes = connected.changes(self.connected.as_ref(), &links, &store.segments()?);
        let records = if changes.is_empty() { Vec::new() } else { store.records()?.sound };
        // Not before: after an error, the changes are found again.
        let known = self.connected.replace(connected);
        for Change { parent, ups, is_same_lan } in changes {
            let users: Vec<_> = records.iter().filter(|record| record.is_on(&[parent])).collect();
            if users.is_empty() {
                continue;
            }
            // At the first look, every parent is new.
            self.reconnected.extend(known.as_ref().map(|_| parent));
            if is_same_lan {
                continue;
            }
            users.into_iter().flat_map(Pool::of).collect::<BTreeSet<_>>().into_iter().for_each(&mut *used);
            self.plan(parent, now);
            self.again.push((now, parent));
            self.planned.insert(parent, ups);
        }
        Ok(())
    }
}
