//! Foreign text on its way out: nothing in it moves the cursor, ends a line or runs as a command.

pub(crate) mod printable;
pub(crate) mod shell;
