//! What happens to a container, from its start to its end, and to what it leaves. Each file reads from top to bottom.
//!
//! `attach.rs` is `createRuntime`, `detach.rs` is `poststop`; `release.rs` is the one way back, also of an attach that
//! fails. `mend.rs` repairs the ledger; `gc.rs`, `boot.rs`, `preview.rs` and `runtime.rs` are commands.

pub(crate) mod announce;
pub(crate) mod attach;
pub(crate) mod boot;
pub(crate) mod detach;
pub(crate) mod gc;
pub(crate) mod host_side;
pub(crate) mod mend;
pub(crate) mod mend_host;
pub(crate) mod mend_step;
pub(crate) mod parents;
pub(crate) mod policy;
pub(crate) mod preview;
pub(crate) mod probe;
pub(crate) mod rebuild;
pub(crate) mod release;
pub(crate) mod remember;
pub(crate) mod report;
pub(crate) mod reseal;
pub(crate) mod runtime;
pub(crate) mod share;
pub(crate) mod sharing;
