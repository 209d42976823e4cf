//! Gives a DHCP lease back when the link that had it is gone.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{self, c_int};
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, sockopt_impl};

use super::apart::with_link_apart;
use super::dhcp6_socket::Dhcp6Socket;
use crate::dhcp::client;
use crate::dhcp::lease::Lease;
use crate::dhcp::message::Outgoing;
use crate::dhcp::v4::lease::Lease as Lease4;
use crate::dhcp::v4::outcome::Outgoing as Outgoing4;
use crate::dhcp::v4::udp::{CLIENT_PORT, SERVER_PORT};
use crate::dhcp::v6::message::Message as Message6;
use crate::error::{Error, Result};
use crate::net::ipv6::Advertised;
use crate::netlink::Socket;
use crate::plan::{self, Configure, CreateLink, LinkPlan};

/// How long a message may wait for the MAC address of the server, or of the router to it.
const PATIENCE: Duration = Duration::from_millis(300);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// Of asm-generic/socket.h, which libc lacks.
const SO_MEMINFO: c_int = 55;
/// The first of the numbers of `SO_MEMINFO`: the third is `SK_MEMINFO_WMEM_ALLOC`.
type MemInfo = [u32; 3];

sockopt_impl!(
    /// The memory that a socket uses (`SO_MEMINFO`, which neither nix nor rustix has).
    MemoryInUse,
    GetOnly,
    libc::SOL_SOCKET,
    SO_MEMINFO,
    MemInfo
);

/// Gives `lease` back, by the message number `xid`, from a link as that of `plan`, which is made in a new namespace and deleted
/// at once: with its parent, and the MAC address and address of the lease. The link of the lease must be gone. `host` is a socket
/// of the host's namespace.
pub(crate) fn release_lease(plan: &LinkPlan, lease: &Lease, xid: u32, host: &mut Socket) -> Result<()> {
    let plan = match lease {
        Lease::V4(lease) => with_lease(plan, lease),
        Lease::V6(_) => with_ipv6(plan),
    };
    with_link_apart(&plan, host, |link| match client::release(lease, xid) {
        Outgoing::V4(release) => send(&release).map_err(|error| {
            Error::kernel(&format!("release {} to DHCP server {}", release.from, release.to), &error)
        }),
        Outgoing::V6(release) => send6(link.ifindex, &release),
    })
}

/// Returns the plan of the link of `plan` with IPv6, but for an address of its own: DHCPv6 servers are told in the message which
/// address it is about.
fn with_ipv6(LinkPlan { create, configure, .. }: &LinkPlan) -> LinkPlan {
    let up = configure.iter().filter(|step| matches!(step, Configure::SetUp { .. })).cloned();
    let configure = plan::set_dhcp6(&create.name, &Advertised::default()).into_iter().chain(up).collect();
    LinkPlan { create: create.clone(), configure, mark: None }
}

/// Returns the plan of the link of `plan` with MAC address, address and route to the server of `lease`.
fn with_lease(LinkPlan { create, configure, .. }: &LinkPlan, lease: &Lease4) -> LinkPlan {
    let link = &create.name;
    let mac = Some(lease.mac).filter(|_| create.driver.has_own_mac());
    let create = CreateLink { mac, ..create.clone() };
    let address = Configure::AddAddress { link: link.clone(), address: lease.address.into(), lifetime: None };
    let up = configure.iter().filter(|step| matches!(step, Configure::SetUp { .. })).cloned();
    let routes = lease.routes.iter().filter(|route| route.to.contains(&IpAddr::from(lease.server)));
    let route = routes.max_by_key(|route| route.to.prefix_len());
    let route = route.filter(|_| !lease.address.contains(&lease.server));
    let route = route.map(|&route| Configure::AddRoute { link: link.clone(), route, table: None });
    let configure = [plan::set_ipv6(link, None), address].into_iter().chain(up).chain(route).collect();
    LinkPlan { create, configure, mark: None }
}

