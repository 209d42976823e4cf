//! Files: read with a limit, written as a whole, from and for those that are trusted.

pub(crate) mod file;
pub(crate) mod foreign_file;
pub(crate) mod trust;
