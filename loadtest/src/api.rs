//! The server's REST API, as far as drills and benchmarks use it, for the account that owns the fleet.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;
use firmware_protocol::id::DeviceId;
use serde_json::Value;

use crate::http::{self, Answer};

/// A caller with a token.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    address: SocketAddr,
    token: String,
}

/// What a caller was told of its publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    /// It is kept.
    Accepted,
    /// It is not known to be kept, in the words that the API has for that: come again, and when.
    Later,
    /// Something else.
    Otherwise(u16),
    /// The connection ended, or there was none.
    Nothing,
}

impl Told {
    fn from(answer: &Answer) -> Self {
        match answer.status {
            200 => Self::Accepted,
            503 if answer.says_when => Self::Later,
            status => Self::Otherwise(status),
        }
    }
}

impl Api {
    /// At this address, with this token.
    pub(crate) fn new(address: SocketAddr, token: String) -> Self {
        Self { address, token }
    }

    /// Publishes an event. Name and text stand in a form as they are.
    pub(crate) fn publish(&self, name: &str, text: &str, patience: Duration) -> Told {
        let form = format!("name={name}&data={text}");
        let head = "Content-Type: application/x-www-form-urlencoded\r\nConnection: close\r\n";
        let answer = self.call("POST", "/v1/devices/events", head, &form, patience);
        answer.map_or(Told::Nothing, |answer| Told::from(&answer))
    }

    /// Has a device pinged; whether it answered.
    pub(crate) fn ping(&self, device: DeviceId, patience: Duration) -> bool {
        let answer = self.call("PUT", &format!("/v1/devices/{device}/ping"), "Connection: close\r\n", "", patience);
        answer.is_ok_and(|answer| answer.status == 200 && answer.body.contains("\"online\":true"))
    }

    /// Reads a variable of a device; whether it was told.
    pub(crate) fn read(&self, device: DeviceId, variable: &str, patience: Duration) -> bool {
        let answer = self.call("GET", &format!("/v1/devices/{device}/{variable}"), "Connection: close\r\n", "", patience);
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// Opens the stream of all events, from after this position or from now on. What comes ends with the connection and is in no chunks.
    pub(crate) fn stream(&self, after: Option<u64>, patience: Duration) -> Result<TcpStream> {
        let continued = after.map(|after| format!("Last-Event-ID: {after}\r\n")).unwrap_or_default();
        let request = self.request("GET", "/v1/devices/events", "1.0", &continued, "");
        Ok(http::send(self.address, request.as_bytes(), patience)?)
    }

    /// Opens the stream of one device's events, as clients do.
    pub(crate) fn stream_of(&self, device: DeviceId, patience: Duration) -> Result<TcpStream> {
        let request = self.request("GET", &format!("/v1/devices/{device}/events"), "1.1", "", "");
        Ok(http::send(self.address, request.as_bytes(), patience)?)
    }

    /// What a request with this body, or with none, is answered.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>, patience: Duration) -> Result<Answer> {
        let head = "Content-Type: application/json\r\nConnection: close\r\n";
        self.call(method, path, head, &body.map(Value::to_string).unwrap_or_default(), patience)
    }

    fn call(&self, method: &str, path: &str, head: &str, body: &str, patience: Duration) -> Result<Answer> {
        Ok(http::call(self.address, self.request(method, path, "1.1", head, body).as_bytes(), patience)?)
    }

    /// Whom it asks.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// With what.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The same caller of another server.
    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, token: self.token.clone() }
    }

    /// A request as it is sent.
    pub(crate) fn request(&self, method: &str, path: &str, version: &str, head: &str, body: &str) -> String {
        let Self { address, token } = self;
        format!(
            "{method} {path} HTTP/{version}\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_503_that_says_when_to_come_again_is_a_refusal_in_words() {
        let told = |status, says_when| Told::from(&Answer { status, says_when, body: String::new() });
        assert_eq!([told(200, false), told(503, true)], [Told::Accepted, Told::Later]);
        assert_eq!([told(503, false), told(429, true)], [Told::Otherwise(503), Told::Otherwise(429)]);
    }

    #[test]
    fn where_nobody_listens_a_caller_is_told_nothing() -> Result<()> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let api = Api::new(address, "t".into());
        assert_eq!(api.publish("n", "1", Duration::from_secs(1)), Told::Nothing);
        assert!(!api.ping(DeviceId([1; 12]), Duration::from_secs(1)) && api.stream(None, Duration::from_secs(1)).is_err());
        Ok(())
    }
}
