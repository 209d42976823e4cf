//! What happens to a container, from its start to its end, and to what it leaves.

pub mod announce;
pub mod attach;
pub mod boot;
pub mod detach;
pub mod gc;
pub mod host_side;
pub mod mend;
pub mod mend_host;
pub mod parents;
pub mod preview;
pub mod probe;
pub mod rebuild;
pub mod remember;
pub mod report;
pub mod reseal;
pub mod runtime;
pub mod share;
pub mod sharing;
pub mod wish;
