//! The application of the device under test.

use firmware_protocol::device::App;
use firmware_protocol::session::subscribe::HandlerKind;
use firmware_protocol::session::variable::Value;

/// With subscriptions of all kinds.
pub(crate) fn subscribed_app() -> App {
    app().subscription("tree", HandlerKind::Cbor).subscription("raw", HandlerKind::Binary)
}

/// Two functions, variables of all types, enough names for a describe of several blocks. Few messages at connect, so that bad links get through.
pub(crate) fn app() -> App {
    app_with(60)
}

/// The same with so many names.
pub(crate) fn app_with(names: i32) -> App {
    let mut app = App::default()
        .function("double", |argument| argument.parse::<i32>().unwrap_or_default() * 2)
        .function("length", |argument| i32::try_from(argument.len()).unwrap_or_default())
        .variable("temperature", Value::Double(21.5))
        .variable("flag", Value::Bool(true))
        .variable("count", Value::Int(-7))
        .variable("name", Value::String("grüße".into()))
        .subscription("news", HandlerKind::Text);
    for n in 0..names {
        app = app.variable(&format!("a_variable_with_a_rather_long_name_number_{n}"), Value::Int(n));
    }
    app
}

/// A system describe of one block.
pub(crate) fn system_describe() -> Vec<u8> {
    vec![0x53; 700]
}
