//! Endpoints: an engine with a network of its own, Docker, asks for an address, then for an endpoint with it, then for a link, which it
//! moves into the container. At the end it moves the link back, and says that the endpoint is over.
//!
//! Between these calls the engine may be killed, and so may this process. So each call finds what it needs in the ledger, and may come
//! twice. In a network with DHCP it asks for no address: the endpoint is created with one that a server gives.
//! An address without an endpoint is free again after a minute. Whether an endpoint can have an address is decided when it
//! is created: the engine asks for the addresses of all endpoints again when it starts, and does not say so.

mod address;
mod create;
mod link;
mod wanted;

pub(crate) use address::{expect, pick, release as release_address};
pub(crate) use create::{NewEndpoint, create};
pub(crate) use link::{delete, join};
