//! What CAP_NET_ADMIN in a container reaches of the host without underlay: the kernel's rule that docs/explanation/security.md warns of.
//!
//! A macvlan link names its parent's namespace by a number (`IFLA_LINK_NETNSID`), and rtnetlink takes that number for the
//! namespace that is meant (`IFLA_TARGET_NETNSID`), if the process has CAP_NET_ADMIN over that namespace's user namespace.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};

use nix::libc::EACCES;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with};

use crate::harness::attacker::{attribute, message};
use crate::harness::bed::{Bed, run};
use crate::harness::need::Need;
use crate::harness::test::Test;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("netnsid::reaches_the_host", &[Need::Macvlan], || asks(&[], 0)),
        Test::new("netnsid::refused_in_a_user_namespace", &[Need::Macvlan, Need::Users], || {
            asks(&["--user", "--map-root-user"], EACCES);
        }),
    ]
}

/// The number of the link that the process asks for, which is this very program with this variable.
const VARIABLE: &str = "UNDERLAY_TEST_NETNSID";

/// The process; gone when dropped.
struct Asker(Child);

impl Drop for Asker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process with all capabilities in a network namespace of its own, made by unshare(1) with `more`, asks for a link of the
/// host's and deletes it. The kernel answers each with `errno`, 0 if it is done.
fn asks(more: &[&str], errno: i32) {
    let bed = Bed::new();
    bed.host.ip("link add link eth0 name victim type macvlan");
    let index = bed.host.link("victim").unwrap()["ifindex"].to_string();

    let mut command = Command::new("unshare");
    command.args(more).arg("--net").arg(std::env::current_exe().unwrap()).env(VARIABLE, index);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut asker = Asker(command.spawn().unwrap());
    let mut answers = BufReader::new(asker.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(answers.next().unwrap(), "ready");

    // The link of a container. It gives the host's namespace a number in the container's, the first: 0.
    let pid = asker.0.id().to_string();
    bed.host.ip(&format!("link add link eth0 name x0 netns {pid} type macvlan"));
    let shown = run("nsenter", &["--target", &pid, "--net", "ip", "link", "show", "x0"]).unwrap();
    assert!(shown.contains("link-netns"), "{shown}");
    asker.0.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(answers.next().unwrap(), format!("get {errno}"));
    assert_eq!(answers.next().unwrap(), format!("delete {errno}"));
    assert_eq!(bed.host.link("victim").is_some(), errno != 0, "whether it is still there");
}

// Of linux/netlink.h, linux/rtnetlink.h and linux/if_link.h.
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFLA_TARGET_NETNSID: u16 = 46;

/// Asks, if this process was started for that.
pub fn main() -> Option<ExitCode> {
    let index: u32 = std::env::var(VARIABLE).ok()?.parse().unwrap();
    let mut stdout = std::io::stdout();
    writeln!(stdout, "ready").unwrap();
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    for (what, kind, flags) in [("get", RTM_GETLINK, 0), ("delete", RTM_DELLINK, NLM_F_ACK)] {
        writeln!(stdout, "{what} {}", answer(kind, flags, index)).unwrap();
    }
    Some(ExitCode::SUCCESS)
}

/// The error number that the kernel answers with, 0 if there is none, for the link `index` of the namespace number 0.
fn answer(kind: u16, flags: u16, index: u32) -> i32 {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).unwrap();
    // struct ifinfomsg: family, type, ifindex, flags, change.
    let head = [&[0; 4][..], &index.to_ne_bytes(), &[0; 8]].concat();
    let payload = [head, attribute(IFLA_TARGET_NETNSID, &0_i32.to_ne_bytes())].concat();
    let request = message(kind, NLM_F_REQUEST | flags, 1, &payload);
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).unwrap();
    let mut bytes = vec![0; 16 * 1024];
    let (read, _) = recv(&socket, &mut bytes, RecvFlags::empty()).unwrap();
    assert!(read >= 20, "{read} bytes");
    match u16::from_ne_bytes([bytes[4], bytes[5]]) {
        NLMSG_ERROR => -i32::from_ne_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]),
        _ => 0,
    }
}
