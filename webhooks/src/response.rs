//! Makes of an answer the events that are published: that a request was sent, what was answered, or what went wrong.
//!
//! Answers come in pieces, each in an event of its own, whose names end with the number of the piece: they may arrive in any order. No name has more than
//! 64 bytes. A longer one is cut before the number of the piece, between two characters, because whoever subscribes says how a name begins. No name is
//! one of the system's: a topic that would be one, or that is empty, is the usual one instead.

use std::borrow::Cow;

use firmware_protocol::coap::format;
use firmware_protocol::session::publish::{TTL_DEFAULT_S, is_system_name};
use router::content;
use router::event::{Audience, Event, NewEvent, Source};
use serde_json::Value as Json;

use crate::delivery::{Outcome, Phase};
use crate::hook::Hook;
use crate::request::{EventFacts, variables};
use crate::template::{Budget, RenderError, STEPS_MAX, Template};

/// Bytes of a piece of an answer. The last one may have fewer.
pub const PIECE_LEN: usize = 512;
/// Most bytes of an answer that are published.
pub const ANSWER_LEN_MAX: usize = 100_000;
/// Longest name of an event, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// What is said of events that wait because too many requests failed.
pub const SLEEPING: &str = "Sleeping, too many errors, please wait and try again";

/// An event that is published for a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// Its name.
    pub name: String,
    /// Its data, if it has any.
    pub data: Option<Vec<u8>>,
    /// CoAP Content-Format of the data.
    pub content_format: u16,
}

/// An answer of success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// What its `Content-Type` says.
    pub content_type: Option<&'a str>,
    /// What was read of its body.
    pub body: &'a [u8],
}

impl Published {
    /// The event to publish, for one that triggered the hook: it belongs to the same.
    pub fn because_of(self, event: &Event) -> NewEvent {
        NewEvent {
            owner: event.owner,
            product: event.product,
            source: Source::Cloud,
            name: self.name,
            content_format: self.content_format,
            data: self.data,
            ttl_s: TTL_DEFAULT_S,
        }
    }

    fn text(name: String, text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(PIECE_LEN)];
        Self { name, data: Some(text.as_bytes().to_vec()), content_format: format::TEXT }
    }
}

/// That a request was sent for an event.
pub fn sent(event: &Event) -> Published {
    Published { name: named(&format!("hook-sent/{}", event.name), "", 0), data: None, content_format: format::TEXT }
}

/// What was answered: its pieces in order, none if the answer is empty.
pub fn answered(hook: &Hook, event: &Event, facts: &EventFacts, answer: &Answer) -> Vec<Published> {
    let made = match shown(hook, answer) {
        Ok(made) => made,
        Err(error) => return vec![error_event(hook, event, facts, &format!("error: the response template: {error}"))],
    };
    let made = &made[..made.len().min(ANSWER_LEN_MAX)];
    let content_format = if hook.answers.is_binary { format_of(answer.content_type) } else { format::TEXT };
    let topic = topic(hook.answers.topic.as_ref(), hook, event, facts).unwrap_or_else(|| usual_topic(hook, event));
    let pieces: Vec<_> = made.chunks(if hook.answers.is_whole { ANSWER_LEN_MAX } else { PIECE_LEN }).collect();
    let number_len = pieces.len().saturating_sub(1).to_string().len();
    let numbered = pieces.into_iter().enumerate();
    numbered
        .map(|(number, piece)| Published {
            name: named(&topic, &number.to_string(), number_len),
            data: Some(piece.to_vec()),
            content_format,
        })
        .collect()
}

/// What went wrong with an attempt to reach `host`, in words that devices read.
pub fn failed(hook: &Hook, event: &Event, facts: &EventFacts, host: &str, outcome: &Outcome) -> Published {
    error_event(hook, event, facts, &words(host, outcome))
}

/// That an event waits because too many requests failed.
pub fn sleeping(hook: &Hook, event: &Event, facts: &EventFacts) -> Published {
    error_event(hook, event, facts, SLEEPING)
}

fn error_event(hook: &Hook, event: &Event, facts: &EventFacts, text: &str) -> Published {
    let topic = topic(hook.answers.error_topic.as_ref(), hook, event, facts).unwrap_or_else(|| format!("hook-error/{}", event.name));
    Published::text(named(&topic, "0", 1), text)
}

/// What is published of an answer: itself, or what the template makes of it if it is JSON.
fn shown<'a>(hook: &Hook, answer: &Answer<'a>) -> Result<Cow<'a, [u8]>, RenderError> {
    let Some(template) = &hook.answers.template else { return Ok(answer.body.into()) };
    match serde_json::from_slice::<Json>(answer.body) {
        Ok(view) => Ok(template.render(&view, &mut Budget::default())?.into_bytes().into()),
        Err(_) => Ok(answer.body.into()),
    }
}

fn format_of(content_type: Option<&str>) -> u16 {
    let media_type = content_type.and_then(|text| text.split(';').next()).map(str::trim);
    media_type.and_then(content::format_of).unwrap_or(format::OCTETS)
}

/// The name that a hook gives, if it can be one.
fn topic(template: Option<&Template>, hook: &Hook, event: &Event, facts: &EventFacts) -> Option<String> {
    let mut budget = Budget { bytes: ANSWER_LEN_MAX, steps: STEPS_MAX };
    let topic = template?.render_within(&variables(event, facts, hook.names), &mut budget).ok()?;
    (!topic.is_empty() && !is_system_name(&topic)).then_some(topic)
}

/// Made of what the event is, not of variables, which its data could have changed: nobody else's device hears of it.
fn usual_topic(hook: &Hook, event: &Event) -> String {
    match hook.audience {
        Audience::Owner(_) => format!("hook-response/{}", event.name),
        Audience::Product(_) => format!("{}/hook-response/{}", event.source.origin(), event.name),
    }
}

/// A name that fits: the topic, and the number of the piece. All pieces of an answer have the same topic, which leaves room for the longest number.
fn named(topic: &str, number: &str, number_len: usize) -> String {
    let slash = if number.is_empty() { "" } else { "/" };
    let topic = &topic[..topic.floor_char_boundary(NAME_LEN_MAX - slash.len() - number_len)];
    format!("{}{slash}{number}", topic.replace(char::is_control, " "))
}

fn words(host: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered { status, .. } => format!("error status {status} from {host}"),
        Outcome::Failed { phase, error } => match phase {
            Phase::Render => format!("error: the request could not be made: {error}"),
            // No more than that: what stands where is not for devices.
            Phase::Guard => format!("error: requests to {host} are not allowed"),
            Phase::Dns => format!("error: {host} has no address"),
            Phase::Connect => format!("error: no connection to {host}: {error}"),
            Phase::Tls => format!("error: no secure connection to {host}: {error}"),
            Phase::Write => format!("error: the request did not reach {host}: {error}"),
            Phase::Wait => format!("error: no answer from {host}: {error}"),
            Phase::Body => format!("error: the answer of {host} broke off: {error}"),
        },
    }
}

#[cfg(test)]
mod tests;
