//! Where secrets are in the definition of a hook: they are shown as a mask, and whoever sends the mask back keeps what is stored.
//!
//! Secrets are the passwords and tokens of `auth`, and what is named like one in `headers`, `query`, `form` and `json`. What consists of nothing but tags
//! of a template is none. Neither is looked for in what is not told apart by names: an address, a body of one's own, JSON that is said as a text.

use serde_json::{Map, Value as Json};

use super::{HookError, Problem};
use crate::template::Template;

/// What is shown in place of a secret.
pub const MASK: &str = "********";

/// The fields in which secrets have names.
const PLACES: [&str; 5] = ["auth", "headers", "query", "form", "json"];
/// A name with one of these words in it, dashes and underscores left out, is that of a secret anywhere.
const WORDS: [&str; 14] = [
    "token",
    "secret",
    "signature",
    "cookie",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "accesskey",
    "privatekey",
    "sharedkey",
    "credential",
    "authorization",
    "bearer",
];
/// Names that are those of secrets in `auth`, `query` and `form`.
const NAMES: [&str; 5] = ["key", "pass", "pwd", "sig", "auth"];
/// A header with one of these words in its name carries a secret.
const HEADER_WORDS: [&str; 2] = ["key", "auth"];
/// Two spellings of one thing.
const PASSWORDS: [&str; 2] = ["password", "pass"];

/// Puts masks in the place of secrets.
pub fn mask(definition: &mut Map<String, Json>) {
    let masked = each_secret(definition, |_, secret| {
        MASK.clone_into(secret);
        Ok(())
    });
    debug_assert!(masked.is_ok(), "a mask fits everywhere");
}

/// Puts what is stored in the place of masks.
///
/// # Errors
/// Nothing is stored for one of them: the error names its field.
pub fn unmask(new: &mut Map<String, Json>, stored: &Map<String, Json>) -> Result<(), HookError> {
    let mut stored = stored.clone();
    PLACES.iter().for_each(|place| open(&mut stored, place));
    each_secret(new, |path, secret| {
        if secret == MASK {
            let kept = find(&stored, path).filter(|kept| *kept != MASK);
            kept.ok_or_else(|| HookError::new(&path.join("."), Problem::Masked))?.clone_into(secret);
        }
        Ok(())
    })
}

/// Does something with each secret in a definition, and with where it is. Objects that are said as texts become objects.
///
/// # Errors
/// The first that the action returns.
pub fn each_secret(
    definition: &mut Map<String, Json>,
    mut action: impl FnMut(&[String], &mut String) -> Result<(), HookError>,
) -> Result<(), HookError> {
    for place in PLACES {
        open(definition, place);
        if let Some(value) = definition.get_mut(place) {
            visit(value, &mut vec![place.to_owned()], &mut action)?;
        }
    }
    Ok(())
}

type Action<'a> = &'a mut dyn FnMut(&[String], &mut String) -> Result<(), HookError>;

fn visit(value: &mut Json, path: &mut Vec<String>, action: Action) -> Result<(), HookError> {
    match value {
        Json::Object(members) => members.iter_mut().try_for_each(|(name, value)| step(value, name.clone(), path, action)),
        Json::Array(list) => list.iter_mut().enumerate().try_for_each(|(place, value)| step(value, place.to_string(), path, action)),
        Json::String(text) if is_secret(path) && !is_all_tags(text) => action(path, text),
        _ => Ok(()),
    }
}

fn step(value: &mut Json, name: String, path: &mut Vec<String>, action: Action) -> Result<(), HookError> {
    path.push(name);
    let done = visit(value, path, action);
    path.pop();
    done
}

/// Clients that send forms say objects as texts. JSON may be meant to be one.
fn open(definition: &mut Map<String, Json>, place: &str) {
    if let Some(value) = definition.get_mut(place).filter(|_| place != "json")
        && let Some(Ok(opened @ Json::Object(_))) = value.as_str().map(serde_json::from_str)
    {
        *value = opened;
    }
}

fn is_secret(path: &[String]) -> bool {
    let [place, .., name] = path else { return false };
    let name = name.to_ascii_lowercase().replace(['-', '_'], "");
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    has(&WORDS)
        || match place.as_str() {
            "headers" => has(&HEADER_WORDS),
            "auth" | "query" | "form" => NAMES.contains(&name.as_str()),
            _ => false,
        }
}

fn is_all_tags(text: &str) -> bool {
    Template::parse(text).is_ok_and(|template| template.is_all_tags())
}

/// What is stored at a place. Its names may be in another case, and a password may have its other spelling.
fn find<'s>(stored: &'s Map<String, Json>, path: &[String]) -> Option<&'s str> {
    let (first, others) = path.split_first()?;
    let found = others.iter().try_fold(stored.get(first)?, |value, name| match value {
        Json::Object(members) => member(members, name),
        Json::Array(list) => list.get(name.parse::<usize>().ok()?),
        _ => None,
    });
    found?.as_str()
}

fn member<'s>(members: &'s Map<String, Json>, name: &str) -> Option<&'s Json> {
    let alias = PASSWORDS.contains(&name).then(|| PASSWORDS.iter().find_map(|name| members.get(*name))).flatten();
    let other_case = || members.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    members.get(name).or(alias).or_else(other_case)
}
