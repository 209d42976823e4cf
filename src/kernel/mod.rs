//! The door to the kernel: rtnetlink, network namespaces, processes.

mod apply;
mod explain;
mod message;
mod netns;
mod process;
mod socket;

pub use apply::{Made, attach, detach, undo};
pub use netns::NetnsFile;
pub use process::{Process, lives};
pub use socket::Socket;
