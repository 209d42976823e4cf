//! The `host` link is made once, trusted only if it is private, and updated on another machine.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::sync::Barrier;

use nix::unistd::geteuid;

use super::*;
use crate::net::link::eth0;
use crate::net::seal::KEY;

const TIMEOUT: Duration = Duration::from_secs(5);
const KEY_TEXT: &str = "000102030405060708090a0b0c0d0e0f";
const ID: &str = "5e5ec2f6c1f54e9fa0a1d7a3a0f1c2b4";
const OTHER: &str = "0e5ec2f6c1f54e9fa0a1d7a3a0f1c2b4";

fn store(folder: &Path) -> Store {
    Store::new("/none".into(), folder.join("run"), folder.join("data"), "/none".into())
}

/// The key of a newly opened store, made if there is none.
fn made(folder: &Path) -> Result<[u8; KEY]> {
    store(folder).key(TIMEOUT).map(Key::bytes)
}

fn known(folder: &Path) -> Result<Option<[u8; KEY]>> {
    Ok(store(folder).known_key()?.map(Key::bytes))
}

/// Returns a folder whose data dir has a link with this text.
fn written(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    file::make_folder(&folder.path().join("data"), 0o700).unwrap();
    symlink(text, folder.path().join("data/host")).unwrap();
    folder
}

fn text(folder: &Path) -> String {
    fs::read_link(folder.join("data/host")).unwrap().to_str().unwrap().to_owned()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn texts() {
    for text in [format!("{KEY_TEXT}-{ID}"), format!("{KEY_TEXT}-")] {
        assert_eq!(Host::of_text(&text).unwrap().text(), text);
    }
    for nonsense in nonsense() {
        assert!(Host::of_text(&nonsense).is_none(), "{nonsense}");
    }
}

fn nonsense() -> Vec<String> {
    let zero = "0".repeat(32);
    vec![
        "/etc/passwd".to_owned(),
        KEY_TEXT.to_owned(),
        format!("-{ID}"),
        format!("{}-{ID}", &KEY_TEXT[1..]),
        format!("{KEY_TEXT}0-{ID}"),
        format!("{KEY_TEXT}-{}", &ID[1..]),
        format!("{KEY_TEXT}-{ID}0"),
        format!("{KEY_TEXT}-{ID}-{ID}"),
        format!("{KEY_TEXT}-{zero}"),
        format!("+{}-{ID}", &KEY_TEXT[1..]),
        format!("{KEY_TEXT}-{ID}\n"),
        "f".repeat(4000),
    ]
}

#[test]
fn machine_ids() {
    let id = machine_id_of(ID).unwrap();
    assert_eq!((id[0], id[15]), (0x5e, 0xb4));
    for text in ["", "uninitialized", &ID[1..], "+e5ec2f6c1f54e9fa0a1d7a3a0f1c2b4", &"0".repeat(32)] {
        assert_eq!(machine_id_of(text), None, "{text}");
    }
}

#[test]
fn made_once_for_root_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    assert_eq!(known(path).unwrap(), None);
    assert_eq!(names(path), [""; 0], "reading makes nothing");
    let first = made(path).unwrap();
    assert_ne!(first, [0; KEY]);
    assert_eq!(fs::metadata(path.join("data")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!((made(path).unwrap(), known(path).unwrap()), (first, Some(first)));
    // The loss of ledger and affinity does not matter.
    fs::remove_dir_all(path.join("run")).unwrap();
    store(path).forget_affinities().unwrap();
    assert_eq!(made(path).unwrap(), first);
    assert_eq!(names(&path.join("data")), ["host"], "and nothing else is left");
    // Left by a killed process.
    let left = path.join("data/#host~1-0");
    symlink("half", &left).unwrap();
    assert_eq!(store(path).lock(TIMEOUT).unwrap().left_over().unwrap(), [left], "gc removes it");
    fs::remove_dir_all(path.join("data")).unwrap();
    assert_ne!(made(path).unwrap(), first, "another, random one");
}

/// An invalid link or another kind of file is no key, and is replaced.
#[test]
fn nonsense_is_replaced() {
    for nonsense in nonsense() {
        let folder = written(&nonsense);
        assert_eq!(known(folder.path()).unwrap(), None, "{nonsense}");
        assert_eq!(text(folder.path()), nonsense, "reading changes nothing");
        let key = made(folder.path()).unwrap();
        assert_eq!(known(folder.path()).unwrap(), Some(key), "{nonsense}");
    }
    let others: [fn(&Path); 3] = [
        |path| fs::write(path, format!("{KEY_TEXT}-{ID}")).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
    ];
    for (number, put) in others.into_iter().enumerate() {
        let folder = written("x");
        let path = folder.path().join("data/host");
        fs::remove_file(&path).unwrap();
        put(&path);
        assert_eq!(known(folder.path()).unwrap(), None, "{number}");
        let key = made(folder.path()).unwrap();
        assert_eq!(known(folder.path()).unwrap(), Some(key), "{number}");
    }
    // Except a folder with content.
    let folder = written("x");
    fs::remove_file(folder.path().join("data/host")).unwrap();
    fs::create_dir_all(folder.path().join("data/host/full")).unwrap();
    assert!(made(folder.path()).is_err());
    assert!(folder.path().join("data/host/full").exists());
}

#[test]
fn concurrent_processes_have_the_same_key() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let (path, barrier) = (folder.path(), Barrier::new(8));
        let come = || {
            barrier.wait();
            made(path).unwrap()
        };
        let keys: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(come)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert_eq!(known(path).unwrap(), Some(keys[0]));
    }
}

