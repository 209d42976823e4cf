//! What the operator has written: networks and settings.

pub mod detection;
pub mod host_access;
pub mod network;
pub mod network_file;
pub mod pattern;
pub mod reservation;
pub mod settings;
