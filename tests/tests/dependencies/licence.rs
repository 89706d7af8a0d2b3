//! Licence expressions (SPDX 2.3, annex D): whether the licences that we accept satisfy one.
//!
//! It knows `AND`, `OR`, `WITH`, parentheses, and the old `/` for `OR`; anything else is no expression.

use std::{iter::Peekable, str::SplitWhitespace};

type Words<'a> = Peekable<SplitWhitespace<'a>>;

/// Whether `expression` can be satisfied by `accepted` alone; `None` if it is no expression.
///
/// A licence with an exception is a name of its own: `Apache-2.0 WITH LLVM-exception`.
pub(crate) fn is_satisfied(expression: &str, accepted: &[&str]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let satisfied = alternatives(&mut words, accepted)?;
    words.next().is_none().then_some(satisfied)
}

/// `requirements OR requirements OR ..`
fn alternatives(words: &mut Words<'_>, accepted: &[&str]) -> Option<bool> {
    let mut satisfied = requirements(words, accepted)?;
    while words.next_if_eq(&"OR").is_some() {
        satisfied |= requirements(words, accepted)?;
    }
    Some(satisfied)
}

/// `term AND term AND ..`
fn requirements(words: &mut Words<'_>, accepted: &[&str]) -> Option<bool> {
    let mut satisfied = term(words, accepted)?;
    while words.next_if_eq(&"AND").is_some() {
        satisfied &= term(words, accepted)?;
    }
    Some(satisfied)
}

/// A licence, with or without an exception, or an expression in parentheses.
fn term(words: &mut Words<'_>, accepted: &[&str]) -> Option<bool> {
    if words.next_if_eq(&"(").is_some() {
        let satisfied = alternatives(words, accepted)?;
        return words.next_if_eq(&")").map(|_| satisfied);
    }
    let mut licence = name(words)?.to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        licence = format!("{licence} WITH {}", name(words)?);
    }
    Some(accepted.contains(&licence.as_str()))
}

fn name<'a>(words: &mut Words<'a>) -> Option<&'a str> {
    words.next_if(|word| !["AND", "OR", "WITH", "(", ")"].contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn satisfied(expression: &str) -> Option<bool> {
        is_satisfied(expression, &["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"])
    }

    #[test]
    fn one_alternative_is_enough_and_every_requirement_is_needed() {
        assert_eq!(satisfied("MIT"), Some(true));
        assert_eq!(satisfied("GPL-3.0"), Some(false));
        assert_eq!(satisfied("GPL-3.0 OR MIT"), Some(true));
        assert_eq!(satisfied("GPL-3.0 AND MIT"), Some(false));
        assert_eq!(satisfied("GPL-3.0/MIT"), Some(true));
    }

    #[test]
    fn and_binds_tighter_than_or_unless_parentheses_say_otherwise() {
        assert_eq!(satisfied("MIT OR GPL-3.0 AND GPL-2.0"), Some(true));
        assert_eq!(satisfied("(MIT OR GPL-3.0) AND GPL-2.0"), Some(false));
        assert_eq!(satisfied("((MIT) OR GPL-3.0) AND (GPL-2.0 OR ISC)"), Some(true));
    }

    #[test]
    fn an_exception_is_part_of_the_name() {
        assert_eq!(satisfied("Apache-2.0 WITH LLVM-exception"), Some(true));
        assert_eq!(satisfied("Apache-2.0"), Some(false));
        assert_eq!(satisfied("MIT WITH LLVM-exception"), Some(false));
    }

    #[test]
    fn what_is_not_an_expression_is_refused() {
        for text in ["", "MIT ISC", "MIT OR", "AND MIT", "(MIT", "MIT)", "()", "MIT WITH", "OR", "MIT OR OR ISC"] {
            assert_eq!(satisfied(text), None, "{text}");
        }
    }
}