/// A link that others can read or write is neither trusted nor replaced. The error says how to fix it.
#[test]
fn no_secret() {
    let folder = written(&format!("{KEY_TEXT}-{ID}"));
    let (path, data) = (folder.path(), folder.path().join("data"));
    assert_eq!(store(path).machine_key(&eth0()), machine_id_of(ID).unwrap());
    let is_refused = |why: &str| {
        let error = known(path).unwrap_err();
        assert!(error.to_string().contains(why) && made(path).is_err(), "{error}");
        assert!(error.hint_text().unwrap().contains("chmod 700 "), "{error:?}");
        assert_ne!(store(path).machine_key(&eth0()), machine_id_of(ID).unwrap(), "{error}");
        assert_eq!(text(path), format!("{KEY_TEXT}-{ID}"));
        let store = store(path);
        let locked = store.lock(TIMEOUT).unwrap();
        assert!(!locked.follow(machine_id_of(OTHER), false).unwrap());
    };
    for mode in [0o755, 0o750, 0o701, 0o710, 0o704, 0o777, 0o1777] {
        set_mode(&data, mode);
        is_refused(&format!("by others than root (mode {mode:04o})"));
    }
    set_mode(&data, 0o700);
    assert!(known(path).unwrap().is_some());
    if geteuid().is_root() {
        chown(&data, Some(1000), None).unwrap();
        is_refused("belongs to user 1000, not to root");
    }
}

/// Without a machine id in the link, the parent's MAC address is used, even if /etc has a machine id.
#[test]
fn without_a_machine_id() {
    let folder = written(&format!("{KEY_TEXT}-"));
    let parent = Link { mac: Some("02:00:00:00:00:09".parse().unwrap()), ..eth0() };
    let mut expected = [0; 16];
    (expected[0], expected[5]) = (2, 9);
    assert_eq!(store(folder.path()).machine_key(&parent), expected);
}

/// A cloned image gets another machine id, keeps the key, and loses the affinity of identities.
#[test]
fn another_machine() {
    for before in [ID, ""] {
        let folder = written(&format!("{KEY_TEXT}-{before}"));
        let (path, store) = (folder.path(), store(folder.path()));
        let affinity = store.affinity_path(None, &"web".parse().unwrap()).unwrap();
        store.write_affinity(&affinity, "lan:ip=10.0.0.9").unwrap();
        let locked = store.lock(TIMEOUT).unwrap();
        let follow = |now: &str, dry_run| locked.follow(machine_id_of(now), dry_run).unwrap();
        assert!(!follow("", false) && !follow(before, false), "the same machine, as far as known");
        assert!(follow(OTHER, true));
        assert_eq!(text(path), format!("{KEY_TEXT}-{before}"));
        assert!(store.affinity(&affinity).unwrap().is_some());
        assert!(follow(OTHER, false) && !follow(OTHER, false));
        assert_eq!(text(path), format!("{KEY_TEXT}-{OTHER}"));
        assert_eq!(names(&path.join("data")), ["host"]);
        assert_eq!(self::store(path).machine_key(&eth0()), machine_id_of(OTHER).unwrap());
    }
    // A missing link is not made.
    let folder = tempfile::tempdir().unwrap();
    assert!(!store(folder.path()).lock(TIMEOUT).unwrap().follow(machine_id_of(ID), false).unwrap());
    assert!(!folder.path().join("data").exists());
}
