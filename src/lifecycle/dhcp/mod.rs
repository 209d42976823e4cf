//! Addresses from DHCP servers: got during the attach (`acquire.rs`), renewed by the agent (`renew.rs`), and given back when the
//! container has ended (`give_back.rs`). What a client does is in `dhcp`, its sockets in `kernel/dhcp_socket.rs`.

mod acquire;
mod change;
mod give_back;
mod notices;
mod renew;
mod session;
mod shared_mac;

pub(crate) use acquire::acquire;
pub(crate) use give_back::{LINGER, give_back, has_lease};
pub(crate) use notices::{LateConflict, Notices};
pub(crate) use renew::{once, run};
