//! How the program is linked: without unwind tables when it is released, which needs the linker (packaging/no-unwind-tables.ld).

fn main() {
    const SCRIPT: &str = "packaging/no-unwind-tables.ld";
    println!("cargo::rerun-if-changed={SCRIPT}");
    println!("cargo::rerun-if-changed=build.rs");
    // Only there a panic aborts; tests unwind.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("Cargo names the folder");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{folder}/{SCRIPT}");
    }
}
