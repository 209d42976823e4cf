//! The tests that our documents cite exist, their commands are run, and their links lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::bed::run;
use crate::harness::container::repository;
use crate::harness::need::Need;
use crate::harness::test::Test;
use crate::repo::documented;

/// Takes the names of all other tests.
pub fn tests(names: BTreeSet<String>) -> Vec<Test> {
    let mut all = names.clone();
    all.extend(["docs::cited_tests_exist", "docs::tested_versions"].map(str::to_owned));
    vec![
        Test::new("docs::cited_tests_exist", &[], move || cited(&all)),
        Test::new("docs::links_lead_somewhere", &[], links),
        Test::new("docs::files_of_the_manual_page", &[], manual_page),
        Test::new("docs::commands_are_run", &[], move || documented::complete(&names, &files("md"))),
        Test::new("docs::tested_versions", &[Need::Installed], tested_versions),
    ]
}

/// The files that the manual page names are those of docs/reference/files.md, and those that the program has.
fn manual_page() {
    let page = fs::read_to_string(repository().join("packaging/generate/src/main.rs")).unwrap();
    let files = page.split("\"FILES\"").nth(1).unwrap().split("\"ANNOTATIONS\"").next().unwrap();
    let ours =
        |line: &&str| line.starts_with("(\"/run/underlay/") || line.starts_with("(\"/var/lib/underlay/");
    let documented = fs::read_to_string(repository().join("docs/reference/files.md")).unwrap();
    let names: Vec<_> = files
        .lines()
        .map(str::trim)
        .filter(ours)
        .flat_map(|line| line.split('"').nth(1).unwrap().split(", "))
        .map(|path| path.rsplit('/').next().unwrap())
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        assert!(documented.contains(&format!("`{name}`")), "docs/reference/files.md does not know {name}");
        let code = format!("\"{}\"", name.trim_end_matches(|c: char| c == '.' || c.is_ascii_digit()));
        let folder = repository().join("src/ledger");
        let knows = fs::read_dir(folder).unwrap().any(|entry| {
            let path = entry.unwrap().path();
            path.is_file() && fs::read_to_string(path).unwrap().contains(&code)
        });
        assert!(knows, "nothing in src/ledger names {name}");
    }
}

/// The table of tested versions says what is tested, in the column of this Debian.
fn tested_versions() {
    let text = fs::read_to_string(repository().join("docs/guides/engines.md")).unwrap();
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
        assert!(is, "docs/guides/engines.md says {name} {said}, and there is {version}");
    }
}

/// The files of the repository whose names end with `.end`, by their paths in it; not what is built, nor hidden folders but
/// `.github`.
fn files(end: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, end: &str, into: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && name != "target" && (name == ".github" || !name.starts_with('.')) {
                walk(&path, end, into);
            } else if path.extension().is_some_and(|extension| extension == end) && path.is_file() {
                into.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository(), end, &mut found);
    found.sort();
    found.iter().map(|path| path.strip_prefix(repository()).unwrap().to_owned()).collect()
}

fn cited(names: &BTreeSet<String>) {
    let units = unit_tests();
    assert!(units.len() > 250, "only {} unit tests were found", units.len());
    let wrong = |document: &PathBuf| {
        let wrong = wrong_citations(&fs::read_to_string(repository().join(document)).unwrap(), names, &units);
        wrong.into_iter().map(|citation| format!("{}: {citation}", document.display())).collect::<Vec<_>>()
    };
    let documents = files("md");
    assert!(documents.len() > 25, "{documents:?}");
    let wrong: Vec<_> = documents.iter().flat_map(wrong).collect();
    assert!(wrong.is_empty(), "these are cited, and there are no such tests:\n{}", wrong.join("\n"));
}

/// The code spans that look like names of tests and are none.
fn wrong_citations(text: &str, names: &BTreeSet<String>, units: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    // Without blocks of code, whose fences are three of what code spans have one of.
    let prose: Vec<_> = text.split("```").step_by(2).collect();
    let prose = prose.join("\n");
    let spans = prose.split('`').skip(1).step_by(2).zip(prose.split('`').skip(2).step_by(2));
    for (citation, after) in spans.filter(|(citation, _)| is_citation(citation)) {
        let exists = if after.trim_start().starts_with("(unit)") {
            units.iter().any(|unit| ends_with(unit, citation))
        } else {
            let drivers = ["macvlan", "ipvlan"].map(|driver| citation.replace("{driver}", driver));
            drivers.iter().all(|name| match name.split_once('*') {
                Some((start, end)) => {
                    names.iter().any(|known| known.starts_with(start) && known.ends_with(end))
                }
                None => names.contains(name),
            })
        };
        if !exists {
            wrong.push(citation.to_owned());
        }
    }
    wrong
}

/// `module::name`, with `*` and `{driver}`; but not `::/0`, nor addresses like `2001:db8::9`, `ff00::` and `fe80::1`.
fn is_citation(span: &str) -> bool {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-:*{}".contains(c);
    let Some((module, name)) = span.split_once("::") else { return false };
    let is_address = !module.is_empty() && module.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    let is_placeholder = module == "module";
    span.chars().all(is_name)
        && !is_address
        && !is_placeholder
        && module.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.is_empty()
}

/// Whether `citation` is the end of `name`: `shell::words_come_back` that of `escape::shell::words_come_back`.
fn ends_with(name: &str, citation: &str) -> bool {
    name.strip_suffix(citation).is_some_and(|start| start.is_empty() || start.ends_with("::"))
}

/// The names of the unit tests, as documents cite them: of the modules above `tests`, and of the function. The fuzz targets are
/// modules of the library too.
fn unit_tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for path in files("rs").into_iter().filter(|path| path.starts_with("src") || path.starts_with("fuzz")) {
        let module = path.with_extension("");
        let parts: Vec<_> = module.iter().map(|part| part.to_str().unwrap()).collect();
        let left_out = ["src", "targets", "mod", "lib", "main", "tests"];
        let parts = parts.into_iter().filter(|part| !left_out.contains(part));
        let module: String = parts.map(|part| format!("{part}::")).collect();
        let code = fs::read_to_string(repository().join(&path)).unwrap();
        for after in code.split("#[test]").skip(1) {
            let Some(function) = after.split("fn ").nth(1).and_then(|text| text.split('(').next()) else {
                continue;
            };
            names.insert(format!("{module}{function}"));
        }
    }
    names
}

/// Each link of a document to another file of the repository leads to a file, and to a heading of it.
fn links() {
    let documents = files("md");
    let text = |document: &Path| fs::read_to_string(repository().join(document)).unwrap();
    let anchors: BTreeMap<_, _> =
        documents.iter().map(|document| (document.clone(), anchors(&text(document)))).collect();
    let mut dangling = Vec::new();
    for document in &documents {
        let text = text(document);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.contains([' ', '\n', '`'])) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => document.clone(),
                _ => flattened(&document.parent().unwrap().join(file)),
            };
            let leads = match anchors.get(&file) {
                Some(anchors) => anchor.is_empty() || anchors.contains(anchor),
                None => anchor.is_empty() && repository().join(&file).exists(),
            };
            if !leads {
                dangling.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(dangling.is_empty(), "links that lead nowhere:\n{}", dangling.join("\n"));
}

/// A path without `..`.
fn flattened(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for part in path {
        if part == ".." {
            flat.pop();
        } else {
            flat.push(part);
        }
    }
    flat
}

/// What leads to the headings of a document, as GitHub makes it of them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| {
        let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        // A link's text counts, its target does not.
        let heading = heading.split("](").next().unwrap_or_default().to_owned();
        heading.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    headings.map(anchor).collect()
}
