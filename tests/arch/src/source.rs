//! Sources as the compiler reads them: token by token, module by module from the crate's root, with
//! test code, comments and blank lines left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// One source file, measured.
#[derive(Debug, Default)]
pub struct Measured {
    /// The file.
    pub path: PathBuf,
    /// Lines that hold code of the product.
    code: BTreeSet<usize>,
    /// Lines, from 1, on which an `unsafe` block begins.
    pub unsafe_blocks: Vec<usize>,
    /// Lines of every other `unsafe`: functions, traits, implementations, attributes.
    pub unsafe_others: Vec<usize>,
    /// Whether the file's inner attributes forbid unsafe code.
    pub forbids_unsafe: bool,
    /// Modules in files of their own.
    modules: Vec<String>,
    text: String,
}

impl Measured {
    /// How many lines hold code.
    #[must_use]
    pub fn lines(&self) -> usize {
        self.code.len()
    }

    /// Lines of `unsafe` blocks that no `SAFETY:` comment of their own stands above, at most eight
    /// lines away.
    #[must_use]
    pub fn unexplained(&self) -> Vec<usize> {
        const NEAR: usize = 8;
        let mut reasons: BTreeSet<usize> = (1..)
            .zip(self.text.lines())
            .filter(|(_, line)| line.trim_start().starts_with("//") && line.contains("SAFETY:"))
            .map(|(number, _)| number)
            .collect();
        let mut unexplained = self.unsafe_blocks.clone();
        unexplained.retain(|block| {
            let near = block.saturating_sub(NEAR)..*block;
            let reason = reasons.range(near).next_back().copied();
            reason.is_none_or(|line| !reasons.remove(&line))
        });
        unexplained
    }
}

/// Measures every file of a crate, from its root files on. Modules that exist only in tests are
/// not followed.
///
/// # Panics
/// A file is missing or is not Rust.
#[must_use]
pub fn measure(roots: &[PathBuf]) -> Vec<Measured> {
    let mut open = roots.to_vec();
    let mut done: Vec<Measured> = Vec::new();
    while let Some(path) = open.pop() {
        if done.iter().any(|one| one.path == path) {
            continue;
        }
        let text = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
        let measured = measure_text(&path, text);
        let is_root = roots.contains(&path);
        open.extend(measured.modules.iter().map(|name| module_file(&path, is_root, name)));
        done.push(measured);
    }
    done
}

fn measure_text(path: &Path, text: String) -> Measured {
    let tokens: TokenStream =
        text.parse().unwrap_or_else(|error| panic!("{} is not Rust: {error}", path.display()));
    let mut measured = Measured { path: path.to_owned(), text, ..Measured::default() };
    measured.take(tokens);
    measured
}

/// Where `mod name;` in the file `path` lives.
fn module_file(path: &Path, is_root: bool, name: &str) -> PathBuf {
    let folder = path.parent().expect("a source file is in a folder");
    let stem = path.file_stem().expect("a source file has a name");
    let folder = if is_root || stem == "mod" { folder.to_owned() } else { folder.join(stem) };
    let flat = folder.join(format!("{name}.rs"));
    if flat.exists() { flat } else { folder.join(name).join("mod.rs") }
}

