//! What the firmware of a simulated device says and does, whatever carries its messages.

use crate::coap::{Block, Code, Kind, Message, option};
use crate::id::DeviceId;
use crate::session::describe::DescribeKind;
use crate::session::hello::Hello;
use crate::session::subscribe::Subscription;

use super::{Age, App, DeviceEvent};

/// The parts that messages are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Firmware<'a> {
    pub(super) app: &'a App,
    pub(super) system_describe: &'a [u8],
    pub(super) age: Age,
    pub(super) platform: u16,
}

/// What a message of the server leads to.
#[derive(Debug, Default)]
pub(super) struct Acted {
    /// Code of the acknowledgement; `None` where a device says nothing and comes to grief.
    pub(super) acknowledgement: Option<Code>,
    pub(super) response: Option<Response>,
    pub(super) event: Option<DeviceEvent>,
    /// The connection ends for this reason, and whether the session can be resumed.
    pub(super) end: Option<(&'static str, bool)>,
}

/// A separate response.
#[derive(Debug)]
pub(super) struct Response {
    code: Code,
    block: Option<Block>,
    payload: Vec<u8>,
    /// Describes are confirmable over TCP too.
    pub(super) is_describe: bool,
}

impl Response {
    /// The message. Its id is not set.
    pub(super) fn message(self, kind: Kind, token: &[u8]) -> Message {
        let mut message = Message::new(kind, self.code, 0, token);
        if let Some(block) = self.block {
            message = message.with(option::ETAG, [1]).with(option::BLOCK2, block.value());
        }
        message.payload(self.payload)
    }
}

impl Acted {
    fn acknowledged() -> Self {
        Self { acknowledgement: Some(Code::EMPTY), ..Self::default() }
    }

    fn responding(self, code: Code, payload: Vec<u8>) -> Self {
        Self { response: Some(Response { code, block: None, payload, is_describe: false }), ..self }
    }

    fn telling(self, event: DeviceEvent) -> Self {
        Self { event: Some(event), ..self }
    }

    fn ending(self, reason: &'static str, session_kept: bool) -> Self {
        Self { end: Some((reason, session_kept)), ..self }
    }
}

/// A Hello over UDP.
pub(super) fn hello(age: Age, platform: u16, app: &App, device: DeviceId, kind: Kind) -> Message {
    hello_message(&app.named_in(age.hello(device, platform)), kind)
}

/// A Hello over TCP, where the handshake has said who it is.
pub(super) fn nameless_hello(age: Age, platform: u16, app: &App, device: DeviceId, kind: Kind) -> Message {
    hello_message(&Hello { device: None, ..app.named_in(age.hello(device, platform)) }, kind)
}

fn hello_message(hello: &Hello, kind: Kind) -> Message {
    Message::new(kind, Code::POST, 0, &[]).path(&["h"]).payload(hello.encode())
}

/// An event.
pub(super) fn publish(age: Age, kind: Kind, name: &str, content_format: u16, data: &[u8]) -> Message {
    let mut message = Message::new(kind, Code::POST, 0, &[]).path(&[age.event_letter(), name]);
    if content_format != 0 && age.has_typed_events() {
        message = message.with(option::CONTENT_FORMAT, content_format.to_be_bytes());
    }
    message.payload(data)
}

/// What is published on every connect.
pub(super) fn update_flags(age: Age, kind: Kind) -> [Message; 2] {
    [("particle/device/updates/enabled", "true"), ("particle/device/updates/forced", "false")]
        .map(|(name, value)| publish(age, kind, name, 0, value.as_bytes()))
}

/// The question for the time.
pub(super) fn time(token: u8) -> Message {
    Message::new(Kind::Confirmable, Code::GET, 0, &[token]).path(&["t"])
}

impl Firmware<'_> {
    /// Part `number` of a describe, and whether another follows.
    pub(super) fn describe(&self, kind: DescribeKind, number: u32, token: u8) -> (Message, bool) {
        let combined = self.age.combines_describes() && kind != DescribeKind::Metrics;
        let (payload, flags) = match combined {
            true => (Age::combined_describe(self.platform, self.app), DescribeKind::System.flag() | DescribeKind::Application.flag()),
            false => (self.payload(kind), kind.flag()),
        };
        let mut message = Message::new(Kind::Confirmable, Code::POST, 0, &[token]).path(&["d"]);
        if kind == DescribeKind::System && self.age == Age::V6 {
            message = message.with(option::CONTENT_FORMAT, [42]);
        }
        message = message.with(option::URI_QUERY, [flags]);
        let (part, block) = block_of(&payload, self.age.block(), number);
        if let Some(block) = block {
            message = message.with(option::BLOCK1, block.value());
        }
        (message.payload(part), block.is_some_and(|block| block.more))
    }

