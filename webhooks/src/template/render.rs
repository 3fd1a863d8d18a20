//! Fills templates in: looks names up, from the innermost value outwards, and goes through lists, as far as the budget goes.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::text::{escape, is_true, show};
use super::{Budget, Name, Part, RenderError};

/// How many bytes of a text are looked at in one step.
const BYTES_A_STEP: usize = 64;

/// What comes out for a view.
pub(super) fn render(parts: &[Part], view: &Json, budget: &mut Budget) -> Result<String, RenderError> {
    let mut renderer = Renderer { out: String::new(), budget };
    renderer.parts(parts, &Frame { value: view, outer: None })?;
    Ok(renderer.out)
}

/// A value whose members can be named, and those around it.
struct Frame<'f> {
    value: &'f Json,
    outer: Option<&'f Frame<'f>>,
}

struct Renderer<'b> {
    out: String,
    budget: &'b mut Budget,
}

impl Renderer<'_> {
    fn parts(&mut self, parts: &[Part], frame: &Frame) -> Result<(), RenderError> {
        parts.iter().try_for_each(|part| self.part(part, frame))
    }

    fn part(&mut self, part: &Part, frame: &Frame) -> Result<(), RenderError> {
        self.step(1)?;
        match part {
            Part::Text(text) => self.push(text),
            Part::Value { name, is_escaped } => {
                let Some(value) = self.look_up(name, frame)? else { return Ok(()) };
                self.step(size(&value))?;
                let text = show(&value);
                if *is_escaped { self.push(&escape(&text)) } else { self.push(&text) }
            }
            Part::Section { name, is_inverted: true, parts } => {
                let value = self.look_up(name, frame)?;
                let is_there = value.is_some_and(|value| is_true(&value) && value.as_array().is_none_or(|list| !list.is_empty()));
                if is_there { Ok(()) } else { self.parts(parts, frame) }
            }
            Part::Section { name, is_inverted: false, parts } => match self.look_up(name, frame)? {
                Some(value) if is_true(&value) => self.section(parts, &value, frame),
                _ => Ok(()),
            },
        }
    }

    /// A section for what is there: once for each of a list.
    fn section(&mut self, parts: &[Part], value: &Json, frame: &Frame) -> Result<(), RenderError> {
        match value {
            Json::Array(list) => list.iter().try_for_each(|value| {
                self.step(1)?;
                self.parts(parts, &Frame { value, outer: Some(frame) })
            }),
            Json::Bool(_) => self.parts(parts, frame),
            value => self.parts(parts, &Frame { value, outer: Some(frame) }),
        }
    }

    /// What a name stands for: of the innermost value that has it.
    fn look_up<'f>(&mut self, name: &Name, frame: &'f Frame<'f>) -> Result<Option<Cow<'f, Json>>, RenderError> {
        let mut next = Some(frame);
        while let Some(Frame { value, outer }) = next {
            self.step(1)?;
            let found = match name {
                Name::Innermost => Some(Cow::Borrowed(*value)),
                // What a text has can be asked for by its path, and is not in the way of what is further out.
                Name::Member(_) if value.is_string() => None,
                Name::Member(name) => self.member(value, name)?,
                Name::Path(names) => self.descend(value, names)?,
            };
            if found.is_some() {
                return Ok(found);
            }
            next = *outer;
        }
        Ok(None)
    }

    fn descend<'f>(&mut self, value: &'f Json, names: &[String]) -> Result<Option<Cow<'f, Json>>, RenderError> {
        let mut found = Cow::Borrowed(value);
        for name in names {
            self.step(1)?;
            let member = match &found {
                Cow::Borrowed(value) => self.member(value, name)?,
                Cow::Owned(value) => self.member(value, name)?.map(|member| Cow::Owned(member.into_owned())),
            };
            let Some(member) = member else { return Ok(None) };
            found = member;
        }
        Ok(Some(found))
    }

    /// A member of an object; a place in a list or a text, or its length, as JavaScript counts it.
    fn member<'f>(&mut self, value: &'f Json, name: &str) -> Result<Option<Cow<'f, Json>>, RenderError> {
        Ok(match value {
            Json::Object(members) => members.get(name).map(Cow::Borrowed),
            Json::Array(list) if name == "length" => Some(Cow::Owned(list.len().into())),
            Json::Array(list) => index(name).and_then(|index| list.get(index)).map(Cow::Borrowed),
            Json::String(text) => {
                self.step(text.len() / BYTES_A_STEP)?;
                member_of_text(text, name).map(Cow::Owned)
            }
            _ => None,
        })
    }

    fn push(&mut self, text: &str) -> Result<(), RenderError> {
        self.budget.bytes = self.budget.bytes.checked_sub(text.len()).ok_or(RenderError::TooLong)?;
        self.out.push_str(text);
        Ok(())
    }

    fn step(&mut self, count: usize) -> Result<(), RenderError> {
        self.budget.steps = self.budget.steps.checked_sub(count).ok_or(RenderError::TooManySteps)?;
        Ok(())
    }
}

/// How many values there are in a value.
fn size(value: &Json) -> usize {
    match value {
        Json::Array(list) => list.len() + list.iter().map(size).sum::<usize>(),
        Json::Object(members) => members.len() + members.values().map(size).sum::<usize>(),
        _ => 0,
    }
}

fn member_of_text(text: &str, name: &str) -> Option<Json> {
    if name == "length" {
        return Some(text.encode_utf16().count().into());
    }
    let unit = text.encode_utf16().nth(index(name)?)?;
    Some(String::from_utf16_lossy(&[unit]).into())
}

/// The place that a name is: digits without zeros before them.
fn index(name: &str) -> Option<usize> {
    let is_plain = name == "0" || !name.starts_with(['0', '+']);
    name.parse().ok().filter(|_| is_plain)
}
