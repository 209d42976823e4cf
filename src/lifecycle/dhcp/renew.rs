//! Renewal: the agent keeps the leases of all containers, and asks for those that are missing.
//!
//! Between two exchanges it has nothing of a container's namespace: a socket there would keep the namespace, and the MAC
//! address, after the container.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::dhcp::client::{Effect, Event as Happened};
use crate::dhcp::lease::{Family, Lease};
use crate::error::{Error, Result};
use crate::kernel::{self, DhcpSockets, NetnsFile, PacketSocket, marked_link};
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::holder::Holder;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::change::{self, Place};
use crate::lifecycle::dhcp::notices::{LateConflict, Notices};
use crate::lifecycle::dhcp::session::{Session, number};
use crate::lifecycle::moved;
use crate::net::name::ContainerId;
use crate::netlink::Socket;

/// For how long an answer is listened for. Then the sockets are closed until the client asks again.
const LISTEN: Duration = Duration::from_secs(3);
/// How long to wait after an error, which may be over then.
const RETRY: Duration = Duration::from_secs(1);
/// Clients that begin together ask within this time, in milliseconds.
const SPREAD: u64 = 300;
/// The time between the beginnings of two exchanges: a server is not asked for all leases of a host at once.
const PACE: Duration = Duration::from_millis(50);
/// For how long what is due is done once: a server may test an address before it offers it, for which some take three seconds.
const ONCE: Duration = Duration::from_secs(10);

/// The container and the number of its attachment, and which of its clients.
type Key = (ContainerId, usize, Family);

/// A client of one link.
struct Renewal {
    holder: Holder,
    parent_index: u32,
    session: Session,
    /// Until when its sockets are listened on.
    until: Duration,
    /// Until when nothing is tried, after an error.
    pause: Duration,
    /// The link may have come to another network.
    has_moved: bool,
    /// The client knows of a change that could not be written down: another one begins with what the record says.
    is_ahead: bool,
}

/// All clients.
struct Renewals<'a> {
    context: Context<'a>,
    all: BTreeMap<Key, Renewal>,
    /// When the next exchange may begin.
    next: Duration,
    /// When records are to be read, if they are.
    follow: Option<Duration>,
}

/// Keeps all leases until the agent ends, which `notices` tells.
pub(crate) fn run(store: &Store, notices: &Notices) {
    let mut renewals = Renewals::new(store);
    change::give_back_lost(&renewals.context).unwrap_or_else(|error| log::warn!("{error}"));
    renewals.follow = Some(since_boot());
    loop {
        if renewals.follow.is_some_and(|at| at <= since_boot()) {
            let followed = renewals.follow_records().inspect_err(|error| log::warn!("{error}"));
            renewals.follow = (!followed.unwrap_or_default()).then(|| since_boot() + RETRY);
        }
        renewals.proceed();
        let Some(received) = notices.wait(renewals.next(), renewals.fds()) else { return };
        if received.records {
            renewals.follow = Some(since_boot());
        }
        let is_on = |renewal: &&mut Renewal| received.parents.contains(&renewal.parent_index);
        renewals.all.values_mut().filter(is_on).for_each(|renewal| renewal.has_moved = true);
        received.conflicts.into_iter().for_each(|conflict| renewals.conflict(conflict));
    }
}

/// Renews what is due now, tells of `conflicts`, and asks for what is missing, once.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn once(store: &Store, conflicts: Vec<LateConflict>) -> Result<()> {
    let mut renewals = Renewals::new(store);
    let begin = since_boot();
    change::give_back_lost(&renewals.context)?;
    renewals.follow_records().map(drop).unwrap_or_else(|error| log::warn!("{error}"));
    conflicts.into_iter().for_each(|conflict| renewals.conflict(conflict));
    let is_busy =
        |renewal: &Renewal| renewal.is_talking() || renewal.due().is_some_and(|due| due <= begin + RETRY);
    loop {
        renewals.proceed();
        let next = renewals.next().filter(|&next| next <= begin + ONCE);
        let Some(next) = next.filter(|_| renewals.all.values().any(is_busy)) else { return Ok(()) };
        // After an error the sockets are read, and the time is looked at.
        let _ = kernel::wait(renewals.fds(), Some(next.saturating_sub(since_boot())));
    }
}

