//! The command `underlay`: arguments in, exit code out.
//!
//! The C library calls `main` itself. What Rust's own start does before would be a sixth of the hook's system calls: it
//! reads /proc/self/maps to be able to say that a stack has overflowed. Only a C library that tells Rust the arguments
//! by itself will do.
#![cfg_attr(target_env = "gnu", no_main)]

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the C library knows it by this name")]
#[unsafe(no_mangle)]
extern "C" fn main() -> core::ffi::c_int {
    underlay::cli::main(std::env::args_os()).into()
}

#[cfg(not(target_env = "gnu"))]
fn main() -> std::process::ExitCode {
    underlay::cli::main(std::env::args_os()).into()
}
