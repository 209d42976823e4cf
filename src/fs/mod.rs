//! Files: read with a limit, written as a whole, from and for those that are trusted.

pub mod file;
pub mod foreign_file;
pub mod trust;