impl<'a> Renewals<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            context: Context::for_removal(store),
            all: BTreeMap::new(),
            next: Duration::ZERO,
            follow: None,
        }
    }

    fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.all.values().flat_map(|renewal| renewal.session.fds())
    }

    /// Makes clients for links that have none, and forgets those of containers that have ended. Returns false if an engine is about
    /// to move a link into its container.
    ///
    /// # Errors
    /// The first one; the other links have their clients.
    fn follow_records(&mut self) -> Result<bool> {
        let (mut first, mut is_whole) = (Ok(()), true);
        let mut records = self.context.store.records()?.sound;
        for record in records.iter_mut().filter(|record| record.has_dhcp() && moved::is_unseen(record)) {
            match moved::look(&mut self.context, record) {
                Ok(Some(seen)) => *record = seen,
                Ok(None) => is_whole &= !moved::is_moving(record),
                Err(error) => first = first.and(Err(error)),
            }
        }
        let is_there = |record: &&Record| record.is_attached() && !moved::is_unseen(record);
        let records = records.iter().filter(is_there);
        let mut known = BTreeMap::new();
        for record in records {
            for (index, attached) in record.attachments().iter().enumerate() {
                for family in attached.dhcp_families() {
                    known.insert((record.container.clone(), index, family), (record, attached));
                }
            }
        }
        self.all
            .retain(|key, renewal| known.get(key).is_some_and(|(record, _)| record.holder == renewal.holder));
        for (key, (record, attached)) in known {
            let Entry::Vacant(new) = self.all.entry(key.clone()) else { continue };
            let place = place(&key, &record.holder);
            match begin(&mut self.context, record, attached, place) {
                Ok(Some(renewal)) => drop(new.insert(renewal)),
                Ok(None) => {}
                Err(error) => first = first.and(Err(error.within(format!("container {}", record.container)))),
            }
        }
        first.map(|()| is_whole)
    }

    /// Tells a client of a conflict.
    fn conflict(&mut self, LateConflict { container, index, family, address, mac }: LateConflict) {
        let key = (container, index, family);
        let Some(renewal) = self.all.get_mut(&key) else { return };
        let done = renewal.open(&self.context, &key).and_then(|_| {
            let effects = renewal.session.tell(&mut self.context, Happened::Conflict { address, mac })?;
            renewal.carry_out(&mut self.context, &key, effects.into())
        });
        done.map(drop).unwrap_or_else(|error| log::info!("container {}: {error}", key.0));
    }

    /// When something is due.
    fn next(&self) -> Option<Duration> {
        let next = |renewal: &Renewal| match renewal.is_talking() {
            true => [renewal.due(), renewal.silence()].into_iter().flatten().min(),
            false => renewal.due().map(|due| due.max(self.next)),
        };
        self.all.values().filter_map(next).chain(self.follow).min()
    }

    /// Does what is due now.
    fn proceed(&mut self) {
        let talking = self.all.iter().filter(|(_, renewal)| renewal.is_talking());
        let talking: Vec<_> = talking.map(|(key, _)| key.clone()).collect();
        talking.iter().for_each(|key| self.proceed_with(key));
        let now = since_boot();
        let due = |(key, renewal): (&Key, &Renewal)| {
            let due = renewal.due().filter(|&due| due <= now && !renewal.is_talking())?;
            Some((due, key.clone()))
        };
        let mut due: Vec<_> = self.all.iter().filter_map(due).collect();
        // What has waited longest comes first, so that all get their turn.
        due.sort();
        for (_, key) in due {
            if since_boot() < self.next {
                return;
            }
            self.next = since_boot() + PACE;
            self.proceed_with(&key);
        }
    }

    fn proceed_with(&mut self, key: &Key) {
        let Some(renewal) = self.all.get_mut(key) else { return };
        match renewal.proceed(&mut self.context, key) {
            Ok(true) => {}
            Ok(false) => drop(self.all.remove(key)),
            Err(error) => {
                log::info!("container {}: {error}", key.0);
                (renewal.session.sockets, renewal.pause) = (None, since_boot() + RETRY);
                if renewal.is_ahead {
                    self.all.remove(key);
                    self.follow = Some(since_boot() + RETRY);
                }
            }
        }
    }
}

