//! Which class a request belongs to: told by its route alone, from what the API's description says of that.

use std::collections::HashMap;

use axum::http::Method;

use crate::api::access::{Need, Needs};

/// Scopes of what has a device asked, or somebody else who takes as long.
const ASKING: [&str; 5] =
    ["devices.function:call", "devices.variable:get", "devices:ping", "devices.diagnostics:update", "integrations:test"];
/// The scope of event streams.
const STREAMING: &str = "events:get";

/// What requests have in common that share a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Class {
    /// A device is asked, or the receiver of a hook, and the time is theirs.
    Calls,
    /// What tells and changes nothing.
    Reads,
    /// What changes something.
    Writes,
    /// Event streams, from their beginning to their end.
    Streams,
    /// Logins, and whatever else anybody can ask for without a token.
    Logins,
    /// Bodies that are long, or do not say how long they are, while they come.
    Uploads,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All, in their order.
    pub const ALL: [Self; Self::COUNT] = [Self::Calls, Self::Reads, Self::Writes, Self::Streams, Self::Logins, Self::Uploads];

    /// Its place among all.
    pub fn index(self) -> usize {
        self as usize
    }

    /// As labels have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Streams => "streams",
            Self::Logins => "logins",
            Self::Uploads => "uploads",
        }
    }

    fn of(method: &Method, need: &Need) -> Self {
        match need {
            Need::Nothing => Self::Logins,
            Need::Scope(scope) if ASKING.contains(&scope.as_str()) => Self::Calls,
            Need::Scope(scope) if scope == STREAMING => Self::Streams,
            Need::Account | Need::Scope(_) if *method == Method::GET => Self::Reads,
            Need::Account | Need::Scope(_) => Self::Writes,
        }
    }
}

/// The classes of all routes.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Classes(HashMap<String, Vec<(Method, Class)>>);

impl Classes {
    /// By what routes want of their callers.
    pub(in crate::api) fn of(needs: &Needs) -> Self {
        let mut classes = Self::default();
        for (path, method, need) in needs.all() {
            classes.0.entry(path.to_owned()).or_default().push((method.clone(), Class::of(method, need)));
        }
        classes
    }

    /// That of the route at `path`, as the router has that written.
    pub(in crate::api) fn at(&self, method: &Method, path: &str) -> Class {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let here = self.0.get(path).into_iter().flatten();
        let known = here.clone().find(|(other, _)| other == method).map(|(_, class)| *class);
        known.unwrap_or_else(|| Class::of(method, &Need::Account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::routes;

    #[test]
    fn every_route_has_its_class() {
        let classes = Classes::of(&Needs::of(&routes::all().1));
        for (method, path, class) in [
            (Method::POST, "/v1/devices/{device}/{name}", Class::Calls),
            (Method::GET, "/v1/devices/{device}/{name}", Class::Calls),
            (Method::PUT, "/v1/devices/{device}/ping", Class::Calls),
            (Method::POST, "/v1/diagnostics/{device}/update", Class::Calls),
            (Method::POST, "/v1/webhooks/{hook}/test", Class::Calls),
            (Method::GET, "/v1/products/{product}/webhooks/{hook}/deliveries", Class::Reads),
            (Method::GET, "/v1/diagnostics/{device}/last", Class::Reads),
            (Method::GET, "/v1/devices", Class::Reads),
            (Method::HEAD, "/v1/devices", Class::Reads),
            (Method::GET, "/v1/openapi.json", Class::Reads),
            (Method::PUT, "/v1/devices/{device}", Class::Writes),
            (Method::POST, "/v1/devices/events", Class::Writes),
            (Method::GET, "/v1/devices/events", Class::Streams),
            (Method::GET, "/v1/events/{*prefix}", Class::Streams),
            (Method::POST, "/oauth/token", Class::Logins),
            (Method::POST, "/v1/users", Class::Logins),
            (Method::DELETE, "/v1/access_tokens/{token}", Class::Logins),
        ] {
            assert_eq!(classes.at(&method, path), class, "{method} {path}");
        }
    }

    #[test]
    fn classes_are_numbered_in_their_order() {
        assert!(Class::ALL.iter().enumerate().all(|(index, class)| class.index() == index));
    }
}
