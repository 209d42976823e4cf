//! Access to the kernel: executes plans (`apply.rs`, `detach.rs`, `parent.rs`, `host_link.rs`), enters network namespaces, looks up
//! processes, sends and receives frames. The rtnetlink messages are in `netlink`.

mod alarm;
mod apart;
mod apply;
mod detach;
mod dhcp6_socket;
mod dhcp_release;
mod dhcp_socket;
mod dhcp_sockets;
mod endpoint_link;
mod filter;
mod holder;
mod host_link;
mod netns;
mod packet_socket;
mod parent;
mod plugin_socket;
mod probe;
mod process;
mod start;
mod status;
mod survey;
mod sysctl;
mod wait;
mod watch;

pub(crate) use alarm::Alarm;
pub(crate) use apart::{open_apart, with_link_apart};
mod system_log;

pub(crate) use apply::renew_address;
pub(crate) use apply::{attach, finish, marked_link, readdress, reseal, usual_number};
pub(crate) use detach::{Detached, detach, has_links};
pub(crate) use dhcp_release::release_lease;
pub(crate) use dhcp_sockets::DhcpSockets;
pub(crate) use endpoint_link::{delete_endpoint_link, link_with, make_endpoint_link};
pub(crate) use holder::{is_alive, is_in, made_for};
pub(crate) use host_link::{add_host_routes, delete_host_link, delete_host_routes, make_host_link};
pub(crate) use netns::NetnsFile;
pub(crate) use packet_socket::PacketSocket;
pub(crate) use parent::{delete_leftover, delete_parent, is_wireless, make_parent};
pub(crate) use plugin_socket::{Accepted, PluginSocket, most_descriptors};
pub(crate) use probe::{Answer, Probes};
pub(crate) use process::{Process, is_rootless, mount_namespace, pid_namespace};
pub(crate) use start::{init_process, restore_signals};
pub(crate) use status::{can_make, kernel_release};
pub(crate) use survey::{Survey, SurveyedLink, find_netns, has_process, survey};
pub(crate) use sysctl::{read_ipv4_sysctl, read_sysctl};
pub(crate) use system_log::write_system_log;
pub(crate) use wait::wait;
pub(crate) use watch::Watch;
