//! Who gets which address and MAC address.

pub(crate) mod assign;
pub(crate) mod hint;
mod host_links;
mod leasing;
mod pick;
mod preview;
mod quarantine;
pub(crate) mod reserve;

#[cfg(test)]
mod tests;
