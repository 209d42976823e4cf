//! An rtnetlink socket: requests out, every answer read.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use neli::consts::rtnl::RtAddrFamily;
use nix::libc::{EINVAL, ENODEV};

use super::channel::Channel;
use super::message::{self, Message};
use super::reply::{self, Content, Refusal, Reply};
use super::routes;
use crate::error::{Error, Kind, Result};
use crate::hash::fnv1a;
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::net::route::DefaultRoutes;

/// A socket of `NETLINK_ROUTE` in the network namespace of the thread that opened it.
pub(crate) struct Socket {
    /// Opened with the first message, if it was not opened before.
    channel: Option<Channel>,
    /// The sequence number of the next message. It cannot be guessed, and the channel takes nothing except from the kernel:
    /// either would do.
    sequence: u32,
}

/// The buffer of all sockets: static, so that only the pages that answers reach are ever made. The kernel puts at most 32 KiB
/// into one datagram of a dump (netlink_recvmsg, `max_recvmsg_len`); the answer about a single link may be longer.
static BUFFER: Mutex<[u8; 160 * 1024]> = Mutex::new([0; 160 * 1024]);
/// How long a whole answer may take. rtnetlink answers before send(2) returns, except for the rest of a dump.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a dump is tried that changes disturb.
const DUMPS: usize = 5;
/// The longest list that is kept, so that a namespace with many links or routes cannot fill the memory.
const MOST: usize = 1 << 20;

/// What the kernel has answered, or its refusal.
type Answer<T> = Result<std::result::Result<T, Refusal>>;

impl Socket {
    pub(crate) fn open() -> Result<Self> {
        let mut socket = Self::when_needed();
        socket.connect()?;
        Ok(socket)
    }

    /// Returns a socket that is opened when it is first needed.
    pub(crate) fn when_needed() -> Self {
        Self { channel: None, sequence: unpredictable() }
    }

    /// Opens the socket now, in the network namespace that the calling thread is in.
    pub(crate) fn connect(&mut self) -> Result<()> {
        self.channel().map(drop)
    }