/// Sends `release` as soon as the link `ifindex` can. What goes to all servers leaves at once.
fn send6(ifindex: u32, release: &Message6) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(socket) = Dhcp6Socket::open(ifindex)? {
            socket.send(release);
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(Error::kernel("release an address by DHCPv6", &Errno::EADDRNOTAVAIL.into()));
        }
        thread::sleep(PAUSE);
    }
}

/// Sends `release`, and waits until it has left: the kernel keeps it as long as it does not know where to send it.
fn send(release: &Outgoing4) -> io::Result<()> {
    let socket = UdpSocket::bind((release.from, CLIENT_PORT))?;
    socket.connect((release.to, SERVER_PORT))?;
    socket.send(&release.message.encode())?;
    let until = Instant::now() + PATIENCE;
    while is_kept(&socket)? {
        if Instant::now() >= until {
            return Err(Errno::EHOSTUNREACH.into());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// Returns true if the kernel still has a datagram that `socket` has sent.
fn is_kept(socket: impl AsFd) -> io::Result<bool> {
    let [_, _, sent] = getsockopt(&socket, MemoryInUse)?;
    Ok(sent > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::client_id::ClientId;
    use crate::dhcp::v4::message::{Kind, Message};
    use crate::net::mac::MacAddr;

    /// The plan of a link for a lease of `10.0.0.5/PREFIX_LEN` by `server` with a default route by `router`.
    fn lines(prefix_len: u8, server: &str, router: &str, driver: &str) -> Vec<String> {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let ack = Message {
            yiaddr: [10, 0, 0, 5].into(),
            server: server.parse().ok(),
            lease_time: Some(3600),
            prefix_len: Some(prefix_len),
            routers: router.parse().into_iter().collect(),
            ..Message::new(Kind::Ack, 7, mac)
        };
        let lease = Lease4::of(&ack, &ClientId::mac(mac), Duration::ZERO).unwrap();
        let link = "eth0".parse().unwrap();
        let create = CreateLink {
            name: "eth0".parse().unwrap(),
            parent: "lan0".parse().unwrap(),
            parent_index: 2,
            driver: serde_json::from_str(driver).unwrap(),
            mac: None,
            mtu: None,
            bclim: None,
            options: crate::net::link_options::LinkOptions::default(),
            group: 1,
        };
        let configure = vec![
            Configure::AddAddress { link, address: "10.0.0.77/24".parse().unwrap(), lifetime: None },
            Configure::SetUp { link: "eth0".parse().unwrap(), alias: "x".to_owned() },
        ];
        let plan = with_lease(&LinkPlan { create, configure, mark: None }, &lease);
        plan.lines().map(|line| line.to_string()).collect()
    }

    #[test]
    fn the_link_that_releases() {
        let macvlan = r#"{"kind": "macvlan", "mode": "bridge"}"#;
        let ipvlan = r#"{"kind": "ipvlan", "mode": "l2", "flag": "bridge"}"#;
        let own = "ip link add link lan0 name eth0 address 02:00:00:00:00:09 type macvlan mode bridge";
        let (no_ipv6, up) = ("sysctl -w net/ipv6/conf/eth0/disable_ipv6=1", "ip link set eth0 alias x up");
        let address = "ip addr add 10.0.0.5/24 brd 10.0.0.255 dev eth0";
        let plan = lines(24, "10.0.0.1", "10.0.0.2", macvlan);
        assert_eq!(plan, [own, no_ipv6, address, up], "the server is on the link");
        let route = "ip route add default via 10.0.0.2 dev eth0";
        assert_eq!(lines(24, "10.9.0.1", "10.0.0.2", macvlan), [own, no_ipv6, address, up, route]);
        let plan = lines(24, "10.9.0.1", "10.0.0.2", ipvlan);
        assert_eq!(plan[0], "ip link add link lan0 name eth0 type ipvlan mode l2 bridge");
    }
}
