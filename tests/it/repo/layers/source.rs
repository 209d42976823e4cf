//! The files under src, and what each of them names: words and paths of its code, without comments and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module by its names from the crate on; none for lib.rs.
type Module = Vec<String>;

/// One file.
pub struct Source {
    /// Its path in src.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Its words and signs.
    pub tokens: Vec<String>,
    /// The paths it names, as they are written, with what stands in braces.
    pub paths: Vec<Vec<String>>,
    module: Module,
    /// What is known elsewhere by a name of this module: the name, and the path of what it is.
    exports: Vec<(String, Vec<String>)>,
}

impl Source {
    fn read(src: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(src).unwrap().display().to_string();
        let text = fs::read_to_string(path).unwrap();
        let mut module: Module = name.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod") || name == "lib.rs" {
            module.pop();
        }
        let tokens = without_tests(tokens(&text));
        let (mut paths, mut exports) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            if token == "use" {
                let mut found = Vec::new();
                let begin = at;
                at = tree(&tokens, at + 1, &[], &mut found);
                // What a folder shows of its own files: whoever uses it is followed there.
                let is_export = begin > 0 && (tokens[begin - 1] == "pub" || tokens[begin - 1] == ")");
                for (path, known_as) in found {
                    let is_own = !matches!(path[0].as_str(), "crate" | "super");
                    if is_export && is_own && name.ends_with("mod.rs") {
                        exports.push((known_as, path));
                    } else {
                        paths.push(path);
                    }
                }
            } else if is_word(token) && tokens.get(at + 1).is_some_and(|next| next == "::") {
                let begin = at;
                let mut path = vec![token.clone()];
                while tokens.get(at + 1).is_some_and(|next| next == "::")
                    && tokens.get(at + 2).is_some_and(|next| is_word(next))
                {
                    path.push(tokens[at + 2].clone());
                    at += 2;
                }
                // `pub(in crate::cli)` says who may use it.
                if begin < 2 || tokens[begin - 2..begin] != ["(", "in"] {
                    paths.push(path);
                }
                at += 1;
            } else {
                at += 1;
            }
        }
        Self { name, text, tokens, paths, module, exports }
    }

    /// The folder it lies in, or what it is called where it lies in none.
    pub fn folder(&self) -> &str {
        self.module.first().map_or("lib", String::as_str)
    }

    /// Whether it names `words`, one behind the other.
    pub fn names(&self, words: &str) -> bool {
        let words: Vec<_> = words.split("::").collect();
        self.paths.iter().any(|path| path.windows(words.len()).any(|part| part == words))
    }
}

/// All files of the crate but for those that hold tests alone.
pub fn sources(src: &Path) -> Vec<Source> {
    let mut files = Vec::new();
    list(src, &mut files);
    files.sort();
    files.retain(|path| !path.ends_with("tests.rs"));
    files.iter().map(|path| Source::read(src, path)).collect()
}

/// All files of a folder and of those in it.
pub fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list(&path, files) } else { files.push(path) }
    }
}

/// Which files each file uses, by their places in `sources`.
pub fn uses(sources: &[Source]) -> Vec<BTreeSet<usize>> {
    let modules: BTreeMap<_, _> =
        sources.iter().enumerate().map(|(at, source)| (source.module.as_slice(), at)).collect();
    let used = |source: &Source| {
        let absolute = source.paths.iter().filter_map(|path| absolute(&modules, &source.module, path));
        absolute.map(|path| resolve(sources, &modules, &path)).collect()
    };
    let mut all: Vec<BTreeSet<usize>> = sources.iter().map(used).collect();
    all.iter_mut().enumerate().for_each(|(at, used)| {
        used.remove(&at);
    });
    all
}

/// The path from the crate on, if what `path` says in `module` is of this crate.
fn absolute(modules: &BTreeMap<&[String], usize>, module: &[String], path: &[String]) -> Option<Vec<String>> {
    let supers = path.iter().take_while(|word| *word == "super").count();
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "super" => Some([&module[..module.len() - supers], &path[supers..]].concat()),
        // A file of the folder, as its mod.rs calls it.
        _ if modules.contains_key(&[module, &path[..1]].concat()[..]) => Some([module, path].concat()),
        _ => None,
    }
}

/// The file that has what `path` names.
fn resolve(sources: &[Source], modules: &BTreeMap<&[String], usize>, path: &[String]) -> usize {
    let length = (0..=path.len()).rev().find(|&length| modules.contains_key(&path[..length])).unwrap();
    let (module, rest) = path.split_at(length);
    let at = modules[module];
    let Some((word, rest)) = rest.split_first() else { return at };
    match sources[at].exports.iter().find(|(known_as, _)| known_as == word) {
        Some((_, what)) => resolve(sources, modules, &[module, what, rest].concat()),
        None => at,
    }
}

/// Reads what stands behind `use`, or one item of its braces, with `before` in front: each path with the name it is given.
/// Answers where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    before: &[String],
    found: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        match tokens[at].as_str() {
            "::" => at += 1,
            "{" => {
                while tokens[at] != "}" {
                    at = tree(tokens, at + 1, &path, found);
                }
                return at + 1;
            }
            "," | ";" | "}" => break,
            "as" => {
                found.push((path, tokens[at + 1].clone()));
                return at + 2;
            }
            "self" => at += 1,
            word => {
                path.push(word.to_owned());
                at += 1;
            }
        }
    }
    if path.len() > before.len() || tokens[at - 1] == "self" {
        let last = path.last().cloned().unwrap_or_default();
        found.push((path, last));
    }
    at
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens without `#[cfg(test)] mod …`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    const TESTS: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let (mut code, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if !tokens[at..].iter().take(TESTS.len()).eq(TESTS.iter()) {
            code.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0;
        loop {
            match tokens[at].as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(tokens[at - 1].as_str(), ";" | "}") {
                break;
            }
        }
    }
    code
}

/// The words and signs of Rust text; comments are left out, and so is what literals say.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = literal(rest) {
            tokens.push("\"\"".to_owned());
            length
        } else if first.is_whitespace() {
            first.len_utf8()
        } else {
            let is_part = |c: char| c.is_alphanumeric() || c == '_';
            let length = match rest.find(|c| !is_part(c)).unwrap_or(rest.len()) {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            tokens.push(rest[..length].to_owned());
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the string or character is that `text` begins with, if it begins with one.
fn literal(text: &str) -> Option<usize> {
    let kind = text.find(|c: char| !matches!(c, 'b' | 'r' | 'c')).filter(|&kind| kind <= 2)?;
    let (prefix, body) = text.split_at(kind);
    if prefix.contains('r') {
        let hashes = body.find(|c| c != '#')?;
        let body = body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(kind + hashes + 1 + body.find(&end)? + end.len());
    }
    let quote = body.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        // A lifetime.
        if quote == '\'' && at > 1 && c != '\'' && !body[1..].starts_with('\\') {
            return None;
        }
        if c == quote && !escaped {
            return Some(kind + at + 1);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}
