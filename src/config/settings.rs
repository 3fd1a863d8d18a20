//! What is in effect, key by key as text: to be compared with what was in effect before, and as one short hash by which two servers are told apart.
//!
//! Nothing secret is in it: a password in a URL is left out, and so is what files hold.

use std::collections::BTreeMap;

use openssl::sha::sha256;
use router::takeover::Cure;

use crate::store::KeySource;

use super::webhooks as webhook_settings;
use super::{
    Accounts, Admin, Calls, Config, Handshakes, History, Http, Journal, Limits, Log, LogFormat, Mail, MailSecurity, Secrets, Shards,
    SignUp, Tcp, Udp, Watchdog,
};

/// Bytes of the hash that are shown: enough to tell configurations apart, and short enough to be read aloud.
const HASH_BYTES: usize = 8;

/// Each key with its value. What was found out, such as the number of processors, stands instead of the word that asks for it.
pub type Settings = BTreeMap<String, String>;

impl Config {
    /// What is in effect.
    pub fn settings(&self) -> Settings {
        // In parts, so that what is new cannot be forgotten here.
        let Config {
            data_dir,
            udp,
            tcp,
            shards,
            http,
            admin,
            accounts,
            mail,
            calls,
            handshakes,
            limits,
            secrets,
            journal,
            history,
            webhooks,
            watchdog,
            log,
        } = self;
        let (Udp { listen: udp_listen, workers }, Tcp { listen: tcp_listen, connections: tcp_connections }) = (udp, tcp);
        let (Shards { count }, Admin { listen: admin_listen }, Calls { timeout, at_once, at_once_per_account }) = (shards, admin, calls);
        let Http { listen: http_listen, insecure_http, public_url, trusted_proxies, tls, connections, streams, .. } = http;
        let Http { streams_per_address, requests_per_address, .. } = http;
        let Accounts { sign_up, failed_logins, logins_per_address } = accounts;
        let Handshakes { half_open_per_address, half_open, half_open_life, per_second } = handshakes;
        let Limits { device_events_per_s, owner_events_per_s, device_records_per_s } = limits;
        let Secrets { keys } = secrets;
        let Watchdog { cure } = watchdog;
        let (Journal { keep_for_s, keep_bytes }, History { age, bytes }, Log { format, filter }) = (journal, history, log);
        let file = |path: Option<&std::path::PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
        let proxies: Vec<String> = trusted_proxies.iter().map(ToString::to_string).collect();
        let sign_up = match sign_up {
            SignUp::Closed => "closed",
            SignUp::Open => "open",
        };
        let cure = match cure {
            Cure::Takeover => "takeover",
            Cure::Restart => "restart",
            Cure::None => "none",
        };
        let format = match format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        [
            ("data_dir", data_dir.display().to_string()),
            ("udp.listen", udp_listen.to_string()),
            ("udp.workers", workers.to_string()),
            ("tcp.listen", tcp_listen.to_string()),
            ("tcp.connections", tcp_connections.to_string()),
            ("shards.count", count.to_string()),
            ("http.listen", http_listen.to_string()),
            ("http.insecure_http", insecure_http.to_string()),
            ("http.public_url", public_url.as_deref().map(without_password).unwrap_or_default()),
            ("http.trusted_proxies", proxies.join(", ")),
            ("http.connections", connections.to_string()),
            ("http.streams", streams.to_string()),
            ("http.streams_per_address", streams_per_address.to_string()),
            ("http.requests_per_address", requests_per_address.to_string()),
            ("http.tls.certificate", file(tls.as_ref().map(|tls| &tls.certificate))),
            ("http.tls.key", file(tls.as_ref().map(|tls| &tls.key))),
            ("admin.listen", admin_listen.to_string()),
            ("accounts.sign_up", sign_up.to_owned()),
            ("accounts.failed_logins", failed_logins.to_string()),
            ("accounts.logins_per_address", logins_per_address.to_string()),
            ("calls.timeout_s", timeout.as_secs().to_string()),
            ("calls.at_once", at_once.to_string()),
            ("calls.at_once_per_account", at_once_per_account.to_string()),
            ("handshakes.half_open_per_address", half_open_per_address.to_string()),
            ("handshakes.half_open", half_open.to_string()),
            ("handshakes.half_open_life_s", half_open_life.as_secs().to_string()),
            ("handshakes.per_second", per_second.to_string()),
            ("limits.device_events_per_s", device_events_per_s.to_string()),
            ("limits.owner_events_per_s", owner_events_per_s.to_string()),
            ("limits.device_records_per_s", device_records_per_s.to_string()),
            ("secrets.master_key_file", if let KeySource::Given(path) = keys { path.display().to_string() } else { String::new() }),
            ("journal.keep_for_s", keep_for_s.to_string()),
            ("journal.keep_bytes", keep_bytes.to_string()),
            ("history.days", (age.as_secs() / 86_400).to_string()),
            ("history.bytes", bytes.to_string()),
            ("watchdog.cure", cure.to_owned()),
            ("log.format", format.to_owned()),
            ("log.filter", filter.clone()),
        ]
        .into_iter()
        .chain(mail_settings(mail.as_ref()))
        .chain(webhook_settings::settings(webhooks))
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
    }
}

fn mail_settings(mail: Option<&Mail>) -> [(&'static str, String); 5] {
    let text = |of: fn(&Mail) -> String| mail.map(of).unwrap_or_default();
    let security = match mail.map_or(MailSecurity::StartTls, |mail| mail.security) {
        MailSecurity::StartTls => "starttls",
        MailSecurity::Tls => "tls",
        MailSecurity::None => "none",
    };
    let login = mail.and_then(|mail| mail.login.as_ref());
    [
        ("mail.server", text(|mail| format!("{}:{}", mail.host, mail.port))),
        ("mail.security", security.to_owned()),
        ("mail.user", login.map(|login| login.user.clone()).unwrap_or_default()),
        ("mail.password_file", login.map(|login| login.password_file.display().to_string()).unwrap_or_default()),
        ("mail.from", text(|mail| mail.from.to_string())),
    ]
}

/// A short name of what is in effect: the same for the same settings, on whatever machine.
pub fn hash(settings: &Settings) -> String {
    let lines: String = settings.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    hex::encode(&sha256(lines.as_bytes())[..HASH_BYTES])
}

/// A URL without what stands before the `@` of its authority.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::super::environment::KEYS;
    use super::*;

    #[test]
    fn every_key_is_there() {
        let known: BTreeMap<String, ()> = KEYS.iter().map(|(path, _)| (path.join("."), ())).collect();
        let settings = Config::default().settings();
        assert_eq!(settings.keys().collect::<Vec<_>>(), known.keys().collect::<Vec<_>>());
    }

    #[test]
    fn the_hash_tells_configurations_apart_and_nothing_else() {
        let hash_of = |text: &str| hash(&Config::parse(text, []).unwrap().settings());
        assert_eq!(hash_of(""), hash_of("[udp]\nworkers = \"auto\""));
        assert_ne!(hash_of(""), hash_of("[limits]\ndevice_events_per_s = 19"));
        assert_eq!(hash_of("").len(), 2 * HASH_BYTES);
    }

    #[test]
    fn a_password_in_a_url_is_left_out() {
        for (url, shown) in [
            ("https://me:secret@cloud.example.com/a@b", "https://cloud.example.com/a@b"),
            ("https://cloud.example.com", "https://cloud.example.com"),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
