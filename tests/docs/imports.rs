//! Which files of a crate import each other in a circle, read from their tokens.
//!
//! # What it sees
//! Paths that begin with `crate`, `self`, `super`, a module below, or a name that the file imports. A name that a
//! module re-exports or imports is followed to the file that holds it. That a `mod.rs` declares or re-exports a file
//! does not count as an import; that it uses what it re-exports does. Code of tests does not count.
//!
//! Not seen: a method that another file implements for a type. No path leads there.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;

/// A module by its path from the crate's root: `["net", "tls"]`.
pub(crate) type Module = Vec<String>;

/// Modules that import each other, each circle sorted: its members are those that reach each other.
pub(crate) fn circles(sources: &BTreeMap<Module, String>) -> Vec<Vec<Module>> {
    let imports = imports(sources);
    let reached: BTreeMap<_, _> =
        imports.keys().map(|module| (module, reached_from(module, &imports))).collect();
    let circle_of = |module: &Module| {
        let meets = |other: &&Module| reached[*other].contains(module);
        Vec::from_iter(reached[module].iter().filter(meets).cloned())
    };
    let all: BTreeSet<_> = imports.keys().map(circle_of).filter(|circle| circle.len() > 1).collect();
    all.into_iter().collect()
}

/// What can be reached from a module over one import or more.
fn reached_from(module: &Module, imports: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<Module> {
    let mut reached = BTreeSet::new();
    let mut open = vec![module];
    while let Some(next) = open.pop() {
        open.extend(imports[next].iter().filter(|&to| reached.insert(to.clone())));
    }
    reached
}

/// What each module imports, modules of tests not among them.
fn imports(sources: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files: BTreeMap<_, _> =
        sources.iter().map(|(module, text)| (module.clone(), File::read(module, text))).collect();
    let tests: Vec<Module> = files.values().flat_map(|file| file.tests.clone()).collect();
    files.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
    let house = House { files };
    house.files.iter().map(|(module, file)| (module.clone(), house.imports_of(module, file))).collect()
}

/// One `use`, or one leaf of its tree.
struct Import {
    /// The module where it stands: the file's, or one inside of it.
    scope: Module,
    path: Vec<String>,
    /// What the name is here; `*` for all.
    name: String,
    is_public: bool,
}

/// What is read of one file.
#[derive(Default)]
struct File {
    uses: Vec<Import>,
    /// Paths outside of `use`, and where they stand.
    paths: Vec<(Module, Vec<String>)>,
    /// Names that stand outside of `use`.
    names: BTreeSet<String>,
    /// Names of items.
    items: BTreeSet<String>,
    /// Modules that are there for tests alone.
    tests: Vec<Module>,
}

impl File {
    fn read(module: &Module, text: &str) -> Self {
        let mut file = Self::default();
        let mut scope = module.clone();
        // Modules inside of the file, and how deep in braces each begins.
        let mut inside = Vec::new();
        let mut depth = 0;
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            if starts(rest, &["#", "[", "cfg", "(", "test", ")", "]"]) {
                let end = item_end(&rest[7..]);
                let item = &rest[7..7 + end];
                if let Some(i) = item.iter().position(|token| token == "mod") {
                    file.tests.push(joined(&scope, &item[i + 1..=i + 1]));
                }
                at += 7 + end;
                continue;
            }
            let mut taken = 1;
            match rest[0].as_str() {
                "use" => {
                    let tree = Vec::from_iter(rest[1..].iter().take_while(|token| *token != ";").cloned());
                    taken = tree.len() + 1;
                    let is_public = at > 0 && matches!(tokens[at - 1].as_str(), "pub" | ")");
                    for (path, name) in leaves(&tree) {
                        file.uses.push(Import { scope: scope.clone(), path, name, is_public });
                    }
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inside.last() == Some(&depth) {
                        inside.pop();
                        scope.pop();
                    }
                }
                "mod" if rest.get(2).is_some_and(|token| token == "{") => {
                    inside.push(depth);
                    scope.push(rest[1].clone());
                    depth += 1;
                    taken = 3;
                }
                "struct" | "enum" | "trait" | "type" | "const" | "static" | "fn" | "union" if depth == 0 => {
                    file.items.extend(rest.get(1).cloned());
                    taken = 2;
                }
                "macro_rules" if depth == 0 => file.items.extend(rest.get(2).cloned()),
                word if is_name(word) => {
                    file.names.insert(word.to_owned());
                    let mut path = vec![word.to_owned()];
                    while starts(&rest[taken..], &["::"])
                        && rest.get(taken + 1).is_some_and(|next| is_name(next))
                    {
                        path.push(rest[taken + 1].clone());
                        taken += 2;
                    }
                    // Behind `::` it is a path of another crate, or a name of a type; behind `(in` a visibility.
                    let is_behind =
                        |these: &[&str]| at >= these.len() && starts(&tokens[at - these.len()..], these);
                    if path.len() > 1 && !is_behind(&["::"]) && !is_behind(&["(", "in"]) {
                        file.paths.push((scope.clone(), path));
                    }
                }
                _ => {}
            }
            at += taken;
        }
        file
    }
}

