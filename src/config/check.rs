//! The rules: from what was typed to what is ready. All problems are found in one pass, each with its key.

use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use axum::http::Uri;
use router::takeover::Cure;
use tracing_subscriber::EnvFilter;

use super::file::{File, HttpSection, MailSection, TlsSection, Workers};
use super::webhooks;
use super::{
    Accounts, Admin, Calls, Config, ConfigError, Handshakes, History, Http, Journal, Limits, Log, LogFormat, Mail, MailLogin, MailSecurity,
    Network, Password, Problem, Secrets, Shards, SignUp, Tcp, Tls, Udp, Watchdog,
};

use crate::store::KeySource;

const WORKERS: RangeInclusive<i64> = 1..=256;
const SHARDS: RangeInclusive<i64> = 1..=256;
const CALL_TIMEOUT_S: RangeInclusive<i64> = 1..=300;
const HISTORY_DAYS: RangeInclusive<i64> = 1..=3_660;
const DAY: Duration = Duration::from_secs(24 * 3600);
const CURES: [(&str, Cure); 3] = [("takeover", Cure::Takeover), ("restart", Cure::Restart), ("none", Cure::None)];
const MAIL_SECURITIES: [(&str, MailSecurity); 3] =
    [("starttls", MailSecurity::StartTls), ("tls", MailSecurity::Tls), ("none", MailSecurity::None)];
const HALF_OPEN_LIFE_S: RangeInclusive<i64> = 5..=600;

/// Turns `file` into a configuration, or into the list of everything that is wrong with it.
pub(super) fn check(file: File) -> Result<Config, ConfigError> {
    let mut problems = Problems::default();
    let config = Config {
        data_dir: data_dir(&mut problems, file.data_dir),
        udp: Udp { listen: address(&mut problems, "udp.listen", &file.udp.listen), workers: workers(&mut problems, &file.udp.workers) },
        tcp: Tcp { listen: address(&mut problems, "tcp.listen", &file.tcp.listen), connections: file.tcp.connections },
        shards: Shards { count: count(number(&mut problems, "shards.count", file.shards.count, SHARDS)) },
        http: http(&mut problems, file.http),
        admin: Admin { listen: address(&mut problems, "admin.listen", &file.admin.listen) },
        accounts: Accounts {
            sign_up: word(&mut problems, "accounts.sign_up", &file.accounts.sign_up, &[("closed", SignUp::Closed), ("open", SignUp::Open)]),
            failed_logins: file.accounts.failed_logins,
            logins_per_address: file.accounts.logins_per_address,
        },
        mail: mail(&mut problems, &file.mail),
        calls: Calls {
            timeout: seconds(&mut problems, "calls.timeout_s", file.calls.timeout_s, CALL_TIMEOUT_S),
            at_once: file.calls.at_once,
            at_once_per_account: file.calls.at_once_per_account,
        },
        handshakes: Handshakes {
            half_open_per_address: file.handshakes.half_open_per_address,
            half_open: file.handshakes.half_open,
            half_open_life: seconds(&mut problems, "handshakes.half_open_life_s", file.handshakes.half_open_life_s, HALF_OPEN_LIFE_S),
            per_second: file.handshakes.per_second,
        },
        limits: Limits {
            device_events_per_s: file.limits.device_events_per_s,
            owner_events_per_s: file.limits.owner_events_per_s,
            device_records_per_s: file.limits.device_records_per_s,
        },
        secrets: Secrets { keys: master_key_file(file.secrets.master_key_file) },
        journal: Journal { keep_for_s: file.journal.keep_for_s, keep_bytes: file.journal.keep_bytes },
        webhooks: webhooks::check(&mut problems, file.webhooks),
        history: History { age: DAY * days(&mut problems, file.history.days), bytes: file.history.bytes },
        watchdog: Watchdog { cure: word(&mut problems, "watchdog.cure", &file.watchdog.cure, &CURES) },
        log: Log {
            format: word(&mut problems, "log.format", &file.log.format, &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
            filter: filter(&mut problems, file.log.filter),
        },
    };
    exposure(&mut problems, &config, "http.listen", config.http.listen);
    exposure(&mut problems, &config, "admin.listen", config.admin.listen);
    if config.http.listen == config.admin.listen && config.http.listen.port() != 0 {
        problems.add("admin.listen", "is the address of http.listen too; each needs its own");
    }
    problems.none_or(config)
}

/// What has been found wrong so far.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn add(&mut self, key: &str, text: impl Display) {
        self.0.push(Problem { key: key.to_owned(), text: text.to_string() });
    }

    fn none_or(self, config: Config) -> Result<Config, ConfigError> {
        if self.0.is_empty() { Ok(config) } else { Err(ConfigError::Values(self.0)) }
    }
}

/// Stands in for a value that failed, so that the pass can go on; the configuration is never handed out then.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn data_dir(problems: &mut Problems, text: String) -> PathBuf {
    if text.is_empty() {
        problems.add("data_dir", "must name a directory");
    }
    PathBuf::from(text)
}

/// The file itself is read when the registry is opened, by whoever may read it.
fn master_key_file(text: String) -> KeySource {
    if text.is_empty() { KeySource::Own } else { KeySource::Given(PathBuf::from(text)) }
}

fn address(problems: &mut Problems, key: &str, text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| {
        problems.add(key, format_args!("{text:?} is not an address with a port, such as 127.0.0.1:8080 or [::]:5684"));
        NO_ADDRESS
    })
}

