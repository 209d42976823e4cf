//! Files: read with a limit, written as a whole, and only from trusted users.

pub(crate) mod file;
pub(crate) mod foreign_file;
pub(crate) mod in_place;
pub(crate) mod trust;
