//! Front ends: each turns the input of its caller into a [`Target`](crate::lifecycle::target::Target) and its
//! networks, and passes them to `lifecycle`. `oci.rs` serves the hooks of OCI runtimes, `netavark` podman's networks, `docker` those
//! of Docker.

pub(crate) mod admission;
pub(crate) mod docker;
pub(crate) mod netavark;
pub(crate) mod oci;
