//! The folders that our files are in: how a call names them, and how hooks are told of them.

use std::env;
use std::path::{self, Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::ledger::Store;
use crate::oci::hooks::Program;

/// The variables that name our folders, and where those are without them.
const CONFIG_DIR: (&str, &str) = ("UNDERLAY_CONFIG_DIR", "/etc/underlay");
const STATE_DIR: (&str, &str) = ("UNDERLAY_STATE_DIR", "/run/underlay");
const DATA_DIR: (&str, &str) = ("UNDERLAY_DATA_DIR", "/var/lib/underlay");
const CDI_DIR: (&str, &str) = ("UNDERLAY_CDI_DIR", "/etc/cdi");

/// Where our files are. In a hook nothing but its arguments says so: its environment is the runtime's, and may be another
/// at the next stage.
#[derive(Debug, Default, Args)]
pub(super) struct Folders {
    /// Where networks and settings are defined [env: UNDERLAY_CONFIG_DIR] [default: /etc/underlay]
    #[arg(long, value_name = "DIR")]
    pub(super) config_dir: Option<PathBuf>,
    /// Where the ledger is kept [env: UNDERLAY_STATE_DIR] [default: /run/underlay]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Where it is remembered which address an identity had [env: UNDERLAY_DATA_DIR] [default: /var/lib/underlay]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Where Docker and podman are told that networks are devices [env: UNDERLAY_CDI_DIR] [default: /etc/cdi, or cdi in
    /// another config dir]
    #[arg(long, value_name = "DIR")]
    pub(super) cdi_dir: Option<PathBuf>,
}

impl Folders {
    /// The store that lies there; `named` tells the value of a variable, where no argument names the folder. Networks that
    /// are defined elsewhere are no devices of this machine's engines, whose file would lose those of the default folder.
    pub(super) fn store(self, named: impl Fn(&str) -> Option<PathBuf>) -> Store {
        let folder = |argument: Option<PathBuf>, (variable, default): (&str, &str)| {
            argument.or_else(|| named(variable)).unwrap_or_else(|| PathBuf::from(default))
        };
        let config_dir = folder(self.config_dir, CONFIG_DIR);
        let cdi_dir = self.cdi_dir.or_else(|| named(CDI_DIR.0));
        let cdi_dir = cdi_dir.unwrap_or_else(|| match config_dir == Path::new(CONFIG_DIR.1) {
            true => PathBuf::from(CDI_DIR.1),
            false => config_dir.join("cdi"),
        });
        Store::new(config_dir, folder(self.state_dir, STATE_DIR), folder(self.data_dir, DATA_DIR), cdi_dir)
    }
}

/// The folder that the environment names.
pub(super) fn of_environment(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// How hooks are to call this program, so that they use the folders of `store`.
pub(super) fn program(store: &Store) -> Result<Program> {
    let path = env::current_exe().map_err(|error| Error::io("read", "/proc/self/exe".as_ref(), &error))?;
    let text = |path: &Path| {
        path.to_str().map(str::to_owned).ok_or_else(|| {
            Error::input(format!("{} is no text, as the arguments of hooks are", path.display()))
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
