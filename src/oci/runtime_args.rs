//! The command line of an OCI runtime: that of runc(8), which crun(1) and youki share.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::net::name::NetworkName;

/// Global options whose value may be the next argument.
const VALUED: [&str; 7] = ["root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager"];

/// Our options, which no runtime has. They stand before those of the runtime.
const OWN: [&str; 5] = ["network", "config-dir", "state-dir", "data-dir", "cdi-dir"];

/// A call of a runtime.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    /// The networks of every container of this runtime, which our options name.
    pub networks: Vec<NetworkName>,
    /// Our folders, which our options name: the option without dashes, and the path.
    pub folders: Vec<(&'a str, &'a Path)>,
    /// The runtime's own arguments.
    pub arguments: &'a [OsString],
    /// The folder of config.json, if a container is created.
    pub bundle: Option<&'a Path>,
    /// The file in which the caller looks for errors.
    pub log: Option<&'a Path>,
    /// Whether the caller wants errors as JSON.
    pub json: bool,
}

impl<'a> Call<'a> {
    /// Reads the arguments, without the program's name. Unknown ones are left to the runtime.
    ///
    /// # Errors
    /// When one of our `--network` is not the name of a network.
    pub(crate) fn read(mut arguments: &'a [OsString]) -> Result<Self> {
        let (mut networks, mut folders) = (Vec::new(), Vec::new());
        while let Some((option, value, rest)) = own_option(arguments) {
            match option {
                "network" => {
                    let name = value.to_str().unwrap_or_default();
                    networks.push(name.parse().map_err(|error: Error| error.within("--network"))?);
                }
                folder => folders.push((folder, Path::new(value))),
            }
            arguments = rest;
        }
        let (mut log, mut json) = (None, false);
        let mut words = arguments.iter().map(OsString::as_os_str);
        let command = loop {
            let Some(word) = words.next() else { break None };
            let Some((name, value)) = option(word) else { break Some(word) };
            if !VALUED.contains(&name) {
                continue;
            }
            let value = value.or_else(|| words.next());
            match name {
                "log" => log = value.map(Path::new),
                "log-format" => json = value == Some(OsStr::new("json")),
                _ => {}
            }
        };
        let creates = command.is_some_and(|command| command == "create" || command == "run");
        let bundle = creates.then(|| bundle(words).unwrap_or(Path::new(".")));
        Ok(Self { networks, folders, arguments, bundle, log, json })
    }
}

/// The first argument, if it is one of our options, with its value and the arguments behind it.
fn own_option(arguments: &[OsString]) -> Option<(&str, &OsStr, &[OsString])> {
    let (first, rest) = arguments.split_first()?;
    let (name, value) = option(first).filter(|(name, _)| OWN.contains(name))?;
    match value {
        Some(value) => Some((name, value, rest)),
        None => rest.split_first().map(|(value, rest)| (name, value.as_os_str(), rest)),
    }
}

/// The bundle among the words after `create` or `run`. As for the runtimes, the last one counts.
fn bundle<'a>(mut words: impl Iterator<Item = &'a OsStr>) -> Option<&'a Path> {
    let mut found = None;
    while let Some(word) = words.next().filter(|&word| word != "--") {
        match option(word) {
            Some(("b" | "bundle", value)) => found = value.or_else(|| words.next()).map(Path::new),
            // crun takes -bDIR.
            Some(_) => {
                if let Some(value) = word.as_bytes().strip_prefix(b"-b") {
                    found = Some(Path::new(OsStr::from_bytes(value)));
                }
            }
            None => {}
        }
    }
    found
}

