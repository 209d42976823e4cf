//! The tests that our documents cite exist, and their commands are run.

use std::collections::BTreeSet;
use std::fs;

use crate::Test;
use crate::bed::run;
use crate::container::repository;
use crate::documented;
use crate::need::Need;

/// Takes the names of all other tests.
pub fn tests(names: BTreeSet<String>) -> Vec<Test> {
    let all = names.clone();
    vec![
        Test::new("docs::cited_tests_exist", &[], move || cited(&names)),
        Test::new("docs::commands_are_run", &[], move || documented::complete(&all)),
        Test::new("docs::tested_versions", &[Need::Installed], tested_versions),
    ]
}

/// The table of tested versions says what is tested, in the column of this Debian.
fn tested_versions() {
    let text = fs::read_to_string(repository().join("docs/engines.md")).unwrap();
    let rows = text.split("## Tested versions").nth(1).unwrap().split("\n## ").next().unwrap();
    let release = fs::read_to_string("/etc/os-release").unwrap();
    let column = match () {
        () if release.contains("bookworm") => 2,
        () if release.contains("trixie") => 3,
        () if release.contains("forky") => 4,
        () => panic!("{release}"),
    };
    for (name, program, flag) in [
        ("podman", "podman", "--version"),
        ("crun", "crun", "--version"),
        ("runc", "runc", "--version"),
        ("containerd", "containerd", "--version"),
        ("Docker", "dockerd", "--version"),
    ] {
        let row = rows.lines().find(|row| row.starts_with(&format!("| {name} |"))).unwrap();
        let said = row.split('|').nth(column).unwrap().trim();
        let version = run(program, &[flag]).unwrap();
        let is = version.split_whitespace().any(|word| word.starts_with(&format!("{said}.")) || word == said);
        assert!(is, "docs/engines.md says {name} {said}, and there is {version}");
    }
}

fn cited(names: &BTreeSet<String>) {
    for (document, at_least) in [
        ("docs/docker.md", 100),
        ("ARCHITECTURE.md", 30),
        ("docs/comparison.md", 30),
        ("docs/docker-engine.md", 4),
        ("docs/security.md", 30),
    ] {
        let count = cited_in(document, names);
        assert!(count >= at_least, "only {count} citations were found in {document}");
    }
}

fn cited_in(document: &str, names: &BTreeSet<String>) -> usize {
    let text = fs::read_to_string(repository().join(document)).unwrap();
    let mut count = 0;
    let mut pieces = text.split('`').skip(1).step_by(2).zip(text.split('`').skip(2).step_by(2));
    // A table's cells are on one line, and so are its code spans.
    for (citation, after) in &mut pieces {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_:*{}".contains(c);
        if !citation.contains("::") || !citation.chars().all(is_name) || citation.starts_with(':') {
            continue;
        }
        // Addresses like 2001:db8:: have digits in front.
        if citation.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }
        count += 1;
        if after.starts_with(" (unit)") {
            assert!(is_unit_test(citation), "there is no unit test {citation}");
        } else {
            for name in ["macvlan", "ipvlan"].map(|driver| citation.replace("{driver}", driver)) {
                let exists = match name.split_once('*') {
                    Some((start, end)) => {
                        names.iter().any(|known| known.starts_with(start) && known.ends_with(end))
                    }
                    None => names.contains(&name),
                };
                assert!(exists, "there is no test {name}");
            }
        }
    }
    count
}

/// `subnet::hosts` is `fn hosts` in src/subnet.rs or, where the tests have a file of their own, src/subnet/tests.rs.
fn is_unit_test(citation: &str) -> bool {
    let Some((module, name)) = citation.rsplit_once("::") else { return false };
    let module = repository().join("src").join(module.replace("::", "/"));
    [module.with_extension("rs"), module.join("tests.rs")]
        .iter()
        .any(|path| fs::read_to_string(path).is_ok_and(|code| code.contains(&format!("fn {name}("))))
}