/// All files together.
struct House {
    files: BTreeMap<Module, File>,
}

impl House {
    fn imports_of(&self, module: &Module, file: &File) -> BTreeSet<Module> {
        let is_used = |import: &&Import| match import.name.as_str() {
            _ if !import.is_public => true,
            "*" => self
                .resolve(&import.scope, &import.path, 0)
                .is_some_and(|from| !self.files[&from].items.is_disjoint(&file.names)),
            name => file.names.contains(name),
        };
        let used = file.uses.iter().filter(is_used).map(|import| (&import.scope, &import.path));
        let paths = file.paths.iter().map(|(scope, path)| (scope, path));
        let found = used.chain(paths).filter_map(|(scope, path)| self.resolve(scope, path, 0));
        found.filter(|found| found != module).collect()
    }

    /// The file that holds what `path` means in `scope`; none if that is of another crate, or local.
    fn resolve(&self, scope: &[String], path: &[String], depth: usize) -> Option<Module> {
        // An import that names itself, as `use http;` does.
        if depth > 8 {
            return None;
        }
        let mut at = scope.to_vec();
        let mut rest = path;
        match path[0].as_str() {
            "crate" => (at, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop();
                    rest = &rest[1..];
                }
            }
            _ if self.files.contains_key(&joined(scope, &path[..1])) => {}
            name => return self.imported(scope, name, &path[1..], depth),
        }
        while !rest.is_empty() && self.files.contains_key(&joined(&at, &rest[..1])) {
            at.push(rest[0].clone());
            rest = &rest[1..];
        }
        if let [name, behind @ ..] = rest
            && let Some(holder) = self.imported(&at, name, behind, depth)
        {
            return Some(holder);
        }
        // What stands in a module inside of a file stands in that file.
        while !at.is_empty() && !self.files.contains_key(&at) {
            at.pop();
        }
        (!at.is_empty()).then_some(at)
    }

    /// The file that holds `name`, which the module at `scope` imports.
    fn imported(&self, scope: &[String], name: &str, behind: &[String], depth: usize) -> Option<Module> {
        let ends = (0..=scope.len()).rev();
        let file = ends.map(|end| &scope[..end]).find_map(|module| self.files.get(module))?;
        let here = || file.uses.iter().filter(|import| import.scope == scope);
        if let Some(import) = here().find(|import| import.name == name) {
            let path: Vec<_> = import.path.iter().chain(behind).cloned().collect();
            return self.resolve(scope, &path, depth + 1);
        }
        here().filter(|import| import.name == "*").find_map(|import| {
            let path: Vec<_> = import.path.iter().cloned().chain([name.to_owned()]).collect();
            let holder = self.resolve(scope, &path, depth + 1)?;
            self.files[&holder].items.contains(name).then_some(holder)
        })
    }
}

