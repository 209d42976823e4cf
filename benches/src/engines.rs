//! Whole containers: what an engine takes with our hook, with an empty program in its place, with none, and with its own
//! network.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cases::{Results, record};
use crate::host::{Host, PARENT, has};
use crate::image::Image;
use crate::measure::Job;

/// The hook files' hooks, of `program`: stage and hook.
pub fn hooks(program: &str) -> Vec<(&'static str, Value)> {
    let hook = |stage| json!({"path": program, "args": ["underlay", "hook", stage], "timeout": 30});
    ["createRuntime", "poststop"].map(|stage| (stage, hook(stage))).into()
}

/// Hooks as in config.json.
pub fn by_stage(hooks: &[(&str, Value)]) -> Value {
    Value::Object(hooks.iter().map(|(stage, hook)| ((*stage).to_owned(), json!([hook]))).collect())
}

/// The engines of this machine, with bundles and folders of hooks.
pub struct Engines {
    pub image: Image,
    /// Those that work here.
    runtimes: Vec<&'static str>,
}

impl Engines {
    pub fn new(host: &Host) -> Self {
        let image = Image::new(&host.folder);
        for (name, program) in [
            ("none", None),
            ("empty", Some(host.program("empty"))),
            ("ours", Some(host.underlay.display().to_string())),
        ] {
            let hooks = program.map(|program| hooks(&program)).unwrap_or_default();
            let annotations = json!({"io.underlay.networks": "m4"});
            let bundle = host.folder.join(format!("bundle-{name}"));
            image.bundle(&bundle, "/bin/true", &annotations, &by_stage(&hooks));
            let folder = host.folder.join(format!("hooks-{name}"));
            fs::create_dir_all(&folder).unwrap();
            for (stage, hook) in hooks {
                let file = json!({
                    "version": "1.0.0", "stages": [stage], "when": {"annotations": {"^io\\.underlay\\.networks$": ".*"}},
                    "hook": hook,
                });
                fs::write(folder.join(format!("{stage}.json")), file.to_string()).unwrap();
            }
        }
        let works = |runtime: &&str| {
            let mut trial = Command::new(runtime);
            trial.args(["run", "--bundle"]).arg(host.folder.join("bundle-none")).arg("trial");
            let outcome = trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            outcome.is_ok_and(|status| status.success())
        };
        if has("podman") {
            let network = format!(
                "podman network create -d macvlan --subnet 10.205.0.0/16 --gateway 10.205.0.1 -o parent={PARENT} bench"
            );
            Job::new(&network).run();
        }
        Self { runtimes: ["crun", "runc"].into_iter().filter(works).collect(), image }
    }

    /// One round of every engine.
    pub fn round(&self, host: &Host, number: usize, results: &mut Results) {
        for runtime in &self.runtimes {
            for hook in ["none", "empty", "ours"] {
                let bundle = host.folder.join(format!("bundle-{hook}"));
                let run = format!("{runtime} run --bundle {} {runtime}-{hook}-{number}", bundle.display());
                record(results, &format!("{runtime} run, hook: {hook}"), Job::new(&run).run());
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
                self.image.rootfs.display()
            );
            record(results, &format!("podman run, {name}"), Job::new(&run).run());
        }
    }
}
