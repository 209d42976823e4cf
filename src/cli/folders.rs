//! The folders of our files: how a command line names them, and how hooks get to know them.

use std::env;
use std::path::{self, Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::ledger::Store;
use crate::oci::hooks::Program;

/// The environment variables that name our folders, and the default folders.
const CONFIG_DIR: (&str, &str) = ("UNDERLAY_CONFIG_DIR", "/etc/underlay");
const STATE_DIR: (&str, &str) = ("UNDERLAY_STATE_DIR", "/run/underlay");
const DATA_DIR: (&str, &str) = ("UNDERLAY_DATA_DIR", "/var/lib/underlay");
const CDI_DIR: (&str, &str) = ("UNDERLAY_CDI_DIR", "/etc/cdi");

/// The folders of our files. A hook takes them from its arguments alone: its environment is the runtime's, and may be different
/// at the next stage.
#[derive(Debug, Default, Args)]
pub(super) struct Folders {
    /// Folder of networks and settings [env: UNDERLAY_CONFIG_DIR] [default: /etc/underlay]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) config_dir: Option<PathBuf>,
    /// Folder of the ledger [env: UNDERLAY_STATE_DIR] [default: /run/underlay]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) state_dir: Option<PathBuf>,
    /// Folder of the addresses that identities had [env: UNDERLAY_DATA_DIR] [default: /var/lib/underlay]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) data_dir: Option<PathBuf>,
    /// Folder of the CDI file, which makes networks devices of Docker and podman [env: UNDERLAY_CDI_DIR] [default: /etc/cdi, or
    /// cdi in another config dir]
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) cdi_dir: Option<PathBuf>,
}

impl Folders {
    /// Returns the store of these folders. `named` returns the value of a variable, for a folder that no argument names.
    pub(super) fn store(self, named: impl Fn(&str) -> Option<PathBuf>) -> Store {
        let folder = |argument: Option<PathBuf>, (variable, default): (&str, &str)| {
            argument.or_else(|| named(variable)).unwrap_or_else(|| default.into())
        };
        let config_dir = folder(self.config_dir, CONFIG_DIR);
        // With networks of another folder, the file in /etc/cdi would lose those of the default folder.
        let is_default = config_dir == Path::new(CONFIG_DIR.1);
        let cdi_dir = if is_default { CDI_DIR.1.into() } else { config_dir.join("cdi") };
        let cdi_dir = self.cdi_dir.or_else(|| named(CDI_DIR.0)).unwrap_or(cdi_dir);
        Store::new(config_dir, folder(self.state_dir, STATE_DIR), folder(self.data_dir, DATA_DIR), cdi_dir)
    }
}

/// Returns the folder that the environment names.
pub(super) fn of_environment(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// Returns how hooks call this program, with the folders of `store`.
pub(super) fn program(store: &Store) -> Result<Program> {
    let path = env::current_exe().map_err(|error| Error::io("read", "/proc/self/exe".as_ref(), &error))?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            Error::input(format!("{} is not text, and cannot be an argument of hooks", path.display()))
                .hint("use a path of UTF-8 characters")
        })
    };
    text(&path)?;
    let names = [("--config-dir", CONFIG_DIR), ("--state-dir", STATE_DIR), ("--data-dir", DATA_DIR)];
    let mut options = Vec::new();
    for (folder, (option, (_, default))) in store.dirs().into_iter().zip(names) {
        if folder != Path::new(default) {
            let folder = path::absolute(folder).map_err(|error| Error::io("find", folder, &error))?;
            options.extend([option.to_owned(), text(&folder)?]);
        }
    }
    Ok(Program { path, options })
}