/// The leaves of a `use` tree: the whole path of each, and its name here.
fn leaves(tree: &[String]) -> Vec<(Vec<String>, String)> {
    // Of another crate for certain.
    if tree[0] == "::" {
        return Vec::new();
    }
    let Some(open) = tree.iter().position(|token| token == "{") else {
        let mut path = Vec::from_iter(tree.iter().filter(|token| *token != "::").cloned());
        let renamed =
            path.iter().position(|token| token == "as").map(|at| path.drain(at..).collect::<Vec<_>>());
        let mut name = path.last().cloned().unwrap_or_default();
        if name == "self" || name == "*" {
            path.pop();
        }
        if name == "self" {
            name = path.last().cloned().unwrap_or_default();
        }
        if let Some(renamed) = renamed {
            name.clone_from(&renamed[1]);
        }
        return if path.is_empty() { Vec::new() } else { vec![(path, name)] };
    };
    let (before, rest) = tree.split_at(open);
    let mut depth = 0;
    let mut branches = vec![Vec::new()];
    for token in &rest[1..rest.len() - 1] {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            "," if depth == 0 => {
                branches.push(Vec::new());
                continue;
            }
            _ => {}
        }
        branches.last_mut().unwrap().push(token.clone());
    }
    let whole = |branch: &Vec<String>| leaves(&joined(before, branch));
    branches.iter().filter(|branch| !branch.is_empty()).flat_map(whole).collect()
}

