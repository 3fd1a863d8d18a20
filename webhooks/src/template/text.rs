//! Values as text, as JavaScript shows them, but for objects: those are their JSON text.

use std::borrow::Cow;

use serde_json::{Number, Value as Json};

/// A value as text. Nothing for null; a list is its elements with commas between.
pub(super) fn show(value: &Json) -> Cow<'_, str> {
    match value {
        Json::Null => "".into(),
        Json::Bool(value) => if *value { "true" } else { "false" }.into(),
        Json::Number(number) => show_number(number).into(),
        Json::String(text) => text.into(),
        Json::Array(list) => list.iter().map(show).collect::<Vec<_>>().join(",").into(),
        Json::Object(_) => value.to_string().into(),
    }
}

/// Whether it counts as there. An empty list does, for a section that is not inverted: it is gone through, and has nothing in it.
pub(super) fn is_true(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !text.is_empty(),
        Json::Array(_) | Json::Object(_) => true,
    }
}

/// The text for a page of HTML.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped.into()
}

fn show_number(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => show_float(value),
        _ => number.to_string(),
    }
}

/// ECMA-262 §6.1.6.1.20: the shortest digits that mean the number, with an exponent only if it is very large or very small.
fn show_float(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", lay_out(&digits, exponent))
}

/// Digits of which the first stands for this power of ten.
fn lay_out(digits: &str, exponent: i32) -> String {
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let length = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    match exponent {
        0..=20 if length <= exponent + 1 => format!("{digits}{}", zeros(exponent + 1 - length)),
        0..=20 => {
            let (whole, fraction) = digits.split_at(usize::try_from(exponent).unwrap_or(0) + 1);
            format!("{whole}.{fraction}")
        }
        -6..=-1 => format!("0.{}{digits}", zeros(-exponent - 1)),
        _ => {
            let (first, others) = digits.split_at(1);
            let point = if others.is_empty() { "" } else { "." };
            format!("{first}{point}{others}e{}{}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
    }
}
