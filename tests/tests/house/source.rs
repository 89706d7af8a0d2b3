//! A Rust source file as tokens: how long it is without its tests, its functions, the paths that it names.
//!
//! The compiler's own tokenizer reads the file, so strings, comments and macros cannot mislead it. It never resolves
//! a name: a path is what is written, with the groups of `use` written out.

use std::iter::Peekable;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree, token_stream::IntoIter};

/// What a file holds outside its `#[cfg(test)]` items.
#[derive(Debug, Default)]
pub(crate) struct Source {
    /// Lines of the file, less those of `#[cfg(test)]` items.
    pub(crate) lines: usize,
    /// Every function that has a body, nested ones included.
    pub(crate) functions: Vec<Function>,
    /// Every path, as `std::fs::read`; a name that stands alone is a path of one segment.
    pub(crate) paths: Vec<Path>,
    /// The files that only tests see: `tests` of `#[cfg(test)] mod tests;`.
    pub(crate) test_modules: Vec<String>,
}

/// A function and its size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name, without the type that it belongs to.
    pub(crate) name: String,
    /// From `fn` to the closing brace, both included.
    pub(crate) lines: usize,
}

/// A path as it is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Its segments; `*` for a glob.
    pub(crate) segments: Vec<String>,
    /// Where its first segment stands, from 1.
    pub(crate) line: usize,
}

impl Source {
    /// Reads a file's text.
    ///
    /// # Errors
    /// If the text is not made of Rust tokens.
    pub(crate) fn parse(text: &str) -> Result<Self, proc_macro2::LexError> {
        let mut source = Self { lines: text.lines().count(), ..Self::default() };
        source.walk(text.parse()?);
        Ok(source)
    }

    /// Whether a path begins at this crate, and not at a module that the file imports under the crate's name.
    pub(crate) fn names_crate(&self, name: &str) -> bool {
        let is_import = |path: &Path| match path.segments.as_slice() {
            [_, .., last] if last == name => true,
            [_, .., last, own] if last == name && own == "self" => true,
            _ => false,
        };
        let begins = |path: &Path| path.segments.len() > 1 && path.segments[0] == name;
        self.paths.iter().any(begins) && !self.paths.iter().any(is_import)
    }

    fn walk(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Punct(hash) if hash.as_char() == '#' && is_cfg_test(tokens.peek()) => {
                    self.skip_item(hash.span().start().line, &mut tokens);
                }
                TokenTree::Ident(word) if word == "fn" => {
                    self.functions.extend(function(word.span().start().line, tokens.clone()));
                }
                TokenTree::Ident(word) => {
                    self.path(Path { line: word.span().start().line, segments: vec![word.to_string()] }, &mut tokens);
                }
                TokenTree::Group(group) => self.walk(group.stream()),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }

    /// Goes past an item that only tests see, and takes its lines off.
    fn skip_item(&mut self, first: usize, tokens: &mut Tokens) {
        let mut last = first;
        let mut words = Vec::new();
        for token in tokens.by_ref() {
            last = token.span().end().line;
            match token {
                TokenTree::Ident(word) => words.push(word.to_string()),
                TokenTree::Punct(end) if end.as_char() == ';' => {
                    let module = words.iter().position(|word| word == "mod").and_then(|at| words.get(at + 1));
                    self.test_modules.extend(module.cloned());
                    break;
                }
                TokenTree::Group(body) if body.delimiter() == Delimiter::Brace => break,
                _ => {}
            }
        }
        self.lines -= last - first + 1;
    }

    /// Follows a path whose first segments are known; a group after `::` is many paths.
    fn path(&mut self, mut path: Path, tokens: &mut Tokens) {
        while let Some(segment) = next_segment(tokens) {
            match segment {
                Segment::Name(name) => path.segments.push(name),
                Segment::Names(group) => return self.branches(&path, group.stream()),
            }
        }
        self.paths.push(path);
    }

    fn branches(&mut self, stem: &Path, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            let name = match token {
                TokenTree::Ident(name) => name.to_string(),
                TokenTree::Punct(star) if star.as_char() == '*' => star.to_string(),
                _ => continue,
            };
            let segments = stem.segments.iter().cloned().chain([name]).collect();
            self.path(Path { segments, line: stem.line }, &mut tokens);
        }
    }
}

type Tokens = Peekable<IntoIter>;

enum Segment {
    Name(String),
    Names(Group),
}

/// Takes `::name`, `::*` or `::{..}`; takes nothing if something else comes.
fn next_segment(tokens: &mut Tokens) -> Option<Segment> {
    let mut ahead = tokens.clone();
    let colons = [ahead.next()?, ahead.next()?].iter().all(|token| is_punct(token, ':'));
    let segment = match ahead.next().filter(|_| colons)? {
        TokenTree::Ident(name) => Segment::Name(name.to_string()),
        TokenTree::Punct(star) if star.as_char() == '*' => Segment::Name(star.to_string()),
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Segment::Names(group),
        _ => return None,
    };
    *tokens = ahead;
    Some(segment)
}

