//! Whole containers: what an engine takes with our hook, with an empty program in its place, with none, and with its own
//! network.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cases::{Results, record};
use crate::host::{Host, PARENT, has};
use crate::measure::Job;

/// What all engines start: a root file system with busybox, bundles, and folders of hooks.
pub struct Engines {
    pub rootfs: PathBuf,
    /// Those that work here.
    runtimes: Vec<&'static str>,
}

impl Engines {
    pub fn new(host: &Host) -> Self {
        let rootfs = host.folder.join("rootfs");
        for folder in ["bin", "proc", "sys", "dev", "etc", "run", "tmp"] {
            fs::create_dir_all(rootfs.join(folder)).unwrap();
        }
        fs::copy("/bin/busybox", rootfs.join("bin/busybox")).unwrap();
        symlink("busybox", rootfs.join("bin/true")).unwrap();
        let mut engines = Self { rootfs, runtimes: Vec::new() };
        for (name, program) in [
            ("none", None),
            ("empty", Some(host.program("empty"))),
            ("ours", Some(host.underlay.display().to_string())),
        ] {
            let bundle = host.folder.join(format!("bundle-{name}"));
            fs::create_dir_all(&bundle).unwrap();
            fs::write(bundle.join("config.json"), engines.config(host, program.as_deref()).to_string())
                .unwrap();
            let hooks = host.folder.join(format!("hooks-{name}"));
            fs::create_dir_all(&hooks).unwrap();
            for stage in ["createRuntime", "poststop"].into_iter().filter(|_| program.is_some()) {
                let hook = json!({
                    "version": "1.0.0", "stages": [stage], "when": {"annotations": {"^io\\.underlay\\.networks$": ".*"}},
                    "hook": hook(host, program.as_deref(), stage),
                });
                fs::write(hooks.join(format!("{stage}.json")), hook.to_string()).unwrap();
            }
        }
        for runtime in ["crun", "runc"] {
            let mut trial = Command::new(runtime);
            trial.args(["run", "--bundle"]).arg(host.folder.join("bundle-none")).arg("trial");
            let outcome = trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            if outcome.is_ok_and(|status| status.success()) {
                engines.runtimes.push(runtime);
            }
        }
        if has("podman") {
            let network = format!(
                "podman network create -d macvlan --subnet 10.205.0.0/16 --gateway 10.205.0.1 -o parent={PARENT} bench"
            );
            Job::new(&network).run();
        }
        engines
    }

    /// What runc and crun start, with both hooks.
    fn config(&self, host: &Host, program: Option<&str>) -> Value {
        let of = |stage: &str| [hook(host, program, stage)];
        let hooks = match program {
            Some(_) => json!({"createRuntime": of("createRuntime"), "poststop": of("poststop")}),
            None => json!({}),
        };
        let mount = |at: &str, kind: &str| json!({"destination": at, "type": kind, "source": kind});
        json!({
            "ociVersion": "1.0.2",
            "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/", "env": ["PATH=/bin"]},
            "root": {"path": self.rootfs, "readonly": false},
            "mounts": [mount("/proc", "proc"), mount("/sys", "sysfs"), mount("/dev", "tmpfs")],
            "annotations": {"io.underlay.networks": "m4"},
            "hooks": hooks,
            "linux": {"namespaces": [{"type": "network"}, {"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]},
        })
    }

    /// One round of every engine.
    pub fn round(&self, host: &Host, number: usize, results: &mut Results) {
        for runtime in &self.runtimes {
            for hook in ["none", "empty", "ours"] {
                let bundle = host.folder.join(format!("bundle-{hook}"));
                let run = format!("{runtime} run --bundle {} {runtime}-{hook}-{number}", bundle.display());
                record(results, &format!("{runtime} run, hook: {hook}"), host.at_home(Job::new(&run)).run());
            }
        }
        if !has("podman") {
            return;
        }
        for (name, options) in [
            ("no network", ("none", "--network none")),
            ("our hook", ("ours", "--network none --annotation io.underlay.networks=m4")),
            ("netavark macvlan", ("none", "--network bench")),
        ] {
            let (hooks, options) = options;
            let hooks = host.folder.join(format!("hooks-{hooks}"));
            let run = format!(
                "podman --hooks-dir {} run --rm {options} --rootfs {} /bin/true",
                hooks.display(),
                self.rootfs.display()
            );
            record(results, &format!("podman run, {name}"), host.at_home(Job::new(&run)).run());
        }
    }
}

/// The hook `program` at `stage`, with where its files are: engines give hooks no environment of their own.
pub fn hook(host: &Host, program: Option<&str>, stage: &str) -> Value {
    let folders = host.at_home(Job::default()).env;
    let env: Vec<_> = folders.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({"path": program, "args": ["underlay", "hook", stage], "env": env})
}
