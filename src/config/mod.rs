//! What the operator has written: networks (`network_file.rs` the format, `network.rs` checked), settings and policy.

pub(crate) mod conflict_detection;
pub(crate) mod dhcp;
pub(crate) mod driver_option;
pub(crate) mod host_access;
pub(crate) mod network;
pub(crate) mod network_file;
pub(crate) mod pattern;
pub(crate) mod reservation;
pub(crate) mod settings;
