//! rtnetlink: requests as bytes (`message.rs`), the socket (`socket.rs`), answers (`reply.rs`), and what an errno means
//! (`explain.rs`).

mod attr;
mod channel;
mod contents;
pub(crate) mod explain;
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../../fuzz/targets/netlink.rs"]
mod fuzz;
mod link_info;
pub(crate) mod message;
mod monitor;
mod neighbours;
mod nlmsg;
pub(crate) mod reply;
mod routes;
mod socket;
mod unicast_routes;

pub(crate) use explain::is_address_in_use;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use fuzz::{fuzz, fuzz_messages};
pub(crate) use monitor::LinkMonitor;
pub(crate) use socket::{Socket, refused};
