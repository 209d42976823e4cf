//! DHCP for IPv6 (RFC 8415): one address of a link (`IA_NA`).

pub(crate) mod client;
pub(crate) mod lease;
pub(crate) mod message;
mod options;
pub(crate) mod outcome;
pub(crate) mod request;
mod status;