/// The client of a link that has, or wants, a lease; `None` if the container is gone. The kernel gets the lease's lifetime anew:
/// an agent that was killed may not have come to it, and the kernel's clock stands still while the host is suspended.
fn begin(
    context: &mut Context<'_>,
    record: &Record,
    attached: &Attached,
    place: Place<'_>,
) -> Result<Option<Renewal>> {
    let Some(mac) = attached.mac else { return Ok(None) };
    let lasts = attached.dhcp_lease(place.family).is_some_and(|lease| !lease.times().is_over(since_boot()));
    // What fails now is done when the lease is renewed.
    let failed = |error: Error| log::info!("container {}: {error}", record.container);
    if !change::claimed(record, place.index, place.family).is_empty() {
        give_up(context, place).unwrap_or_else(failed);
    }
    if lasts && change::apply(record, place, None, false).is_ok_and(|is_there| !is_there) {
        return Ok(None);
    }
    let start = since_boot() + Duration::from_millis(number()? % SPREAD);
    let client = attached.dhcp_client(place.family, mac, (start, None), number()?);
    Ok(client.map(|client| Renewal {
        holder: record.holder.clone(),
        parent_index: attached.parent_index,
        session: Session::new(client, &record.container, attached),
        until: Duration::ZERO,
        pause: Duration::ZERO,
        has_moved: false,
        is_ahead: false,
    }))
}

fn place<'a>(key: &'a Key, holder: &'a Holder) -> Place<'a> {
    Place { container: &key.0, holder, index: key.1, family: key.2 }
}

impl Renewal {
    /// When it has something to do, besides to listen.
    fn due(&self) -> Option<Duration> {
        let due = if self.has_moved { Some(Duration::ZERO) } else { self.session.deadline() };
        due.map(|due| due.max(self.pause))
    }

    /// Whether answers may come, to the client or about an address.
    fn is_talking(&self) -> bool {
        self.session.sockets.is_some() || self.session.is_asking()
    }

    /// When it listens no more. What comes of a question about an address has to be told to the server.
    fn silence(&self) -> Option<Duration> {
        Some(self.until).filter(|_| self.session.sockets.is_some() && !self.session.is_asking())
    }

    /// Returns false if the container is gone.
    fn proceed(&mut self, context: &mut Context<'_>, key: &Key) -> Result<bool> {
        let is_due = self.due().is_some_and(|due| due <= since_boot());
        if is_due && !self.open(context, key)? {
            return Ok(false);
        }
        let mut effects = self.session.step(context)?;
        if is_due && std::mem::take(&mut self.has_moved) {
            effects.extend(self.session.tell(context, Happened::Moved)?);
        }
        let is_there = self.carry_out(context, key, effects)?;
        if self.silence().is_some_and(|silence| silence <= since_boot()) {
            self.session.sockets = None;
        }
        Ok(is_there)
    }

    /// Opens the sockets. Returns false if the container is gone.
    fn open(&mut self, context: &Context<'_>, key: &Key) -> Result<bool> {
        self.until = since_boot() + LISTEN;
        if self.session.sockets.is_some() {
            return Ok(true);
        }
        let Some(record) = place(key, &self.holder).record(context)? else { return Ok(false) };
        let Some((_, netns)) = NetnsFile::of(&self.holder)? else { return Ok(false) };
        let Some((mark, attached)) = record.marked().nth(key.1) else { return Ok(false) };
        let leased = attached.dhcp_lease(key.2).map(|lease| lease.address().addr());
        self.session.sockets = netns.inside(|| {
            let link = marked_link(attached.ifindex, &mark, &mut Socket::open()?)?;
            let Some((ifindex, mac)) = link.and_then(|link| Some((link.ifindex, link.mac?))) else {
                return Ok(None);
            };
            let sockets = DhcpSockets::open(key.2, ifindex, mac, leased)?;
            sockets.map(Some).ok_or_else(|| Error::input(format!("link {} cannot send yet", attached.ifname)))
        })?;
        self.session.hear_below(context, attached)?;
        Ok(self.session.sockets.is_some())
    }

