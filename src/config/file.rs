//! What can be typed: the file's shape, with every key optional and its default beside it. Nothing here is checked.

use serde::Deserialize;

use super::Limit;

/// The whole file.
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) data_dir: String,
    pub(super) udp: UdpSection,
    pub(super) tcp: TcpSection,
    pub(super) shards: ShardsSection,
    pub(super) http: HttpSection,
    pub(super) admin: AdminSection,
    pub(super) accounts: AccountsSection,
    pub(super) mail: MailSection,
    pub(super) calls: CallsSection,
    pub(super) handshakes: HandshakesSection,
    pub(super) limits: LimitsSection,
    pub(super) secrets: SecretsSection,
    pub(super) journal: JournalSection,
    pub(super) webhooks: WebhooksSection,
    pub(super) history: HistorySection,
    pub(super) watchdog: WatchdogSection,
    pub(super) log: LogSection,
}

impl Default for File {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            udp: UdpSection::default(),
            tcp: TcpSection::default(),
            shards: ShardsSection::default(),
            http: HttpSection::default(),
            admin: AdminSection::default(),
            accounts: AccountsSection::default(),
            mail: MailSection::default(),
            calls: CallsSection::default(),
            handshakes: HandshakesSection::default(),
            limits: LimitsSection::default(),
            secrets: SecretsSection::default(),
            journal: JournalSection::default(),
            webhooks: WebhooksSection::default(),
            history: HistorySection::default(),
            watchdog: WatchdogSection::default(),
            log: LogSection::default(),
        }
    }
}

/// `[udp]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UdpSection {
    pub(super) listen: String,
    pub(super) workers: Workers,
}

impl Default for UdpSection {
    fn default() -> Self {
        Self { listen: "[::]:5684".into(), workers: Workers::Word("auto".into()) }
    }
}

/// A number of threads or a word.
#[derive(Deserialize, Debug)]
#[serde(untagged, expecting = "workers takes a number or \"auto\"")]
pub(super) enum Workers {
    Number(i64),
    Word(String),
}

/// `[tcp]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TcpSection {
    pub(super) listen: String,
    pub(super) connections: Limit,
}

impl Default for TcpSection {
    fn default() -> Self {
        Self { listen: "[::]:5683".into(), connections: Limit::AtMost(10_000) }
    }
}

/// `[shards]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ShardsSection {
    pub(super) count: i64,
}

impl Default for ShardsSection {
    fn default() -> Self {
        Self { count: 16 }
    }
}

/// `[http]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpSection {
    pub(super) listen: String,
    pub(super) insecure_http: bool,
    pub(super) public_url: String,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) connections: Limit,
    pub(super) streams: Limit,
    pub(super) streams_per_address: Limit,
    pub(super) requests_per_address: Limit,
    pub(super) tls: TlsSection,
}

impl Default for HttpSection {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".into(),
            insecure_http: false,
            public_url: String::new(),
            trusted_proxies: Vec::new(),
            connections: Limit::AtMost(8192),
            streams: Limit::AtMost(4096),
            streams_per_address: Limit::Unlimited,
            requests_per_address: Limit::Unlimited,
            tls: TlsSection::default(),
        }
    }
}

/// `[http.tls]`
#[derive(Deserialize, Debug, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsSection {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// `[admin]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdminSection {
    pub(super) listen: String,
}

impl Default for AdminSection {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8081".into() }
    }
}

/// `[accounts]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AccountsSection {
    pub(super) sign_up: String,
    pub(super) failed_logins: Limit,
    pub(super) logins_per_address: Limit,
}

impl Default for AccountsSection {
    fn default() -> Self {
        Self { sign_up: "closed".into(), failed_logins: Limit::AtMost(100), logins_per_address: Limit::AtMost(1000) }
    }
}

/// `[mail]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MailSection {
    pub(super) server: String,
    pub(super) security: String,
    pub(super) user: String,
    pub(super) password_file: String,
    pub(super) from: String,
}

impl Default for MailSection {
    fn default() -> Self {
        let none = String::new;
        Self { server: none(), security: "starttls".into(), user: none(), password_file: none(), from: none() }
    }
}

/// `[calls]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CallsSection {
    pub(super) timeout_s: i64,
    pub(super) at_once: Limit,
    pub(super) at_once_per_account: Limit,
}

impl Default for CallsSection {
    fn default() -> Self {
        Self { timeout_s: 30, at_once: Limit::AtMost(2048), at_once_per_account: Limit::AtMost(1024) }
    }
}

/// `[handshakes]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HandshakesSection {
    pub(super) half_open_per_address: Limit,
    pub(super) half_open: Limit,
    pub(super) half_open_life_s: i64,
    pub(super) per_second: Limit,
}

impl Default for HandshakesSection {
    fn default() -> Self {
        Self {
            half_open_per_address: Limit::AtMost(256),
            half_open: Limit::AtMost(65_536),
            half_open_life_s: 60,
            per_second: Limit::Unlimited,
        }
    }
}

/// `[limits]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsSection {
    pub(super) device_events_per_s: Limit,
    pub(super) owner_events_per_s: Limit,
    pub(super) device_records_per_s: Limit,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self { device_events_per_s: Limit::AtMost(20), owner_events_per_s: Limit::Unlimited, device_records_per_s: Limit::AtMost(200) }
    }
}

/// `[journal]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JournalSection {
    pub(super) keep_for_s: Limit,
    pub(super) keep_bytes: Limit,
}

impl Default for JournalSection {
    fn default() -> Self {
        Self { keep_for_s: Limit::AtMost(3 * 24 * 3600), keep_bytes: Limit::AtMost(8 << 30) }
    }
}

/// `[secrets]`
#[derive(Deserialize, Debug, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SecretsSection {
    pub(super) master_key_file: String,
}

/// `[webhooks]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebhooksSection {
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    pub(super) ports: Vec<String>,
    pub(super) plain_http: bool,
    pub(super) certificates: String,
    pub(super) at_once: i64,
    pub(super) pending_hours: i64,
    pub(super) pending_bytes: Limit,
    pub(super) keep_days: i64,
    pub(super) keep_bytes: Limit,
}

impl Default for WebhooksSection {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            deny: Vec::new(),
            ports: ["80", "443", "1024-65535"].map(str::to_owned).to_vec(),
            plain_http: true,
            certificates: String::new(),
            at_once: 1_024,
            pending_hours: 72,
            pending_bytes: Limit::AtMost(1 << 30),
            keep_days: 7,
            keep_bytes: Limit::AtMost(4 << 30),
        }
    }
}

/// `[history]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HistorySection {
    pub(super) days: i64,
    pub(super) bytes: Limit,
}

impl Default for HistorySection {
    fn default() -> Self {
        Self { days: 31, bytes: Limit::AtMost(4 << 30) }
    }
}

/// `[watchdog]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WatchdogSection {
    pub(super) cure: String,
}

impl Default for WatchdogSection {
    fn default() -> Self {
        Self { cure: "takeover".into() }
    }
}

/// `[log]`
#[derive(Deserialize, Debug)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogSection {
    pub(super) format: String,
    pub(super) filter: String,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { format: "text".into(), filter: "info".into() }
    }
}
