//! The command `underlay`: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    underlay::cli::main(std::env::args_os())
}