    /// Gives the container `lease`, or takes it away: see [`change::change`].
    fn change(
        &mut self,
        context: &mut Context<'_>,
        place: Place<'_>,
        lease: Option<&Lease>,
        why: &str,
    ) -> Result<bool> {
        let changed = change::change(context, place, lease, why);
        self.is_ahead = changed.is_err();
        changed
    }

    /// Does what the client wants. Returns false if the container is gone.
    fn carry_out(
        &mut self,
        context: &mut Context<'_>,
        key: &Key,
        mut effects: VecDeque<Effect>,
    ) -> Result<bool> {
        let holder = self.holder.clone();
        let place = place(key, &holder);
        loop {
            let Some(effect) = effects.pop_front() else {
                let Some(event) = self.session.answer()? else { return Ok(true) };
                if let Happened::Conflict { address, mac } = event {
                    give_up(context, place)?;
                    if let Some(record) = place.record(context)? {
                        change::tell_conflict(context, &record, place.index, (address, mac));
                    }
                }
                effects.extend(self.session.tell(context, event)?);
                continue;
            };
            let is_there = match effect {
                Effect::Send(outgoing) => {
                    self.session.send(&outgoing);
                    true
                }
                Effect::Probe(address) => {
                    effects.extend(claim(context, place, address, &mut self.session)?);
                    true
                }
                Effect::Bound(lease) => {
                    // The exchange is over, and nothing is to be kept in the namespace.
                    self.session.sockets = None;
                    self.change(context, place, Some(&lease), "")?
                }
                Effect::Lost(loss) => self.change(context, place, None, &loss)?,
                Effect::Failed(failure) => {
                    give_up(context, place)?;
                    log::warn!("container {}: {failure}", key.0);
                    change::note_trouble(context, place, &failure)?
                }
            };
            if !is_there {
                return Ok(false);
            }
        }
    }
}

/// Leases `address` in the ledger, and begins to ask the LAN from the link at `place`.
fn claim(
    context: &mut Context<'_>,
    place: Place<'_>,
    address: IpAddr,
    session: &mut Session,
) -> Result<Vec<Effect>> {
    give_up(context, place)?;
    let Some(mut record) = place.record(context)? else { return Ok(Vec::new()) };
    let Some(attached) = place.attached(&record) else { return Ok(Vec::new()) };
    let mut taken = change::make_way(context, attached, address)?;
    if taken.is_none() {
        let locked = context.lock()?;
        let Some(now) = place.record(context)? else { return Ok(Vec::new()) };
        record = now;
        taken = change::claim(&locked, &mut record, place.index, address)?;
    }
    if let Some(mac) = taken {
        return session.tell(context, Happened::Conflict { address, mac });
    }
    let Some(attached) = place.attached(&record) else { return Ok(Vec::new()) };
    let Some((_, netns)) = NetnsFile::of(place.holder)? else { return Ok(Vec::new()) };
    let link = attached.ifindex.zip(attached.mac);
    let how = attached.detection.zip(link).map(|(detection, (ifindex, mac))| {
        let open = move |addresses: &[IpAddr]| netns.inside(|| PacketSocket::open(ifindex, mac, addresses));
        (detection, open)
    });
    session.ask(context, (attached, address), how)?;
    Ok(Vec::new())
}

/// Gives back what was claimed for the client at `place`, which may be one of an agent that was killed.
fn give_up(context: &Context<'_>, place: Place<'_>) -> Result<()> {
    let locked = context.lock()?;
    let Some(mut record) = place.record(context)? else { return Ok(()) };
    let claimed = change::claimed(&record, place.index, place.family);
    claimed.into_iter().try_for_each(|address| change::give_up(&locked, &mut record, place.index, address))
}