impl Measured {
    fn take(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at = match attribute(&tokens[at..]) {
                Some((inside, length)) if is(inside, "doc") => at + length,
                Some((inside, length)) if is_cfg_test(inside) => end_of_item(&tokens, at + length),
                Some((inside, length)) => {
                    self.forbids_unsafe |= length == 3 && is(inside, "forbid(unsafe_code)");
                    self.count(&tokens[at..at + length]);
                    at + length
                }
                None => {
                    self.note(token, &tokens[at + 1..]);
                    at + 1
                }
            };
        }
    }

    fn note(&mut self, token: &TokenTree, rest: &[TokenTree]) {
        self.count(std::slice::from_ref(token));
        match (token, rest) {
            (TokenTree::Group(group), _) => self.take(group.stream()),
            (TokenTree::Ident(word), [TokenTree::Group(block), ..])
                if word == "unsafe" && block.delimiter() == Delimiter::Brace =>
            {
                self.unsafe_blocks.push(word.span().start().line);
            }
            (TokenTree::Ident(word), _) if word == "unsafe" => {
                self.unsafe_others.push(word.span().start().line);
            }
            (TokenTree::Ident(word), [TokenTree::Ident(name), TokenTree::Punct(end), ..])
                if word == "mod" && end.as_char() == ';' =>
            {
                self.modules.push(name.to_string());
            }
            _ => {}
        }
    }

    /// Adds the lines of these tokens; of a group only its delimiters, the inside is walked.
    fn count(&mut self, tokens: &[TokenTree]) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => {
                    self.code.insert(group.span_open().start().line);
                    self.code.insert(group.span_close().start().line);
                }
                other => {
                    let span = other.span();
                    self.code.extend(span.start().line..=span.end().line);
                }
            }
        }
    }
}

/// The attribute that begins here, `#[...]` or `#![...]`: its inside, and how many tokens it is.
fn attribute(tokens: &[TokenTree]) -> Option<(&Group, usize)> {
    let punct =
        |token: &TokenTree, wanted| matches!(token, TokenTree::Punct(p) if p.as_char() == wanted);
    match tokens {
        [hash, TokenTree::Group(inside), ..] if punct(hash, '#') => Some((inside, 2)),
        [hash, bang, TokenTree::Group(inside), ..] if punct(hash, '#') && punct(bang, '!') => {
            Some((inside, 3))
        }
        _ => None,
    }
}

/// Whether an attribute, written without spaces, begins with `start`.
fn is(attribute: &Group, start: &str) -> bool {
    attribute.stream().to_string().replace(' ', "").starts_with(start)
}

/// `cfg(test)` or `cfg(all(test, ...))`: never part of the product.
fn is_cfg_test(attribute: &Group) -> bool {
    is(attribute, "cfg(test)") || is(attribute, "cfg(all(test,")
}

/// Where the item that goes on at `from` is over: after its first block or semicolon.
fn end_of_item(tokens: &[TokenTree], from: usize) -> usize {
    let ends = |token: &TokenTree| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    };
    let length = tokens[from..].iter().position(ends);
    length.map_or(tokens.len(), |length| from + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"#![forbid(unsafe_code)]
//! About.

/// Documented.
fn one() { // a comment

    let text = "unsafe { }
        still the text";
}

mod other;
#[cfg(test)]
mod vectors;
#[cfg(test)]
mod tests {
    fn not_counted() {}
}
"#;

    #[test]
    fn tests_comments_and_blank_lines_do_not_count() {
        let measured = measure_text(Path::new("sample.rs"), SAMPLE.to_owned());
        assert_eq!(measured.code, [1, 5, 7, 8, 9, 11].into());
        assert_eq!(measured.modules, ["other"]);
        assert!(measured.forbids_unsafe && measured.unsafe_blocks.is_empty());
    }

    #[test]
    fn each_unsafe_block_needs_a_reason_of_its_own() {
        let text =
            "fn f() {\n// SAFETY: because.\nunsafe { a() }\nunsafe { b() }\n}\nunsafe fn a() {}";
        let measured = measure_text(Path::new("sample.rs"), text.to_owned());
        assert_eq!(measured.unsafe_blocks, [3, 4]);
        assert_eq!(measured.unsafe_others, [6]);
        assert_eq!(measured.unexplained(), [4]);
    }

    #[test]
    fn modules_are_looked_for_where_the_compiler_looks() {
        let file = |path, root, name| module_file(Path::new(path), root, name);
        assert_eq!(file("none/lib.rs", true, "a"), Path::new("none/a/mod.rs"));
        assert_eq!(file("none/a.rs", false, "b"), Path::new("none/a/b/mod.rs"));
    }
}