    fn channel(&mut self) -> Result<&Channel> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::open().map_err(|error| failed("open a netlink socket", &error))?,
        };
        Ok(self.channel.insert(channel))
    }

    /// Returns the link called `name`, if there is one.
    pub(crate) fn link(&mut self, name: &IfName) -> Result<Option<Link>> {
        self.get_link(message::get_link_by_name(name)?, &[ENODEV])
    }

    /// Returns the link with number `ifindex`, if there is one.
    pub(crate) fn link_by_index(&mut self, ifindex: u32) -> Result<Option<Link>> {
        self.get_link(message::get_link_by_index(ifindex, None)?, &[ENODEV])
    }

    /// Returns the link with number `ifindex` in the namespace that this socket's namespace knows by `nsid`
    /// (`IFLA_TARGET_NETNSID`), if both are there. A namespace that nothing uses any more is not, although the kernel may still
    /// be taking it apart.
    pub(crate) fn link_in(&mut self, nsid: i32, ifindex: u32) -> Result<Option<Link>> {
        self.get_link(message::get_link_by_index(ifindex, Some(nsid))?, &[ENODEV, EINVAL])
    }

    fn get_link(&mut self, request: Message, absent: &[i32]) -> Result<Option<Link>> {
        match self.get(request, reply::parse_link)? {
            Err(refusal) if absent.contains(&refusal.errno) => Ok(None),
            answer => answer.map_err(|refusal| refused("look up a link", &refusal)),
        }
    }

    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        self.dump(|| message::dump_links(None), reply::parse_link)
    }

    /// Returns all links in the namespace that this socket's namespace knows by `nsid`; none if there is no such namespace.
    pub(crate) fn links_in(&mut self, nsid: i32) -> Result<Vec<Link>> {
        match self.dump(|| message::dump_links(Some(nsid)), reply::parse_link) {
            Err(error) if error.kind() == Kind::Kernel(EINVAL) => Ok(Vec::new()),
            links => links,
        }
    }

    /// Returns the addresses of all links.
    pub(crate) fn addresses(&mut self) -> Result<Vec<IpAddr>> {
        Ok(self.addresses_by_link()?.into_iter().map(|(_, net)| net.addr()).collect())
    }

    /// Returns the addresses of all links, each with the number of its link.
    pub(crate) fn addresses_by_link(&mut self) -> Result<Vec<(u32, IpNet)>> {
        let all = self.dump(message::dump_addresses, reply::parse_address)?;
        Ok(all.into_iter().map(|address| (address.ifindex, address.net)).collect())
    }

    /// Returns the number by which this socket's namespace knows `netns`, as in
    /// [`LinkNetns`](crate::net::link::LinkNetns), if it has one for it.
    pub(crate) fn nsid(&mut self, netns: impl AsFd) -> Result<Option<i32>> {
        let answer = self.get(message::get_nsid(netns.as_fd())?, reply::parse_nsid)?;
        answer.map_err(|refusal| refused("look up a network namespace", &refusal))
    }

    /// Returns whether the main table has a default route, of IPv4 and of IPv6.
    pub(crate) fn default_routes(&mut self) -> Result<DefaultRoutes> {
        let mut any = |family| {
            let found = self.dump(|| message::dump_routes(family), routes::parse_default_route)?;
            Ok(!found.is_empty())
        };
        Ok(DefaultRoutes { v4: any(RtAddrFamily::Inet)?, v6: any(RtAddrFamily::Inet6)? })
    }

    /// Returns the number of the link of the first default route, IPv4 before IPv6.
    pub(crate) fn uplink(&mut self) -> Result<Option<u32>> {
        let found = self.dump_both(message::dump_routes, routes::parse_default_route)?;
        Ok(found.into_iter().flatten().next())
    }

    /// Returns true if the kernel takes packets to `address` as its own.
    pub(crate) fn is_local(&mut self, address: IpAddr) -> Result<bool> {
        let answer =
            self.get(message::get_route(address)?, |payload| Some(routes::is_local_route(payload)))?;
        // A refusal: there is not even a route.
        Ok(answer.ok().flatten().unwrap_or_default())
    }

    /// Returns the one answer to `request`, or the kernel's refusal.
    fn get<T>(&mut self, request: Message, parse: impl Fn(&[u8]) -> Option<T>) -> Answer<Option<T>> {
        let mut found = None;
        let answer = self.ask(request, |payload| {
            found = parse(payload);
            Ok(true)
        })?;
        Ok(answer.map(|_| found))
    }

    /// Returns the list that `request` asks for, as far as `parse` takes its items.
    pub(super) fn dump<T>(
        &mut self,
        request: impl Fn() -> Result<Message>,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        for _ in 0..DUMPS {
            let mut all = Vec::new();
            let answer = self.ask(request()?, |payload| {
                all.extend(parse(payload));
                if all.len() <= MOST {
                    return Ok(false);
                }
                let what = "links, addresses or routes in one network namespace";
                Err(Error::input(format!("there are more than {MOST} {what}")))
            })?;
            let disturbed = answer.map_err(|refusal| refused("list links, addresses or routes", &refusal))?;
            if !disturbed {
                return Ok(all);
            }
        }
        let text = format!("links, addresses or routes changed during each of {DUMPS} attempts to list them");
        Err(Error::new(Kind::Busy, text))
    }

    /// Returns the lists of IPv4 and of IPv6, one after the other.
    pub(super) fn dump_both<T>(
        &mut self,
        request: fn(RtAddrFamily) -> Result<Message>,
        parse: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut all = self.dump(|| request(RtAddrFamily::Inet), &parse)?;
        all.extend(self.dump(|| request(RtAddrFamily::Inet6), &parse)?);
        Ok(all)
    }

    /// Sends `request`, and hands each payload of the answer to `each`, until that returns true or the kernel says that it was
    /// the last. Returns whether a change has disturbed the answer, or the kernel's refusal.
    fn ask(&mut self, request: Message, mut each: impl FnMut(&[u8]) -> Result<bool>) -> Answer<bool> {
        let sequence = self.send(vec![request])?;
        let (mut disturbed, mut refusal) = (false, None);
        self.receive(|reply| {
            if reply.sequence != sequence {
                return Ok(false);
            }
            disturbed |= reply.disturbed;
            match reply.content {
                Content::Payload(payload) => return each(payload),
                Content::Answer(answer) => refusal = answer,
                Content::Done => {}
            }
            Ok(true)
        })?;
        Ok(refusal.map_or(Ok(disturbed), Err))
    }

    /// Sends `messages` in one datagram, if there are any, and returns the kernel's answer to each. The kernel goes on after one
    /// that failed: a batch is no transaction.
    pub(crate) fn transact(&mut self, messages: Vec<Message>) -> Result<Vec<Option<Refusal>>> {
        let mut answers = vec![None; messages.len()];
        // An empty datagram would have no answer.
        let Some(last) = messages.len().checked_sub(1) else { return Ok(answers) };
        // A message that fails is answered in any case, and before the last.
        let quiet = |(at, message): (usize, Message)| if at < last { message.without_ack() } else { message };
        let first = self.send(messages.into_iter().enumerate().map(quiet).collect())?;
        self.receive(|reply| {
            let at = reply.sequence.wrapping_sub(first) as usize;
            let (Content::Answer(answer), Some(place)) = (reply.content, answers.get_mut(at)) else {
                return Ok(false);
            };
            *place = answer;
            Ok(at == last)
        })?;
        Ok(answers)
    }

    /// Numbers `messages` and sends them in one datagram; returns the number of the first.
    fn send(&mut self, messages: Vec<Message>) -> Result<u32> {
        let first = self.sequence;
        let mut bytes = Vec::with_capacity(512);
        for message in messages {
            bytes.extend(message.numbered(self.sequence));
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.channel()?.send(&bytes).map_err(|error| failed("send to netlink", &error))?;
        Ok(first)
    }

    /// Hands each reply to `each`, to the end of the datagram with which `each` has returned true.
    fn receive(&mut self, mut each: impl FnMut(Reply<'_>) -> Result<bool>) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        // What a thread that panicked has left in it is written over.
        let mut buffer = BUFFER.lock().unwrap_or_else(PoisonError::into_inner);
        let mut complete = false;
        while !complete {
            let received = self.channel()?.receive(&mut *buffer, until);
            let length = received.map_err(|error| failed("receive from netlink", &error))?;
            for reply in reply::replies(buffer.get(..length).unwrap_or_default()) {
                complete |= each(reply?)?;
            }
            if !complete && Instant::now() >= until {
                return Err(failed("receive from netlink", &io::ErrorKind::TimedOut.into()));
            }
        }
        Ok(())
    }
}

/// A number made of what costs no system call: the place of this thread's stack, and the time to the nanosecond.
fn unpredictable() -> u32 {
    let here = 0_u8;
    (fnv1a(&format!("{:p} {:?}", &raw const here, SystemTime::now())) >> 32) as u32
}

fn failed(doing: &str, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::TimedOut {
        let text = format!("cannot {doing}: the answer was not complete within {} s", PATIENCE.as_secs());
        return Error::new(Kind::Busy, text).hint("the kernel is held up: see what it does with `dmesg`");
    }
    Error::kernel(doing, error)
}

pub(crate) fn refused(doing: &str, refusal: &Refusal) -> Error {
    Error::new(Kind::Kernel(refusal.errno), format!("cannot {doing}: {refusal}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_batch_is_not_sent() {
        let mut socket = Socket::when_needed();
        assert_eq!(socket.transact(Vec::new()).unwrap(), []);
        assert!(socket.channel.is_none(), "nothing was needed");
    }

    #[test]
    fn an_answer_that_does_not_come_is_told() {
        let error = failed("receive from netlink", &io::ErrorKind::TimedOut.into());
        assert_eq!(error.kind(), Kind::Busy);
        assert_eq!(error.to_string(), "cannot receive from netlink: the answer was not complete within 10 s");
    }

    #[test]
    fn numbers_cannot_be_guessed() {
        let first = || {
            let mut socket = Socket::open().unwrap();
            socket.links().unwrap();
            socket.sequence
        };
        assert_ne!(first(), first());
    }
}
