//! Foreign text where it is printed: nothing in it moves the cursor, ends a line or runs as a command.

pub(crate) mod printable;
pub(crate) mod shell;
