//! Foreign text where it is printed: nothing in it moves the cursor, ends a line or runs as a command.

pub mod printable;
pub mod shell;
