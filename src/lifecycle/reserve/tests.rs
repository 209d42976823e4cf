//! Reservations on a disk: what is written, and what is left of one that fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::ipam::tests::{SMALL, applicant, holder, wanted};
use crate::ledger::tests::Disk;

/// Every file and link below `folder` except the lock, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.retain(|path| !path.ends_with("lock"));
    found.sort();
    found
}

impl Disk {
    fn files(&self) -> Vec<PathBuf> {
        files(self.folder.path())
    }

    fn reserve(&self, id: &str, text: &str) -> Result<Record> {
        let (container, holder) = (id.parse().unwrap(), holder(7));
        let applicant = applicant(&container, &holder);
        let locked = self.store.lock(Duration::from_secs(5)).unwrap();
        reserve(&locked, applicant, &[wanted(text, SMALL, 2)], &HostFacts::default(), |_| true)
    }

    fn preview(&self, text: &str, lives: bool) -> Result<String> {
        let (container, holder) = ("next".parse().unwrap(), holder(8));
        let applicant = applicant(&container, &holder);
        let wanted = [wanted(text, SMALL, 2)];
        let (record, _) = preview(&self.store, applicant, &wanted, &HostFacts::default(), |_| lives)?;
        Ok(record.attachments()[0].addresses[0].to_string())
    }
}

#[test]
fn all_of_it_or_nothing() {
    let disk = Disk::new();
    let web = disk.reserve("web", "lan:ip=10.0.0.9").unwrap();
    assert_eq!(disk.store.record(&web.container).unwrap().as_ref(), Some(&web));
    let path = |claim: &str| disk.store.lease_path(2, claim.parse().unwrap());
    assert_eq!(fs::canonicalize(path("10.0.0.9")).unwrap(), disk.store.record_path(&web.container));
    let before = disk.files();
    let error = disk.reserve("next", "lan:ip=10.0.0.8,ip=10.0.0.9").unwrap_err().to_string();
    assert_eq!(error, "address 10.0.0.9 of network lan is held by container web");
    assert_eq!(disk.files(), before);
    // The record cannot be written, because a folder has its name.
    fs::create_dir_all(disk.store.record_path(&"next".parse().unwrap()).join("below")).unwrap();
    assert!(disk.reserve("next", "lan").is_err());
    assert_eq!(disk.files(), before);
    // A lease that no record lists is told by its file.
    disk.store.lock(Duration::ZERO).unwrap().lease(2, "10.0.0.5".parse().unwrap(), Path::new("x")).unwrap();
    let error = disk.reserve("other", "lan:ip=10.0.0.5").unwrap_err().to_string();
    assert_eq!(error, format!("address 10.0.0.5 of network lan is held by {}", path("10.0.0.5").display()));
}

/// Only hints stand in the file of a segment.
#[test]
fn a_segment_that_cannot_be_read() {
    let disk = Disk::new();
    disk.reserve("web", "lan").unwrap();
    fs::write(disk.store.segment_path(2), "{").unwrap();
    assert_eq!(disk.preview("lan", true).unwrap(), "10.0.0.3/24");
    assert_eq!(fs::read(disk.store.segment_path(2)).unwrap(), b"{", "a dry run writes nothing");
    disk.reserve("next", "lan").unwrap();
    let last = disk.store.segment(2).unwrap().unwrap().cursors.into_values().next();
    assert_eq!(last, Some("10.0.0.3".parse().unwrap()));
}

#[test]
fn a_dry_run_writes_nothing() {
    let disk = Disk::new();
    assert_eq!(disk.preview("lan", true).unwrap(), "10.0.0.2/24");
    assert_eq!(disk.files(), Vec::<PathBuf>::new());
    for id in ["one", "two", "three", "four"] {
        disk.reserve(id, "lan").unwrap();
    }
    let before = disk.files();
    // The dead give way where there is no room, as in an attach.
    assert_eq!(disk.preview("lan", true).unwrap_err().kind(), Kind::Exhausted);
    assert_eq!(disk.preview("lan", false).unwrap(), "10.0.0.2/24");
    assert_eq!(disk.preview("lan:ip=10.0.0.4", false).unwrap(), "10.0.0.4/24");
    assert_eq!(disk.files(), before);
}
