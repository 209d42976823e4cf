//! The door to the kernel: rtnetlink, network namespaces, processes.

mod apply;
mod detached;
mod filter;
mod host_link;
mod journal;
mod netns;
mod parent;
mod probe;
mod process;
mod start;
mod status;
mod survey;
mod sysctl;
mod wire;

pub use apply::{Made, attach, detach, reseal, settle};
pub use detached::{detach_self, start_detached};
pub use host_link::{add_host_routes, delete_host_link, delete_host_routes, make_host_link};
pub use journal::tell_journal;
pub use netns::NetnsFile;
pub use parent::{delete_left, delete_parent, is_wireless, make_parent};
pub use probe::Probes;
pub use process::{Process, is_in, is_rootless, lives, pid_namespace};
pub use start::{restore_signals, start};
pub use status::{can_make, release};
pub use survey::{Seen, Survey, survey};
pub use sysctl::{sysctl, sysctl_of};
pub use wire::Wire;