/// The name of an option with one dash or two (runc's parser takes both), and its value after `=`.
fn option(word: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let word = word.as_bytes().strip_prefix(b"-")?;
    let word = word.strip_prefix(b"-").unwrap_or(word);
    let mut halves = word.splitn(2, |&byte| byte == b'=');
    let name = halves.next().filter(|name| !name.is_empty())?;
    // A name that is not UTF-8 is not one of ours.
    Some((std::str::from_utf8(name).unwrap_or("?"), halves.next().map(OsStr::from_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn bundles() {
        for (line, bundle) in [
            // containerd's shim, Docker, podman's conmon
            (
                "--root /run/runc/moby --log /b/log.json --log-format json --systemd-cgroup create --bundle /b \
                 --pid-file /b/init.pid id",
                Some("/b"),
            ),
            ("--log-level warn --cgroup-manager systemd create --bundle /b --pid-file /p id", Some("/b")),
            ("create -b /b id", Some("/b")),
            ("create --b /b id", Some("/b")),
            ("create -bundle /b id", Some("/b")),
            ("create --bundle=/b id", Some("/b")),
            ("create -b=/b id", Some("/b")),
            ("create --bundle=/a=b id", Some("/a=b")),
            ("create -b/b id", Some("/b")),
            ("run id --bundle /b", Some("/b")),
            ("create --bundle /a --bundle /b id", Some("/b")),
            ("run --detach id", Some(".")),
            ("create id -- --bundle /b", Some(".")),
            ("create", Some(".")),
            ("create --bundle", Some(".")),
            ("--root create run -b create id", Some("create")),
            ("--root=create state id", None),
            ("--root create state id", None),
            ("--debug --bundle create delete id", Some(".")),
            ("delete --force create", None),
            ("state --bundle /b id", None),
            ("restore --bundle /b id", None),
            ("--version", None),
            ("--log", None),
            ("- create", None),
            ("", None),
        ] {
            let words = words(line);
            let call = Call::read(&words).unwrap();
            assert_eq!((call.bundle, call.arguments), (bundle.map(Path::new), &words[..]), "{line}");
        }
    }

    #[test]
    fn names_that_are_no_text() {
        let odd = OsString::from_encoded(b"/b\xff");
        let words = [OsString::from("create"), "--bundle".into(), odd.clone(), "id".into()];
        assert_eq!(Call::read(&words).unwrap().bundle, Some(Path::new(&odd)));
        let words = [OsString::from_encoded(b"--\xff"), "run".into()];
        assert_eq!(Call::read(&words).unwrap().bundle, Some(Path::new(".")));
    }

    #[test]
    fn folders_in_front() {
        let all = words(
            "--config-dir /c --network lan --state-dir=/s --config-dir /d --root /r --data-dir /x create id",
        );
        let call = Call::read(&all).unwrap();
        let folders: Vec<_> =
            call.folders.iter().map(|(name, path)| (*name, path.to_str().unwrap())).collect();
        assert_eq!(folders, [("config-dir", "/c"), ("state-dir", "/s"), ("config-dir", "/d")]);
        assert_eq!(call.arguments, &words("--root /r --data-dir /x create id")[..]);
        assert_eq!(call.networks.len(), 1);
    }

    trait FromEncoded {
        fn from_encoded(bytes: &[u8]) -> OsString;
    }

    impl FromEncoded for OsString {
        fn from_encoded(bytes: &[u8]) -> OsString {
            OsStr::from_bytes(bytes).to_owned()
        }
    }

    #[test]
    fn logs() {
        for (line, log, json) in [
            ("--log /l --log-format json create id", Some("/l"), true),
            ("--log=/l --log-format=text create id", Some("/l"), false),
            ("--log-format json create --log /l id", None, true),
            ("create id", None, false),
        ] {
            let words = words(line);
            let call = Call::read(&words).unwrap();
            assert_eq!((call.log, call.json), (log.map(Path::new), json), "{line}");
        }
    }

    #[test]
    fn networks_in_front() {
        for (line, networks, rest) in [
            ("--network lan --network=wan --root /r create id", "lan wan", "--root /r create id"),
            ("--network lan", "lan", ""),
            ("--network", "", "--network"),
            ("--root /r --network lan create id", "", "--root /r --network lan create id"),
        ] {
            let all = words(line);
            let call = Call::read(&all).unwrap();
            let names: Vec<_> = call.networks.iter().map(NetworkName::as_str).collect();
            assert_eq!((names.join(" ").as_str(), call.arguments), (networks, &words(rest)[..]), "{line}");
        }
        let error = Call::read(&words("--network a/b create id")).unwrap_err().to_string();
        assert_eq!(error, "--network: network name \"a/b\" is not usable");
    }
}