pub(super) fn number(problems: &mut Problems, key: &str, value: i64, range: RangeInclusive<i64>) -> u64 {
    if !range.contains(&value) {
        problems.add(key, format_args!("{value} is not a number from {} to {}", range.start(), range.end()));
    }
    u64::try_from(value).unwrap_or(1)
}

fn count(value: u64) -> NonZeroUsize {
    usize::try_from(value).ok().and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

fn seconds(problems: &mut Problems, key: &str, value: i64, range: RangeInclusive<i64>) -> Duration {
    Duration::from_secs(number(problems, key, value, range))
}

fn days(problems: &mut Problems, value: i64) -> u32 {
    u32::try_from(number(problems, "history.days", value, HISTORY_DAYS)).unwrap_or(1)
}

fn workers(problems: &mut Problems, workers: &Workers) -> NonZeroUsize {
    const KEY: &str = "udp.workers";
    match workers {
        Workers::Number(value) => count(number(problems, KEY, *value, WORKERS)),
        Workers::Word(word) => {
            if word != "auto" {
                problems.add(KEY, format_args!("{word:?} is neither a number nor \"auto\""));
            }
            thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
        }
    }
}

fn word<T: Copy>(problems: &mut Problems, key: &str, text: &str, words: &[(&str, T)]) -> T {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return *value;
    }
    let known: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
    problems.add(key, format_args!("{text:?} is none of {}", known.join(", ")));
    words[0].1
}

fn filter(problems: &mut Problems, text: String) -> String {
    if let Err(error) = EnvFilter::try_new(&text) {
        problems.add("log.filter", error);
    }
    text
}

fn http(problems: &mut Problems, section: HttpSection) -> Http {
    Http {
        listen: address(problems, "http.listen", &section.listen),
        insecure_http: section.insecure_http,
        public_url: public_url(problems, &section.public_url),
        trusted_proxies: section.trusted_proxies.iter().filter_map(|text| proxy(problems, text)).collect(),
        tls: tls(problems, &section.tls),
        connections: section.connections,
        streams: section.streams,
        streams_per_address: section.streams_per_address,
        requests_per_address: section.requests_per_address,
    }
}

fn public_url(problems: &mut Problems, text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let url = text.parse::<Uri>().ok().filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.query().is_none());
    if url.is_none() {
        problems.add("http.public_url", format_args!("{text:?} is not a URL such as https://cloud.example.com"));
    }
    Some(text.trim_end_matches('/').to_owned())
}

fn proxy(problems: &mut Problems, text: &str) -> Option<Network> {
    text.parse().inspect_err(|error| problems.add("http.trusted_proxies", format_args!("{text:?} {error}"))).ok()
}

fn tls(problems: &mut Problems, section: &TlsSection) -> Option<Tls> {
    let files = [("http.tls.certificate", &section.certificate), ("http.tls.key", &section.key)];
    if files.iter().all(|(_, path)| path.is_empty()) {
        return None;
    }
    for (key, path) in files {
        if path.is_empty() {
            problems.add(key, "is missing; certificate and key go together");
        } else if let Err(error) = fs::File::open(path) {
            problems.add(key, format_args!("{path:?} cannot be read: {error}"));
        }
    }
    Some(Tls { certificate: PathBuf::from(&section.certificate), key: PathBuf::from(&section.key) })
}

fn mail(problems: &mut Problems, section: &MailSection) -> Option<Mail> {
    let security = word(problems, "mail.security", &section.security, &MAIL_SECURITIES);
    let login = mail_login(problems, section);
    if section.server.is_empty() {
        for (key, text) in [("mail.user", &section.user), ("mail.from", &section.from)] {
            if !text.is_empty() {
                problems.add(key, "says nothing without mail.server");
            }
        }
        return None;
    }
    let server = section.server.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = server.filter(|(host, port)| !host.is_empty() && *port > 0) else {
        problems.add("mail.server", format_args!("{:?} is no name with a port, such as smtp.example.com:587", section.server));
        return None;
    };
    let from =
        section.from.parse().inspect_err(|_| problems.add("mail.from", format_args!("{:?} is no address of mail", section.from))).ok()?;
    Some(Mail { host: host.trim_matches(['[', ']']).to_owned(), port, security, login, from })
}

fn mail_login(problems: &mut Problems, section: &MailSection) -> Option<MailLogin> {
    let MailSection { user, password_file, .. } = section;
    if user.is_empty() != password_file.is_empty() {
        problems.add("mail.user", "and mail.password_file go together");
    }
    if password_file.is_empty() {
        return None;
    }
    let read = fs::read_to_string(password_file);
    let text =
        read.inspect_err(|error| problems.add("mail.password_file", format_args!("{password_file:?} cannot be read: {error}"))).ok()?;
    let password = Password::new(text.trim_end_matches(['\r', '\n']).to_owned());
    Some(MailLogin { user: user.clone(), password_file: PathBuf::from(password_file), password })
}

/// Tokens and figures must not cross a network in the clear by accident.
fn exposure(problems: &mut Problems, config: &Config, key: &str, listen: SocketAddr) {
    if !listen.ip().to_canonical().is_loopback() && config.http.tls.is_none() && !config.http.insecure_http {
        problems.add(
            key,
            format_args!(
                "{listen} can be reached by other machines without TLS. Set http.tls.certificate and http.tls.key, or a loopback address, \
                 or, behind a proxy that ends TLS, http.insecure_http = true"
            ),
        );
    }
}
