//! What a token may be used for.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Scopes in one list.
const SCOPES_MAX: usize = 64;

/// Everything, or the listed kinds of request. A scope is `<object>:<action>`, such as `devices.function:call`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scopes {
    /// Everything the account may do.
    All,
    /// These only; `*` for the action means every action on the object.
    Only(Arc<[String]>),
}

/// A list of scopes has something in it that is none.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ScopesError {
    /// This word is no scope.
    #[error("{0:?} is not a scope such as devices:list")]
    NotAScope(String),
    /// There are too many, or none at all.
    #[error("a token has from 1 to {SCOPES_MAX} scopes")]
    Number,
}

impl Scopes {
    const EVERYTHING: &str = "*:*";

    /// Reads a list with blanks between; `*:*` is everything.
    ///
    /// # Errors
    /// A word is no scope, or there is none or more than 64.
    pub fn parse(text: &str) -> Result<Scopes, ScopesError> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if words.is_empty() || words.len() > SCOPES_MAX {
            return Err(ScopesError::Number);
        }
        if let Some(bad) = words.iter().find(|word| !is_scope(word)) {
            return Err(ScopesError::NotAScope(bad.chars().take(80).collect()));
        }
        Ok(if words.iter().any(|word| word == Scopes::EVERYTHING) { Scopes::All } else { Scopes::Only(words.into()) })
    }

    /// Whether a request that needs `scope` is allowed.
    pub fn allow(&self, scope: &str) -> bool {
        match self {
            Scopes::All => true,
            Scopes::Only(list) => list.iter().any(|held| covers(held, scope)),
        }
    }

    /// The scopes one by one.
    pub fn list(&self) -> Vec<&str> {
        match self {
            Scopes::All => vec![Scopes::EVERYTHING],
            Scopes::Only(list) => list.iter().map(String::as_str).collect(),
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.list().join(" "))
    }
}

fn is_scope(word: &str) -> bool {
    let named = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || b"._*".contains(&byte));
    word.len() <= 80 && word.split_once(':').is_some_and(|(object, action)| named(object) && named(action))
}

fn covers(held: &str, wanted: &str) -> bool {
    held == wanted || held.strip_suffix('*').is_some_and(|object| object.ends_with(':') && wanted.starts_with(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_allows_what_it_names() {
        let scopes = Scopes::parse("devices:list  devices.function:*").expect("two scopes");
        for (scope, allowed) in [
            ("devices:list", true),
            ("devices.function:call", true),
            ("devices:update", false),
            ("devices.variable:get", false),
            ("devices.function", false),
        ] {
            assert_eq!(scopes.allow(scope), allowed, "{scope}");
        }
        assert_eq!(scopes.to_string(), "devices:list devices.function:*");
    }

    #[test]
    fn everything_covers_the_rest() {
        assert_eq!(Scopes::parse("devices:list *:*"), Ok(Scopes::All));
        assert!(Scopes::All.allow("devices:list"));
        assert_eq!(Scopes::All.to_string(), "*:*");
    }

    #[test]
    fn other_words_are_refused() {
        for bad in ["", "  ", "devices", "devices:", ":list", "Devices:list", "devices:list,events:get"] {
            assert!(Scopes::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Scopes::parse(&"events:get ".repeat(65)), Err(ScopesError::Number));
    }
}
