//! What tests are made of: a host and a LAN (`Bed`), containers and engines, and what a test needs of the machine.

pub mod agent;
pub mod attacker;
pub mod bed;
pub mod container;
pub mod dhcp;
pub mod dhcp6;
pub mod dice;
pub mod dockerd;
pub mod fake_docker;
pub mod frames;
pub mod mishaps;
pub mod need;
pub mod on_lan;
pub mod place;
pub mod podman;
pub mod rootfs;
pub mod test;
pub mod tracer;
