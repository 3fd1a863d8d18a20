//! Why what is said is no hook.

use thiserror::Error;

use super::TEMPLATES_LEN_MAX;
use super::fields::FIELDS_MAX;
use crate::template::TemplateError;

/// Longest name of a field that an error repeats, in bytes.
const FIELD_LEN_MAX: usize = 128;

/// A field of a definition, and what is wrong with it.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
#[error("{field} {problem}")]
pub struct HookError {
    /// The field, with dots between the names of those within each other.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum Problem {
    /// It is something else than it must be, or is not there.
    #[error("must be {0}")]
    MustBe(&'static str),
    /// Its templates cannot be read.
    #[error("is no template: {0}")]
    Template(#[from] TemplateError),
    /// It has too many members.
    #[error("has more than {FIELDS_MAX} members")]
    TooMany,
    /// The templates of the hook are too long.
    #[error("is too long: the templates of a hook have at most {TEMPLATES_LEN_MAX} bytes together")]
    TooLong,
    /// Another field says the same thing otherwise.
    #[error("cannot be said together with {0}")]
    Excludes(&'static str),
    /// It is a mask, and nothing is stored that it could stand for.
    #[error("is masked, and nothing is stored in its place: say it")]
    Masked,
}

impl HookError {
    /// A problem of a field.
    pub(super) fn new(field: &str, problem: impl Into<Problem>) -> Self {
        let field = &field[..field.floor_char_boundary(FIELD_LEN_MAX)];
        Self { field: field.to_owned(), problem: problem.into() }
    }
}
