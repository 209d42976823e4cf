//! The ways in: each turns its caller's words into a [`Target`](crate::lifecycle::target::Target) and the networks that it
//! is to be attached to, and hands them to `lifecycle`. `oci.rs` serves the hooks of OCI runtimes.

pub(crate) mod admission;
pub(crate) mod oci;
