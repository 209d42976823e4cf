//! How the program is linked: without unwind tables when it is released, which needs the linker (packaging/no-unwind-tables.ld).

/// The linker script.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/no-unwind-tables.ld");

fn main() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    println!("cargo::rerun-if-changed=build.rs");
    // Only there a panic aborts; tests unwind.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{SCRIPT}");
    }
}
