//! Reads the files of other programs: settings of engines, and their hook folders. They are below a root folder, so that
//! a system that is mounted elsewhere can be examined.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::diagnose::docker::{self, Docker};
use crate::diagnose::hooks::{self, Engine, HookFile};
use crate::diagnose::permissions::Access;
use crate::diagnose::programs::{self, Program};
use crate::fs::file::{self, Trust};
use crate::fs::trust;

/// No file that is looked at is larger.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Where our CDI file is.
const CDI: &str = "/etc/cdi/underlay.json";

/// The programs of engines that read hook files, and their settings, the last of which count: files, and folders of
/// `.conf` files (containers.conf(5), crio.conf(5)).
const ENGINES: [(&str, &[&str], &[&str]); 2] = [
    (
        "podman",
        &["/usr/bin/podman", "/usr/local/bin/podman"],
        &[
            "/usr/share/containers/containers.conf",
            "/etc/containers/containers.conf",
            "/etc/containers/containers.conf.d",
        ],
    ),
    ("CRI-O", &["/usr/bin/crio", "/usr/local/bin/crio"], &["/etc/crio/crio.conf", "/etc/crio/crio.conf.d"]),
];

/// The files of a system.
#[derive(Clone, Debug)]
pub(crate) struct System {
    root: PathBuf,
}

impl System {
    /// That of the folder `root`.
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the file that the system calls `path` is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn shown(&self, path: &str) -> String {
        self.path(path).to_string_lossy().into_owned()
    }

    fn text(path: &Path) -> Option<String> {
        let text = file::read(path, LIMIT, Trust::Anybody).ok()??;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The engines that are installed and read hook files.
    pub(crate) fn engines(&self) -> Vec<Engine> {
        let mut engines = Vec::new();
        for (name, programs, settings) in ENGINES {
            if !programs.iter().any(|program| self.has(program)) {
                continue;
            }
            let files = settings.iter().flat_map(|path| {
                let path = self.path(path);
                if path.is_dir() { names_in(&path, ".conf") } else { vec![path] }
            });
            let texts: Vec<_> = files.filter_map(|path| Self::text(&path)).collect();
            let folders = hooks::folders(texts.iter().map(String::as_str));
            let folders = folders.iter().map(|folder| self.shown(folder)).collect();
            engines.push(Engine { name, folders });
        }
        engines
    }

    /// The hook files in the folders of `engines`.
    pub(crate) fn hook_files(engines: &[Engine]) -> Vec<HookFile> {
        let mut files: Vec<HookFile> = Vec::new();
        for folder in engines.iter().flat_map(|engine| &engine.folders) {
            // Two engines read the same.
            if files.iter().any(|file| file.folder == *folder) {
                continue;
            }
            for path in names_in(Path::new(folder), ".json") {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let text = Self::text(&path).unwrap_or_default();
                files.push(HookFile { folder: folder.clone(), name, text });
            }
        }
        files
    }

    /// What there is of the program that a hook calls.
    pub(crate) fn program(&self, path: &str) -> Program {
        match fs::metadata(self.path(path)) {
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => {
                self.of_others(path).map_or(Program::Runs, |(part, access)| Program::OfOthers(part, access))
            }
            Ok(_) => Program::NotExecutable,
            Err(_) => Program::Missing,
        }
    }

    /// What others than root can write of the way to the file `path`, below the root folder.
    fn of_others(&self, path: &str) -> Option<(PathBuf, Access)> {
        let path = self.path(path);
        // Where it leads to on this system; links of another would lead into this one.
        let path = if self.is_this_one() { fs::canonicalize(&path).unwrap_or(path) } else { path };
        let mut parts = path
            .ancestors()
            .filter(|part| part.starts_with(&self.root) && (self.is_this_one() || *part != self.root));
        let of_others = |part: &Path| {
            let metadata = fs::symlink_metadata(part).ok()?;
            trust::check_part(part, &metadata).err()?;
            Some((part.to_owned(), Access { uid: metadata.uid(), mode: metadata.mode() }))
        };
        parts.find_map(of_others)
    }

    /// The programs that our CDI file names, with where that is.
    pub(crate) fn cdi_programs(&self) -> (String, Vec<String>) {
        let text = Self::text(&self.path(CDI)).unwrap_or_default();
        (self.shown(CDI), programs::of_cdi(&text))
    }

    /// Whether it is that of this program: of another nothing is run.
    fn is_this_one(&self) -> bool {
        self.root == Path::new("/")
    }

    /// What is known of Docker; nothing, if it is not installed. Settings that it cannot read it does not start with.
    pub(crate) fn docker(&self) -> Option<Docker> {
        let programs = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];
        let program = programs.iter().find(|path| self.has(path))?;
        let is_asked = self.is_this_one() && self.program(program) == Program::Runs;
        let mut command = Command::new(program);
        command.arg("--version").env_clear().stdin(Stdio::null());
        let output = is_asked.then(|| command.output().ok()).flatten();
        let path = "/etc/docker/daemon.json";
        Some(Docker {
            version: output.and_then(|output| docker::version(&String::from_utf8_lossy(&output.stdout))),
            path: self.shown(path),
            settings: serde_json::from_str(&Self::text(&self.path(path)).unwrap_or_default())
                .unwrap_or_default(),
            cdi_path: self.shown(CDI),
            has_cdi_file: self.has(CDI),
        })
    }
}

/// Who may do what with `path`, if there is such a file or folder.
pub(crate) fn access(path: &Path) -> Option<Access> {
    fs::metadata(path).ok().map(|metadata| Access { uid: metadata.uid(), mode: metadata.mode() })
}

/// Whether `path`, or where it will be, is on a tmpfs; nothing, if that cannot be told.
pub(crate) fn is_on_tmpfs(path: &Path) -> Option<bool> {
    let there = path.ancestors().find(|path| path.exists())?;
    Some(statfs(there).ok()?.filesystem_type() == TMPFS_MAGIC)
}

/// The files of `folder` whose names end in `ending`, in the order of these.
fn names_in(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    files.sort();
    files
}
