//! What the agent looks after, and which process it is.
//!
//! `agent/MILLISECONDS-PID` is a symbolic link to the record of a container that was attached at that time since the boot, by
//! that process. One system call makes it, and no two attaches make the same. systemd starts the agent as long as there is
//! one (`PathExistsGlob=`). `agent.json` names the process of the agent.

use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lease_link::named;
use super::{Locked, Store, entries, remove, write_state};
use crate::error::{Error, Result};
use crate::fs::file;
use crate::ledger::record::{Holder, VERSION};
use crate::ledger::segment_hints::since_boot;
use crate::net::name::ContainerId;

/// A container that was attached, and that the agent has not finished with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Task {
    /// When it was attached, since the boot.
    pub since: Duration,
    pub container: ContainerId,
    path: PathBuf,
}

/// The process of the agent.
#[derive(Serialize, Deserialize)]
struct Running {
    version: u32,
    holder: Holder,
}

fn target(container: &ContainerId) -> PathBuf {
    PathBuf::from(format!("../containers/{container}.json"))
}

impl Store {
    /// Returns the folder of the tasks.
    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.state_dir.join("agent")
    }

    /// Leaves the agent word that `container` has been attached.
    pub(crate) fn call_agent(&self, container: &ContainerId) -> Result<()> {
        let folder = self.agent_dir();
        let path = folder.join(format!("{}-{}", since_boot().as_millis(), std::process::id()));
        let call = || symlink(target(container), &path);
        let called = call().or_else(|error| match error.kind() {
            io::ErrorKind::NotFound if file::make_subfolder(&folder, 0o700).is_ok() => call(),
            _ => Err(error),
        });
        called.map_err(|error| Error::io("create", &path, &error))
    }

    /// Returns the tasks of the agent, oldest first. What is no task is removed: nothing but the agent reads the folder.
    pub(crate) fn tasks(&self) -> Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for path in entries(&self.agent_dir())? {
            let since = path.file_name().and_then(|name| name.to_str()?.split_once('-')?.0.parse().ok());
            match (since, named(&path, target)?) {
                (Some(since), Some(container)) => {
                    tasks.push(Task { since: Duration::from_millis(since), container, path });
                }
                _ => file::remove(&path)?,
            }
        }
        tasks.sort();
        Ok(tasks)
    }

    pub(crate) fn end_task(&self, task: &Task) -> Result<()> {
        remove(&task.path)
    }

    /// Returns the process that was the agent last, if there was one since the boot.
    pub(crate) fn agent(&self) -> Result<Option<Holder>> {
        Ok(self.read_state::<Running>(&self.agent_path())?.map(|running| running.holder))
    }

    fn agent_path(&self) -> PathBuf {
        self.state_dir.join("agent.json")
    }
}

impl Locked<'_> {
    /// Notes that `holder` is the agent.
    pub(crate) fn write_agent(&self, holder: &Holder) -> Result<()> {
        let running = Running { version: VERSION, holder: holder.clone() };
        write_state(&self.store.agent_path(), &running)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tasks_of_attaches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let store = Store::new("/none".into(), path.clone(), "/none".into(), "/none".into());
        assert_eq!(store.tasks().unwrap(), []);
        fs::create_dir(&path).unwrap();
        let id: ContainerId = "web".parse().unwrap();
        let before = since_boot();
        store.call_agent(&id).unwrap();
        let [task] = &store.tasks().unwrap()[..] else { panic!("there is one") };
        assert_eq!(task.container, id);
        assert!(task.since + Duration::from_millis(1) > before && task.since <= since_boot());
        fs::write(path.join("agent/no-task"), "").unwrap();
        symlink("../containers/web.json", path.join("agent/x-1")).unwrap();
        symlink("/etc/passwd", path.join("agent/5-1")).unwrap();
        assert_eq!(store.tasks().unwrap(), std::slice::from_ref(task));
        store.end_task(task).unwrap();
        store.end_task(task).unwrap();
        assert_eq!(fs::read_dir(path.join("agent")).unwrap().count(), 0);
    }
}
