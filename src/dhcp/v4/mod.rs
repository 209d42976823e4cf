//! DHCP for IPv4 (RFC 2131, RFC 2132).

mod classless_route;
pub(crate) mod client;
pub(crate) mod lease;
pub(crate) mod message;
mod options;
pub(crate) mod outcome;
pub(crate) mod request;
pub(crate) mod udp;
