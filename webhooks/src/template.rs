//! Mustache templates over JSON values: what the npm package `mustache` 4 makes of them, without partials and lambdas, which there are none of here.
//!
//! What differs from it on purpose:
//!
//! * `{{x}}` escapes `& < > " '` and nothing else, as Particle documents it; the package escapes `/`, `` ` `` and `=` too.
//! * An object is shown as its JSON text, where JavaScript says `[object Object]`.
//! * Whole numbers of more than 53 bits keep all their digits.
//! * A name within a list that has a `null` in it is looked up further out, where the package fails.
//! * What JavaScript's objects have without being given it (`toString`, `constructor`) is not there; lists and texts do have a `length`.
//!
//! Everything is bounded: the length of a template, its tags and how deep its sections lie when it is read; the bytes that come out and the steps that
//! are done when it is filled in, because lists within lists multiply.

mod parse;
mod render;
mod text;

use serde_json::Value as Json;
use thiserror::Error;

/// Longest template, in bytes.
pub const TEMPLATE_LEN_MAX: usize = 65_536;
/// Most tags in a template.
pub const TAGS_MAX: usize = 4_096;
/// How deep sections may lie in each other.
pub const DEPTH_MAX: usize = 32;
/// Most bytes that are made of a template.
pub const OUTPUT_LEN_MAX: usize = 1 << 20;
/// Most steps that are done for a template: parts filled in, and places where a name is looked up.
pub const STEPS_MAX: usize = 500_000;

/// A template that was read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template {
    parts: Vec<Part>,
}

/// What a template consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    /// Stands for itself.
    Text(String),
    /// `{{x}}` if it is escaped, `{{{x}}}` or `{{&x}}` if not.
    Value { name: Name, is_escaped: bool },
    /// `{{#x}}…{{/x}}`, or `{{^x}}…{{/x}}` if it is inverted.
    Section { name: Name, is_inverted: bool, parts: Vec<Part> },
}

/// How a value is named.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Name {
    /// `.`: the innermost value.
    Innermost,
    /// A member of it, or of one further out.
    Member(String),
    /// `a.b.0`: a member of a member.
    Path(Vec<String>),
}

/// Why a text is no template. Numbers are places in it, in bytes.
#[derive(Debug, Error, PartialEq, Eq, Clone)]
pub enum TemplateError {
    /// It is too long.
    #[error("a template has at most {TEMPLATE_LEN_MAX} bytes")]
    TooLong,
    /// It has too many tags.
    #[error("a template has at most {TAGS_MAX} tags")]
    TooManyTags,
    /// Too many sections lie in each other.
    #[error("sections lie in each other at most {DEPTH_MAX} deep")]
    TooDeep,
    /// A tag has no end.
    #[error("the tag at {0} has no end")]
    TagWithoutEnd(usize),
    /// A section has no end, or another one ends in its place.
    #[error("the section {name:?} has no end before {at}")]
    SectionWithoutEnd {
        /// What it is named.
        name: String,
        /// Where it would have ended.
        at: usize,
    },
    /// A section ends that did not begin.
    #[error("the section {name:?}, which ends at {at}, does not begin")]
    SectionWithoutBegin {
        /// What it is named.
        name: String,
        /// Where it ends.
        at: usize,
    },
    /// A tag that sets the delimiters does not say two.
    #[error("the tag at {0} does not say two delimiters")]
    BadDelimiters(usize),
}

/// Why a template was not filled in.
#[derive(Debug, Error, PartialEq, Eq, Clone, Copy)]
pub enum RenderError {
    /// More bytes would come out than may.
    #[error("what the template makes is too long")]
    TooLong,
    /// It would take too many steps.
    #[error("the template takes too many steps")]
    TooManySteps,
}

/// What may still be used up: several templates can share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Bytes that come out.
    pub bytes: usize,
    /// Steps.
    pub steps: usize,
}

impl Default for Budget {
    /// That of a single template.
    fn default() -> Self {
        Self { bytes: OUTPUT_LEN_MAX, steps: STEPS_MAX }
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// It is too long or too deep, has too many tags, or its tags and sections do not fit together.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        Ok(Self { parts: parse::parse(text)? })
    }

    /// Fills it in from a view.
    ///
    /// # Errors
    /// Too much would come out, or it would take too long.
    pub fn render(&self, view: &Json) -> Result<String, RenderError> {
        self.render_within(view, &mut Budget::default())
    }

    /// Fills it in from a view, as far as the budget goes.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn render_within(&self, view: &Json, budget: &mut Budget) -> Result<String, RenderError> {
        render::render(&self.parts, view, budget)
    }

    /// The text before the first tag: what comes out begins so, whatever the view.
    pub fn start(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it has tags, and no text beside them.
    pub fn is_all_tags(&self) -> bool {
        !self.parts.is_empty() && self.parts.iter().all(|part| !matches!(part, Part::Text(_)))
    }

    /// The text, if it has no tags.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl Name {
    /// A dot that comes first belongs to the name.
    fn new(text: &str) -> Self {
        match text.find('.') {
            Some(0) if text == "." => Self::Innermost,
            None | Some(0) => Self::Member(text.to_owned()),
            Some(_) => Self::Path(text.split('.').map(str::to_owned).collect()),
        }
    }
}

#[cfg(test)]
mod tests;