    /// All subscriptions, the system's first.
    pub(super) fn subscriptions(&self, kind: Kind) -> Vec<Message> {
        let message = |subscription: &Subscription| self.age.subscribe(Message::new(kind, Code::GET, 0, &[]), subscription);
        self.app.all_subscriptions().iter().map(message).collect()
    }

    fn payload(&self, kind: DescribeKind) -> Vec<u8> {
        match kind {
            DescribeKind::System => self.age.system_describe(self.platform, self.system_describe),
            DescribeKind::Application => self.app.describe().encode(),
            DescribeKind::Metrics => hex::decode("0004000200040006004d000000").unwrap_or_default(),
        }
    }

    /// Does what a server message asks.
    pub(super) fn act(&self, message: &Message) -> Acted {
        let path: Vec<String> = message.values(option::URI_PATH).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let query = message.values(option::URI_QUERY).next();
        let name = path.get(1).map(String::as_str);
        match (message.code, path.first().map_or("", String::as_str)) {
            (Code::EMPTY, "") => Acted::acknowledged(),
            (Code::POST, "f") => self.call(name, query, message.token.len() == 1),
            (Code::GET, "v") => match name.map(|name| self.app.read(name)) {
                Some(Some(value)) => Acted::acknowledged().responding(Code::CONTENT, value.encode()),
                Some(None) => Acted::acknowledged().responding(Code::NOT_FOUND, Vec::new()),
                None => Acted::default(),
            },
            (Code::GET, "d") => self.describe_asked(query, Block::of(message, option::BLOCK2)),
            (Code::PUT, "s") => match query {
                Some(query) => {
                    Acted { acknowledgement: Some(Code::CHANGED), ..Acted::default() }.telling(DeviceEvent::Signal(query == [1]))
                }
                None => Acted::default(),
            },
            (Code::PUT, "k") => Acted::acknowledged().ending("the server asked for a new session", false),
            (Code::POST, "E" | "e") => {
                let acted = Acted::acknowledged();
                match self.received(path[1..].join("/"), message) {
                    Some(event) => acted.telling(event),
                    None => acted,
                }
            }
            (Code::POST, "h") => Acted::acknowledged(),
            _ => Acted::default(),
        }
    }

    fn received(&self, name: String, message: &Message) -> Option<DeviceEvent> {
        let (typed, content_format) = (self.age.has_typed_events(), message.content_format());
        if !self.app.takes(&name, if typed { content_format } else { 0 }) {
            return None;
        }
        // Before 6.2 the option is taken for the end of the message.
        let hidden = !typed && message.values(option::CONTENT_FORMAT).next().is_some();
        let data = if hidden { Vec::new() } else { message.payload.clone() };
        Some(DeviceEvent::EventReceived { name, data, content_format })
    }

    fn call(&self, name: Option<&str>, query: Option<&[u8]>, one_token: bool) -> Acted {
        let (Some(function), Some(argument)) = (name, query) else { return Acted::default() };
        let (function, argument) = (function.to_owned(), String::from_utf8_lossy(argument).into_owned());
        let value = self.app.call(&function, &argument).filter(|_| one_token);
        let acted = Acted::acknowledged().telling(DeviceEvent::Called { function, argument });
        match value {
            Some(value) => acted.responding(Code::CHANGED, value.to_be_bytes().to_vec()),
            None => acted,
        }
    }

    fn describe_asked(&self, query: Option<&[u8]>, block: Option<Block>) -> Acted {
        let Some(&[flag]) = query else { return Acted { acknowledgement: Some(Code::BAD_REQUEST), ..Acted::default() } };
        let Some(kind) = DescribeKind::from_flag(flag) else {
            return Acted::acknowledged().ending("a describe with impossible flags was asked", true);
        };
        let payload = self.payload(kind);
        let (part, block) = block_of(&payload, self.age.block(), block.map_or(0, |block| block.number));
        let response = Response { code: Code::CONTENT, block, payload: part.to_vec(), is_describe: true };
        Acted { response: Some(response), ..Acted::acknowledged() }
    }
}

/// Part `number` of a describe in parts of `size` bytes, and its block option if there is more than one part.
fn block_of(payload: &[u8], size: usize, number: u32) -> (&[u8], Option<Block>) {
    if payload.len() <= size {
        return (payload, None);
    }
    let start = usize::try_from(number).map_or(payload.len(), |number| number.saturating_mul(size)).min(payload.len());
    let end = (start + size).min(payload.len());
    (&payload[start..end], Some(Block { number, more: end < payload.len(), size_exponent: 6 }))
}