/// The function whose `fn` stood on line `first`; `None` for a function's type, or one without a body.
fn function(first: usize, mut tokens: Tokens) -> Option<Function> {
    let TokenTree::Ident(name) = tokens.next()? else { return None };
    let mut after_angle = false; // `Array<{ N }>` is not the body
    for token in tokens {
        match &token {
            TokenTree::Punct(end) if end.as_char() == ';' => return None,
            TokenTree::Group(body) if body.delimiter() == Delimiter::Brace && !after_angle => {
                let lines = body.span_close().end().line - first + 1;
                return Some(Function { name: name.to_string(), lines });
            }
            _ => after_angle = is_punct(&token, '<'),
        }
    }
    None
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_cfg_test(attribute: Option<&TokenTree>) -> bool {
    matches!(attribute, Some(TokenTree::Group(group)) if group.to_string().replace(' ', "") == "[cfg(test)]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        Source::parse(text).unwrap().paths.iter().map(|path| path.segments.join("::")).collect()
    }

    fn functions(text: &str) -> Vec<(String, usize)> {
        Source::parse(text).unwrap().functions.into_iter().map(|function| (function.name, function.lines)).collect()
    }

    #[test]
    fn a_function_is_counted_from_its_signature_to_its_closing_brace() {
        assert_eq!(functions("/// Doc.\n#[inline]\nfn one() {}\n"), [("one".into(), 1)]);
        assert_eq!(functions("fn three(\n) -> u8 {\n    0 }\n"), [("three".into(), 3)]);
    }

    #[test]
    fn braces_in_strings_characters_and_comments_are_not_counted() {
        let text =
            "fn f<'a>(x: &'a str) {\n  // }\n  /* } /* } */ */\n  let a = \"}\"; let b = '}'; let c = r#\"}\"\"#;\n}\n";
        assert_eq!(functions(text), [("f".into(), 5)]);
    }

    #[test]
    fn methods_nested_functions_and_functions_in_macros_are_all_counted() {
        let text = "impl A { fn a() { fn b() {\n} } }\nmacro_rules! m { () => { fn c() {\n\n} } }";
        assert_eq!(functions(text), [("a".into(), 2), ("b".into(), 2), ("c".into(), 3)]);
    }

    #[test]
    fn a_function_pointer_or_a_signature_without_a_body_is_no_function() {
        assert_eq!(functions("type F = fn(u8) -> u8; trait T { fn t(); } struct S {}"), []);
    }

    #[test]
    fn a_constant_in_braces_is_not_taken_for_the_body() {
        assert_eq!(functions("fn f() -> A<{ 1 + 1 }> {\n\n}"), [("f".into(), 3)]);
    }

    #[test]
    fn test_items_are_not_counted_and_their_paths_are_not_seen() {
        let text =
            "use a::b;\n#[cfg(test)]\nuse std::fs;\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n fn t() {}\n}\nfn f() {}\n";
        let source = Source::parse(text).unwrap();
        assert_eq!(source.lines, 2);
        assert_eq!(source.functions, [Function { name: "f".into(), lines: 1 }]);
        assert!(source.paths.iter().all(|path| path.segments != ["std", "fs"]));
        assert_eq!(source.test_modules, [""; 0]);
    }

    #[test]
    fn what_is_compiled_without_tests_too_is_counted() {
        assert_eq!(Source::parse("#[cfg(not(test))]\nfn f() {}\n").unwrap().lines, 2);
        assert_eq!(Source::parse("#[cfg(any(test, unix))]\nfn f() {}\n").unwrap().lines, 2);
    }

    #[test]
    fn a_module_that_only_tests_see_is_named() {
        let source = Source::parse("mod a;\n#[cfg(test)]\nmod tests;\nmod b;\n").unwrap();
        assert_eq!((source.lines, source.test_modules), (2, vec!["tests".to_owned()]));
    }

    #[test]
    fn the_groups_of_a_use_are_written_out() {
        let text = "use std::{fs, net::{self, TcpStream as T}, env::*};";
        assert!(paths(text).starts_with(&["use".into(), "std::fs".into(), "std::net::self".into()]));
        assert!(paths(text).contains(&"std::net::TcpStream".into()));
        assert!(paths(text).contains(&"std::env::*".into()));
    }

    #[test]
    fn paths_in_bodies_types_and_macros_are_seen_but_not_those_in_text() {
        let text =
            "/// std::env\nfn f(x: std::fs::File) { m!(std::thread::spawn(|| { \"tokio::x\" })) // std::process\n}";
        let found = paths(text);
        assert!(found.contains(&"std::fs::File".into()) && found.contains(&"std::thread::spawn".into()));
        assert!(!found.iter().any(|path| path.contains("env") || path.contains("tokio") || path.contains("process")));
    }

    #[test]
    fn a_module_that_is_named_like_a_crate_is_not_the_crate() {
        let names = |text: &str| Source::parse(text).unwrap().names_crate("sha2");
        assert!(names("use sha2::{Digest, Sha256};") && names("fn f() { sha2::Sha256::new() }"));
        assert!(!names("use other::sha2; fn f() { sha2::f() }"));
        assert!(!names("use other::sha2::{self, x}; fn f() { sha2::f() }"));
        assert!(!names("use other::sha2::Sha256; fn f() { sha2(1) }"));
    }

    #[test]
    fn the_line_of_a_path_is_the_line_where_it_begins() {
        let source = Source::parse("\n\nuse std::{\n  fs,\n};").unwrap();
        assert_eq!(source.paths.last(), Some(&Path { segments: vec!["std".into(), "fs".into()], line: 3 }));
    }
}
