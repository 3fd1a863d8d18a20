//! The application on a simulated device.

use crate::coap::format;
use crate::id::DeviceId;
use crate::session::describe::Application;
use crate::session::hello::Hello;
use crate::session::subscribe::{HandlerKind, Subscription};
use crate::session::variable::{Value, VariableType};

/// A function: argument in, number out.
pub type Function = fn(&str) -> i32;

/// Functions, variables, subscriptions, and the product that it is made for.
#[derive(Clone, Debug, Default)]
pub struct App {
    functions: Vec<(String, Function)>,
    variables: Vec<(String, Value)>,
    subscriptions: Vec<Subscription>,
    product: Option<(u16, u16)>,
}

impl App {
    /// As firmware of a product, in this version.
    #[must_use]
    pub fn of_product(self, product: u16, version: u16) -> Self {
        Self { product: Some((product, version)), ..self }
    }

    /// With one more function.
    #[must_use]
    pub fn function(mut self, name: &str, function: Function) -> Self {
        self.functions.push((name.to_owned(), function));
        self
    }

    /// With one more variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: Value) -> Self {
        self.variables.push((name.to_owned(), value));
        self
    }

    /// With one more subscription.
    #[must_use]
    pub fn subscription(mut self, prefix: &str, handler: HandlerKind) -> Self {
        self.subscriptions.push(Subscription::new(prefix, handler));
        self
    }

    /// With one more subscription, to events of one device. Only firmware before 6.2 has them.
    #[must_use]
    pub fn subscription_to(mut self, prefix: &str, publisher: DeviceId) -> Self {
        let subscription = Subscription { publisher: Some(publisher), ..Subscription::new(prefix, HandlerKind::Text) };
        self.subscriptions.push(subscription);
        self
    }

    /// Changes a variable.
    pub fn set(&mut self, name: &str, value: Value) {
        if let Some((_, own)) = self.variables.iter_mut().find(|(own, _)| own == name) {
            *own = value;
        }
    }

    /// A Hello that says which product it is of, if it is of one.
    pub(super) fn named_in(&self, hello: Hello) -> Hello {
        match self.product {
            Some((product, product_version)) => Hello { product, product_version, ..hello },
            None => hello,
        }
    }

    pub(super) fn call(&self, name: &str, argument: &str) -> Option<i32> {
        self.functions.iter().find(|(own, _)| own == name).map(|(_, function)| function(argument))
    }

    pub(super) fn read(&self, name: &str) -> Option<&Value> {
        self.variables.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    pub(super) fn describe(&self) -> Application {
        let kind = |value: &Value| match value {
            Value::Bool(_) => VariableType::Bool,
            Value::Int(_) => VariableType::Int,
            Value::String(_) => VariableType::String,
            Value::Double(_) => VariableType::Double,
        };
        Application {
            functions: self.functions.iter().map(|(name, _)| name.clone()).collect(),
            variables: self.variables.iter().map(|(name, value)| (name.clone(), kind(value))).collect(),
        }
    }

    /// The system's two, then the application's.
    pub(super) fn all_subscriptions(&self) -> Vec<Subscription> {
        let system = ["particle", "spark"].map(|prefix| Subscription::new(prefix, HandlerKind::Text));
        system.into_iter().chain(self.subscriptions.iter().cloned()).collect()
    }

    /// Whether a handler takes an event of this name and format (docs/protocol.md).
    pub(super) fn takes(&self, name: &str, content_format: u16) -> bool {
        self.all_subscriptions().iter().filter(|own| name.starts_with(&own.prefix)).any(|own| match own.handler {
            HandlerKind::Text => matches!(content_format, format::TEXT | 40 | 41 | 50),
            HandlerKind::Binary => true,
            HandlerKind::Cbor => content_format == format::CBOR,
        })
    }
}
