//! Tokens and passwords reach no log, whatever is logged.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::rig::{DEVICE, PASSWORD, Rig};

/// Everything that was logged.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn no_secret_is_logged() {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(captured.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let rig = Rig::start_online().await;
    let login = rig.log_in("", "username=dev%40example.com&password=correct%20horse&grant_type=password").await.json();
    let second = login["access_token"].as_str().unwrap();
    rig.get(&format!("/v1/devices/{DEVICE}/temp?access_token={second}")).await;
    rig.get("/v1/devices/nothing").await;
    rig.form("POST", "/v1/devices/events", &format!("access_token={second}&name=e")).await;
    rig.bare("GET", &format!("/v1/nothing/{second}")).await;
    rig.bare("DELETE", &format!("/v1/access_tokens/{second}")).await;

    let log = String::from_utf8_lossy(&captured.0.lock().unwrap()).into_owned();
    assert!(log.contains("/v1/access_tokens/{token}") && log.contains("answered"), "{log}");
    for secret in [rig.token.as_str(), second, login["refresh_token"].as_str().unwrap(), PASSWORD, "correct%20horse"] {
        assert!(!log.contains(secret), "{log}");
    }
}