/// How many tokens an item has, its attributes and all.
fn item_end(tokens: &[String]) -> usize {
    let is_item =
        |token: &&String| matches!(token.as_str(), "fn" | "impl" | "mod" | "struct" | "enum" | "trait");
    let is_value = |token: &&String| {
        matches!(token.as_str(), "use" | "const" | "static" | "type" | "let" | ":" | "{" | ";")
    };
    // A function may be `const`, and have types after a colon: whichever comes first says which it is.
    let first = tokens.iter().find(|token| is_item(token) || (is_value(token) && *token != "const"));
    let ends_with_brace = first.is_none_or(|token| is_item(&token) || token == "{");
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth -= 1;
                // The end of what it stands in.
                if depth < 0 {
                    return at;
                }
                if depth == 0 && token == "}" && ends_with_brace {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            "," if depth == 0 && !ends_with_brace => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn joined(module: &[String], path: &[String]) -> Vec<String> {
    module.iter().chain(path).cloned().collect()
}

fn starts(tokens: &[String], with: &[&str]) -> bool {
    tokens.len() >= with.len() && iter::zip(tokens, with).all(|(token, with)| token == with)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words, `::`, and every other character that is no space; without comments, texts and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = literal(rest) {
            len
        } else if is_name(rest) {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(rest[..len].to_owned());
            len
        } else if rest.starts_with("::") {
            tokens.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[len..];
    }
    tokens
}

/// How long the comment is that `text` begins with: comments may stand in comments.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        match rest.as_bytes() {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += rest.chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// How long the text, the character or the lifetime is that `text` begins with, if it is one.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let behind = text.strip_prefix(prefix);
        behind
            .is_some_and(|behind| behind.trim_start_matches('#').starts_with('"') || behind.starts_with('\''))
    })?;
    let behind = &text[prefix.len()..];
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    if prefix.ends_with('r') && behind[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &behind[hashes + 1..];
        let len = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + len);
    }
    let quote = behind.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let mut body = behind.char_indices().skip(1);
    // A lifetime has no quote at its end.
    if quote == '\'' && !behind[1..].starts_with('\\') && behind.chars().nth(2) != Some('\'') {
        return (prefix.is_empty()).then_some(1);
    }
    while let Some((at, c)) = body.next() {
        match c {
            '\\' => drop(body.next()),
            _ if c == quote => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

#[test]
fn a_circle_is_found_however_its_imports_are_written() {
    let ways = [
        "use super::b::B;",
        "use crate::room::b::{self, B};",
        "use super::{c::C, b::{B as Other}};",
        "use super::B;",
        "use crate::room::B;",
        "fn f(b: super::b::B) {}",
        "use super::b; fn f() { b::g() }",
        "fn f() { crate::room::b::g::<u8>() }",
        "mod inner { use super::super::b::B; }",
        "use super::*; fn f(b: B) { B::new() }",
        "const A: char = '\"'; use super::b::B; const C: &str = r#\"\"#;",
        "fn f<'a>(x: &'a u8) -> super::b::B { '{' }",
    ];
    for way in ways {
        let files = [
            ("room", "mod a; mod b; mod c; pub use b::B;"),
            ("room::a", way),
            ("room::b", "use super::a::A; pub struct B;"),
            ("room::c", "pub struct C;"),
        ];
        assert_eq!(found(&files), [["room::a", "room::b"]], "{way}");
    }
}

#[test]
fn what_is_no_import_of_the_code_makes_no_circle() {
    let ways = [
        "",
        "// use super::b::B;",
        "/* /* */ use super::b::B; */",
        "const TEXT: &str = \"use super::b::B;\";",
        "const TEXT: &str = r#\"\" use super::b::B;\"#;",
        "#[cfg(test)] mod tests { use super::super::b::B; }",
        "#[cfg(test)] use super::b::B;",
        "#[cfg(test)] const B: super::b::B = super::b::B { x: [1; 2] };",
        "#[cfg(test)] fn f(x: [u8; 3]) -> super::b::B { }",
        "struct A { #[cfg(test)] b: super::b::B, }",
        "#[cfg(test)] mod tests;",
        "use super::C;",
        "use std::b::B; use b::B as D;",
        "use ::b::B; fn f() { ::room::b::g() }",
        "pub(in super::b) const A: u8 = 0;",
    ];
    for way in ways {
        let files = [
            ("room", "mod a; mod b; mod c; pub use b::B; pub(crate) use c::*;"),
            ("room::a", way),
            ("room::a::tests", "use crate::room::b::B;"),
            ("room::b", "use super::a::A; struct B;"),
            ("room::c", "pub struct C;"),
        ];
        assert_eq!(found(&files), <[Vec<String>; 0]>::default(), "{way}");
    }
}

#[test]
fn a_folder_meets_its_files_if_each_uses_the_other() {
    let below = ("room::a", "use super::Top; pub struct A;");
    let none = <[Vec<String>; 0]>::default();
    assert_eq!(found(&[("room", "mod a; pub use a::A; pub struct Top;"), below]), none, "re-exported alone");
    assert_eq!(found(&[("room", "mod a; pub use a::A; pub struct Top(A);"), below]), [["room", "room::a"]]);
    assert_eq!(found(&[("room", "mod a; pub use a::*; pub struct Top(A);"), below]), [["room", "room::a"]]);
    assert_eq!(found(&[("room", "mod a; pub use a::*; pub struct Top(B);"), below]), none);
    assert_eq!(found(&[("room", "mod a; use a::A; pub struct Top(A);"), below]), [["room", "room::a"]]);
    // What the folder has only imported is where it comes from.
    let files = [
        ("room", "mod a; mod b; use b::B; fn f(b: B) {}"),
        ("room::a", "use super::B;"),
        ("room::b", "struct B;"),
    ];
    assert_eq!(found(&files), none);
}

/// The circles of some short files.
#[cfg(test)]
fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let module = |name: &str| Vec::from_iter(name.split("::").map(str::to_owned));
    let sources = files.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
    circles(&sources).iter().map(|circle| circle.iter().map(|module| module.join("::")).collect()).collect()
}
