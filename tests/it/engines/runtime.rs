//! `underlay-runtime`: called as runc is, it gives containers that ask for networks the hooks.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::bed::{Bed, Outcome, outcome, run, write_program};
use crate::harness::container::Engine::{self, Crun, Runc};
use crate::harness::need::Need;
use crate::harness::test::{Named, Test};

pub fn tests() -> Vec<Test> {
    use Need::Macvlan;
    let all: [Named; 8] = [
        ("attaches::runc", &[Macvlan, Need::Engine(Runc)], || attaches(Runc)),
        ("attaches::crun", &[Macvlan, Need::Engine(Crun)], || attaches(Crun)),
        ("networks_of_the_runtime", &[Macvlan, Need::Engine(Runc)], of_the_runtime),
        ("transparent", &[Macvlan], transparent),
        ("adds_once", &[Macvlan], adds_once),
        ("says_why_not", &[Macvlan], says_why_not),
        ("follows_nobody", &[], follows_nobody),
        ("nothing_of_the_environment", &[], nothing_of_the_environment),
    ];
    all.map(|(name, needs, run)| Test::new(format!("runtime::{name}"), needs, run)).into()
}

fn use_runtime(bed: &Bed, path: &str) {
    bed.configure("underlay.json", &json!({"runtime": path}).to_string());
}

fn attaches(engine: Engine) {
    let bed = Bed::with_pub_net("macvlan", "");
    let path = run("which", &[engine.program()]).unwrap();
    use_runtime(&bed, path.trim());
    let first = bed.container(engine, "first").networks("pub_net:ip=172.16.86.10").wrapped().start().unwrap();
    let second = bed.container(engine, "second").networks("pub_net").wrapped().start().unwrap();
    assert_eq!(first.addresses("eth0"), ["172.16.86.10/24"]);
    assert!(second.reaches("172.16.86.10") && second.reaches("172.16.86.1"));
    let other = bed.container(engine, "other").annotation("org.example", "x").wrapped().start().unwrap();
    assert!(other.links().is_empty());
    let config = fs::read_to_string(other.bundle.join("config.json")).unwrap();
    assert!(!config.contains("underlay"), "whoever does not ask is left alone: {config}");
    let state =
        outcome(bed.wrapper().arg("--root").arg(bed.path(engine.program())).args(["state", &first.id]), b"");
    assert_eq!(serde_json::from_str::<Value>(&state.stdout).unwrap()["pid"], first.pid, "{state:?}");
    // The real runtime knows the hooks of its containers.
    first.stop();
    second.stop();
    bed.assert_nothing_held();
    let error = bed.container(engine, "refused").networks("none").wrapped().start().map(drop).unwrap_err();
    if engine == Runc {
        assert!(error.contains("network none does not exist"), "{error}");
    }
    assert!(bed.log().contains("network none does not exist"), "{}", bed.log());
    bed.assert_nothing_held();
}

/// What daemon.json has as `runtimeArgs`.
fn of_the_runtime() {
    let bed = Bed::with_pub_net("macvlan", "");
    let script = bed.path("lan");
    write_program(
        &script,
        &format!("#!/bin/sh\nexec {} --network pub_net \"$@\"\n", bed.wrapper_script().display()),
    );
    let web = bed.container(Runc, "web").wrapped_by(&script).start().unwrap();
    assert_eq!(web.addresses("eth0"), ["172.16.86.2/24"]);
    let both =
        bed.container(Runc, "both").networks("pub_net:ip=172.16.86.10").wrapped_by(&script).start().unwrap();
    assert_eq!((both.links(), both.addresses("eth0")), (vec!["eth0".into()], vec!["172.16.86.10/24".into()]));
    web.stop();
    both.stop();
    bed.assert_nothing_held();
}

