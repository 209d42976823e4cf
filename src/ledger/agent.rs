//! What the agent has to do, and the lock of the agent.
//!
//! `agent/MILLISECONDS-PID` is a symbolic link to the record of a container that was attached, or has ended, at that time since
//! the boot: that process says so. `agent/MILLISECONDS-PID-COUNT`, if its addresses were announced so often. One system call
//! makes it, and no two hooks make the same. systemd starts the agent as long as there is one (`PathExistsGlob=`).
//!
//! The process that has `agent.lock` locked is the agent. A file with its pid would say less: a pid means another process in
//! another pid namespace, and the file outlives the process.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use super::lease_link::named;
use super::lock::culprit;
use super::lock_file::{LockFile, Refused, is_held};
use super::{Store, entries, remove};
use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ledger::segment_hints::since_boot;
use crate::net::name::ContainerId;

/// The first lock file of the agent.
const LOCK: &str = "agent.lock";

/// A container that was attached or has ended, and that the agent has not finished with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Task {
    /// When that was, since the boot.
    pub since: Duration,
    pub container: ContainerId,
    /// How often its addresses were announced: at first by the attach.
    pub sent: u32,
    path: PathBuf,
}

/// Held by the process that is the agent; released when it ends.
pub(crate) struct AgentLock(LockFile);

impl AgentLock {
    /// Returns false if the state folder was removed, so that another process can be the agent as well.
    pub(crate) fn is_current(&self) -> bool {
        self.0.is_current().unwrap_or_default()
    }
}

impl Task {
    /// Whether its container has not been released.
    pub(crate) fn has_record(&self) -> bool {
        self.path.exists()
    }
}

/// What is in the folder of the tasks.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// The oldest first.
    pub tasks: Vec<Task>,
    /// What is no task.
    pub others: Vec<PathBuf>,
}

/// Returns when the container of a task of this name was attached, since the boot, and how often it was announced.
fn times(name: &str) -> Option<(Duration, u32)> {
    let mut parts = name.split('-');
    let since = Duration::from_millis(parts.next()?.parse().ok()?);
    parts.next()?;
    Some((since, parts.next().map_or(Ok(1), str::parse).ok()?))
}

fn target(container: &ContainerId) -> PathBuf {
    PathBuf::from(format!("../containers/{container}.json"))
}

impl Store {
    /// Returns the folder of the tasks.
    pub(crate) fn agent_dir(&self) -> PathBuf {
        self.state_dir.join("agent")
    }

    /// Leaves the agent word that `container` has been attached, or has ended: its record says which.
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

    /// Returns what is in the folder of the tasks.
    pub(crate) fn tasks(&self) -> Result<Tasks> {
        let mut found = Tasks::default();
        for path in entries(&self.agent_dir())? {
            match (path.file_name().and_then(|name| times(name.to_str()?)), named(&path, target)?) {
                (Some((since, sent)), Some(container)) => {
                    found.tasks.push(Task { since, container, sent, path });
                }
                _ => found.others.push(path),
            }
        }
        found.tasks.sort();
        Ok(found)
    }

    /// Removes the tasks of containers that have no record, and what is no task.
    pub(crate) fn trim_tasks(&self) -> Result<()> {
        let Tasks { tasks, others } = self.tasks()?;
        let gone = tasks.iter().filter(|task| !task.has_record()).map(|task| &task.path);
        gone.chain(&others).try_for_each(|path| file::remove(path))
    }

    /// Notes that the addresses of `task` were announced `sent` times. Returns what the task is then.
    pub(crate) fn note_sent(&self, task: &Task, sent: u32) -> Result<Task> {
        let name = task.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let kept: Vec<_> = name.split('-').take(2).collect();
        let path = task.path.with_file_name(format!("{}-{sent}", kept.join("-")));
        fs::rename(&task.path, &path).map_err(|error| Error::io("rename", &task.path, &error))?;
        Ok(Task { sent, path, ..task.clone() })
    }

    pub(crate) fn end_task(&self, task: &Task) -> Result<()> {
        remove(&task.path)
    }

    /// Returns true if an agent runs.
    pub(crate) fn has_agent(&self) -> Result<bool> {
        let path = self.state_dir.join(LOCK);
        is_held(&path).map_err(|error| Error::io("look for a lock of", &path, &error))
    }

    /// Notes that there is no agent for leases. Returns false if that was noted before, and no agent has run since.
    pub(crate) fn note_no_agent(&self) -> Result<bool> {
        let path = self.no_agent_path();
        match file::make(&path, 0o600) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            made => made.map(|_| true).map_err(|error| Error::io("create", &path, &error)),
        }
    }

    fn no_agent_path(&self) -> PathBuf {
        self.state_dir.join("agent.missing")
    }

    /// Makes this process the agent.
    ///
    /// # Errors
    /// [`Kind::Taken`] if another process is it.
    pub(crate) fn lock_agent(&self) -> Result<AgentLock> {
        match self.lock_file(LOCK, None, Duration::ZERO)? {
            Ok(file) => {
                remove(&self.no_agent_path())?;
                Ok(AgentLock(file))
            }
            Err(Refused::Busy(file)) => {
                let text = format!("the agent is running already: {}", culprit(&[file]));
                let hint = "one is enough: it serves all containers of this host";
                Err(Error::new(Kind::Taken, text).hint(hint))
            }
            Err(Refused::UsedUp(dead)) => Err(self.used_up(LOCK, &dead)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_of_attaches() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let store = Store::new("/none".into(), path.clone(), "/none".into(), "/none".into());
        assert_eq!(store.tasks().unwrap().tasks, []);
        fs::create_dir(&path).unwrap();
        let id: ContainerId = "web".parse().unwrap();
        let before = since_boot();
        store.call_agent(&id).unwrap();
        let tasks = || store.tasks().unwrap().tasks;
        let [task] = &tasks()[..] else { panic!("there is one") };
        assert_eq!(task.container, id);
        assert!(task.since + Duration::from_millis(1) > before && task.since <= since_boot());
        fs::create_dir(path.join("containers")).unwrap();
        fs::write(path.join("containers/web.json"), "").unwrap();
        fs::write(path.join("agent/no-task"), "").unwrap();
        symlink("../containers/web.json", path.join("agent/x-1")).unwrap();
        symlink("/etc/passwd", path.join("agent/5-1")).unwrap();
        symlink("../containers/gone.json", path.join("agent/5-2")).unwrap();
        assert_eq!((tasks().len(), store.tasks().unwrap().others.len()), (2, 3));
        store.trim_tasks().unwrap();
        assert_eq!(fs::read_dir(path.join("agent")).unwrap().count(), 1);
        assert_eq!(tasks(), std::slice::from_ref(task));
        let announced = store.note_sent(task, 2).unwrap();
        assert_eq!(tasks(), [Task { sent: 2, ..announced.clone() }]);
        let task = &store.note_sent(&announced, 3).unwrap();
        assert_eq!((task.since, task.sent, tasks().len()), (announced.since, 3, 1));
        store.end_task(task).unwrap();
        store.end_task(task).unwrap();
        assert_eq!(tasks(), []);
    }
}
