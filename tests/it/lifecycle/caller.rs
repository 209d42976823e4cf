//! What the caller of a hook gives it besides its arguments: environment, limits, signals. Nothing goes by it.

use crate::harness::bed::{Bed, binary, outcome};
use crate::harness::container::Engine::Bare;
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    let all: [Named; 2] = [
        ("limit_of_file_sizes", &[Need::Macvlan], limited_files),
        ("environment", &[Need::Macvlan], folders_of_hooks),
    ];
    all.map(|(name, needs, run)| Test::new(format!("caller::{name}"), needs, run)).into()
}

/// A hook that may write no large files fails with a sentence, and leaves nothing.
fn limited_files() {
    let bed = Bed::with_pub_net("macvlan", "");
    bed.container(Bare, "first").networks("pub_net").start().unwrap().stop();
    let web = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    for bytes in [0, 100, 512] {
        let mut hook = bed.host.command("prlimit");
        hook.arg(format!("--fsize={bytes}")).arg(binary()).args(bed.dirs()).args(["hook", "createRuntime"]);
        let done = outcome(&mut hook, web.state_at("createRuntime").as_bytes());
        assert_eq!(done.code, 1, "{bytes}: {done:?}");
        assert!(done.stderr.contains("File too large (os error 27)"), "{bytes}: {done:?}");
        bed.assert_nothing_held();
    }
}

/// Of its folders a hook believes its arguments alone: the others are the default ones, whatever the environment says,
/// which the commands read.
fn folders_of_hooks() {
    let bed = Bed::with_pub_net("macvlan", "");
    let other = Bed::new();
    let web = bed.container(Bare, "web").networks("pub_net").without_hooks().start().unwrap();
    // Where the default data dir is, there is nothing, and nothing stays.
    let mut hook = bed.host.command("unshare");
    hook.args([
        "--mount",
        "sh",
        "-c",
        "mount -t tmpfs none /var/lib && \"$@\" && ls -d /var/lib/underlay",
        "sh",
    ]);
    hook.arg(binary()).args(&bed.dirs()[..4]).args(["hook", "createRuntime"]).envs(other.variables());
    let done = outcome(&mut hook, web.state_at("createRuntime").as_bytes());
    assert_eq!((done.code, done.stdout.as_str()), (0, "/var/lib/underlay\n"), "{done:?}");
    assert_eq!(bed.records(), [format!("{}.json", web.id)]);
    assert!(!other.path("run").exists() && !other.path("data").exists());
}