/// A bed whose real runtime prints its arguments, one after the other.
fn echoing() -> Bed {
    let bed = Bed::new();
    let path = bed.path("echo");
    fs::write(&path, "#!/bin/sh\nprintf '%s|' \"$@\"\necho here >&2\nexit 7\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    use_runtime(&bed, path.to_str().unwrap());
    bed
}

fn call(bed: &Bed, arguments: &[&str]) -> Outcome {
    outcome(bed.wrapper().current_dir(bed.path("")).args(arguments), b"")
}

fn transparent() {
    let bed = echoing();
    for arguments in [
        &[][..],
        &["--version"],
        &["features"],
        &["--root", "/r", "kill", "--all", "id", "9"],
        &["create", "--bundle", "/nowhere", "id"],
        &["run", "--bundle", "", "two words", "--"],
        &["--no-such-option", "create"],
    ] {
        let done = call(&bed, arguments);
        let words: String = arguments.iter().map(|word| format!("{word}|")).collect();
        let words = if arguments.is_empty() { "|".to_owned() } else { words };
        assert_eq!((done.code, done.stdout, done.stderr.as_str()), (7, words, "here\n"), "{arguments:?}");
    }
    // A config.json that is none, or of a container that asks for nothing, stays as it is.
    for config in ["", "{", "[1]", r#"{ "hooks": 5 }"#, r#"{"annotations": {"a": "b"}}"#] {
        fs::write(bed.path("config.json"), config).unwrap();
        assert_eq!(call(&bed, &["create", "id"]).code, 7);
        assert_eq!(fs::read_to_string(bed.path("config.json")).unwrap(), config);
    }
    assert!(!bed.path("run").exists(), "nothing is written");
    // Settings that cannot be read: the runtime that there is, as if none were set.
    bed.configure("underlay.json", "{");
    let done = call(&bed, &["--version"]);
    assert_ne!(done.code, 7);
    assert!(done.stderr.contains("underlay.json"), "{done:?}");
}

fn adds_once() {
    let bed = echoing();
    let path = bed.path("bundle/config.json");
    fs::create_dir(bed.path("bundle")).unwrap();
    let config = r#"{"x":1e400,"annotations":{"io.underlay.networks":"pub_net"},"ociVersion":"1.0.2"}"#;
    fs::write(&path, config).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let bundle = bed.path("bundle").display().to_string();
    let forms: [&[&str]; 4] = [
        &["delete", "--bundle", &bundle],
        &["--log", "/dev/null", "create", "--bundle", &bundle, "id"],
        &["run", &format!("-b={bundle}"), "id"],
        &["create", "-b", "bundle", "id"],
    ];
    for (round, arguments) in forms.into_iter().enumerate() {
        assert_eq!(call(&bed, arguments).code, 7);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""x":1e400"#), "{text}");
        assert_eq!(text.matches("createRuntime\"]").count(), usize::from(round > 0), "{arguments:?}: {text}");
    }
    let text = fs::read_to_string(&path).unwrap();
    let args = text.split("\"args\":").nth(1).unwrap();
    assert!(
        args.starts_with(&format!(r#"["underlay","--config-dir","{}","#, bed.path("etc").display())),
        "{args}"
    );
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(fs::read_dir(&bundle).unwrap().count(), 1, "no temporary file is left");
}

/// It fails for those alone that ask, and where the caller looks for it.
fn says_why_not() {
    let bed = echoing();
    let log = bed.path("log.json");
    let with_log = ["--log", log.to_str().unwrap(), "--log-format", "json", "create", "id"];
    let said = || {
        let text = fs::read_to_string(&log).unwrap();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["level"], "error");
        last["msg"].as_str().unwrap().to_owned()
    };
    let config = |hooks: &str| {
        let annotations = r#"{"io.underlay.networks": "pub_net"}"#;
        let text = format!(r#"{{"annotations": {annotations}, "hooks": {hooks}}}"#);
        fs::write(bed.path("config.json"), text).unwrap();
    };
    config("5");
    let done = call(&bed, &with_log);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    assert!(done.stderr.contains("config.json: hooks: invalid type: integer `5`"), "{done:?}");
    assert!(said().starts_with("underlay-runtime: ") && said().contains("hooks: invalid type"), "{}", said());
    assert!(bed.log().contains("underlay-runtime failed: "), "{}", bed.log());

    config("{}");
    fs::rename(bed.path("config.json"), bed.path("real.json")).unwrap();
    symlink("real.json", bed.path("config.json")).unwrap();
    let done = call(&bed, &["create", "id"]);
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    assert!(done.stderr.contains("./config.json is a link to another file, or was replaced"), "{done:?}");
    fs::rename(bed.path("real.json"), bed.path("config.json")).unwrap();

    bed.configure("underlay.json", r#"{"lock_timeout_ms": "x"}"#);
    let done = call(&bed, &["create", "id"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("lock_timeout_ms"), "{done:?}");

    for runtime in [bed.path("none"), bed.path("itself")] {
        let _ = symlink(bed.wrapper_path(), bed.path("itself"));
        use_runtime(&bed, runtime.to_str().unwrap());
        let done = call(&bed, &["--version"]);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
        let sentence = format!("underlay.json: runtime: there is no OCI runtime {}", runtime.display());
        assert!(done.stderr.contains(&sentence), "{done:?}");
    }
    let done = call(&bed, &["--network", "a/b", "create"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("--network: network name"), "{done:?}");
    // Under its own name it is no runtime.
    let plain = outcome(Command::new(crate::harness::bed::binary()).args(["create", "id"]), b"");
    assert_eq!(plain.code, 2);
}

/// A bundle that another user can write: nothing of root's is written, nor given to that user, whatever is put there.
fn follows_nobody() {
    let bed = echoing();
    let bundle = bed.path("bundle");
    let victim = bed.path("victim");
    let config = r#"{"annotations":{"io.underlay.networks":"pub_net"}}"#;
    let attack = |names: &[&str]| {
        let _ = fs::remove_dir_all(&bundle);
        fs::create_dir(&bundle).unwrap();
        chown(&bundle, Some(1000), Some(1000)).unwrap();
        fs::write(&victim, config).unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(bundle.join("config.json"), config).unwrap();
        fs::set_permissions(bundle.join("config.json"), fs::Permissions::from_mode(0o666)).unwrap();
        chown(bundle.join("config.json"), Some(1000), Some(1000)).unwrap();
        for name in names {
            let _ = fs::remove_file(bundle.join(name));
            symlink(&victim, bundle.join(name)).unwrap();
        }
        let log = bundle.join("log.json").display().to_string();
        let done = call(
            &bed,
            &[
                "--log",
                &log,
                "--log-format",
                "json",
                "create",
                "--bundle",
                &bundle.display().to_string(),
                "web",
            ],
        );
        let metadata = fs::symlink_metadata(&victim).unwrap();
        let is = (metadata.uid(), metadata.mode() & 0o7777, fs::read_to_string(&victim).unwrap());
        assert_eq!(is, (0, 0o600, config.to_owned()), "{names:?}: {done:?}");
        done
    };
    // What a version before would have written to first.
    let done = attack(&["#config.json~"]);
    assert_eq!(done.code, 7, "{done:?}");
    let metadata = fs::symlink_metadata(bundle.join("config.json")).unwrap();
    assert!(metadata.is_file() && metadata.uid() == 1000 && metadata.mode() & 0o7777 == 0o666);
    assert!(fs::read_to_string(bundle.join("config.json")).unwrap().contains("createRuntime"));
    let done = attack(&["config.json"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("is a link to another file"), "{done:?}");
    // Where it says why not.
    let done = attack(&["config.json", "log.json"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("warning: cannot write "), "{done:?}");
}

/// The environment is the caller's: what the engine was started with leads nowhere.
fn nothing_of_the_environment() {
    let bed = echoing();
    let other = Bed::new();
    use_runtime(&other, "/bin/false");
    let mut command = bed.wrapper();
    command.envs(other.variables()).arg("--version");
    let done = outcome(&mut command, b"");
    assert_eq!((done.code, done.stdout.as_str()), (7, "--version|"), "{done:?}");
}
