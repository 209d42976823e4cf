//! The door to the kernel: rtnetlink, network namespaces, processes.

mod apply;
mod channel;
mod contents;
mod detached;
mod driver;
mod envelope;
mod explain;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzz;
mod host_link;
mod host_message;
mod journal;
mod message;
mod neighbours;
mod netns;
mod parent;
mod probe;
mod process;
mod random;
mod reply;
mod routes;
mod socket;
mod start;
mod status;
mod survey;
mod sysctl;
mod ways;
mod wire;

pub use apply::{Made, attach, detach, reseal, settle};
pub use contents::Contents;
pub use detached::{detach_self, start_detached};
pub use explain::is_in_use;
#[cfg(any(test, feature = "fuzzing"))]
pub use fuzz::{fuzz, fuzz_messages};
pub use host_link::{add_host_routes, delete_host_link, delete_host_routes, make_host_link};
pub use journal::tell_journal;
pub use neighbours::Neighbour;
pub use netns::NetnsFile;
pub use parent::{delete_left, delete_parent, is_wireless, make_parent};
pub use probe::Probes;
pub use process::{Process, is_in, is_rootless, lives, pid_namespace};
pub use random::random;
pub use socket::Socket;
pub use start::{restore_signals, start};
pub use status::{can_make, release};
pub use survey::{Seen, Survey, survey};
pub use sysctl::{sysctl, sysctl_of};
pub use wire::Wire;
