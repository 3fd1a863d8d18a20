//! Tests of the configuration as a whole.

use super::environment::KEYS;
use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, [])
}

fn with_variables(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::parse("", variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn complaint(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn the_shipped_file_says_what_the_defaults_are() {
    assert_eq!(parse(DEFAULT_FILE).expect("the shipped file is good"), Config::default());
    assert_eq!(parse("").expect("an empty file is good"), Config::default());
}

#[test]
fn every_key_is_in_the_shipped_file_and_has_a_variable() {
    let mut shipped = Vec::new();
    keys_of(&DEFAULT_FILE.parse().expect("the shipped file is TOML"), &mut Vec::new(), &mut shipped);
    let mut known: Vec<String> = KEYS.iter().map(|(path, _)| path.join(".")).collect();
    shipped.sort();
    known.sort();
    assert_eq!(shipped, known);
}

fn keys_of(table: &toml::Table, path: &mut Vec<String>, keys: &mut Vec<String>) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            toml::Value::Table(inner) => keys_of(inner, path, keys),
            _ => keys.push(path.join(".")),
        }
        path.pop();
    }
}

#[test]
fn unknown_keys_are_errors_that_name_the_key() {
    for (text, key) in
        [("dta_dir = 'x'", "dta_dir"), ("[http]\nlisten_on = 1", "listen_on"), ("[htp]\n", "htp"), ("[http.tls]\nca = ''", "ca")]
    {
        let complaint = complaint(text);
        assert!(complaint.contains(key), "{complaint}");
    }
}

#[test]
fn each_check_names_its_key() {
    for (text, key) in [
        ("data_dir = ''", "data_dir"),
        ("udp.listen = '5684'", "udp.listen"),
        ("udp.workers = 0", "udp.workers"),
        ("udp.workers = 257", "udp.workers"),
        ("udp.workers = 'many'", "udp.workers"),
        ("shards.count = 0", "shards.count"),
        ("shards.count = -3", "shards.count"),
        ("http.listen = 'localhost:8080'", "http.listen"),
        ("http.public_url = 'cloud.example.com'", "http.public_url"),
        ("http.public_url = 'ftp://cloud.example.com'", "http.public_url"),
        ("http.trusted_proxies = ['10.0.0.0/99']", "http.trusted_proxies"),
        ("http.tls.certificate = 'Cargo.toml'", "http.tls.key"),
        ("http.tls = { certificate = 'no such file', key = 'Cargo.toml' }", "http.tls.certificate"),
        ("http.connections = 0", "connections"),
        ("http.streams = 'none'", "streams"),
        ("admin.listen = '127.0.0.1:8080'", "admin.listen"),
        ("accounts.sign_up = 'maybe'", "accounts.sign_up"),
        ("accounts.failed_logins = 0", "failed_logins"),
        ("calls.timeout_s = 0", "calls.timeout_s"),
        ("handshakes.half_open = 0", "half_open"),
        ("handshakes.half_open_per_address = -1", "half_open_per_address"),
        ("handshakes.half_open_life_s = 4", "handshakes.half_open_life_s"),
        ("watchdog.cure = 'prayer'", "watchdog.cure"),
        ("log.format = 'xml'", "log.format"),
        ("log.filter = 'info,=='", "log.filter"),
    ] {
        let complaint = complaint(text);
        assert!(complaint.contains(key), "{text}: {complaint}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let ConfigError::Values(problems) = parse("shards.count = 0\nlog.format = 'xml'").expect_err("two problems") else {
        panic!("values were wrong")
    };
    assert_eq!(problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(), ["shards.count", "log.format"]);
}

#[test]
fn plain_http_beyond_loopback_has_to_be_asked_for() {
    for key in ["http", "admin"] {
        for address in ["0.0.0.0:9000", "[::]:9000", "192.0.2.1:9000"] {
            let exposed = format!("{key}.listen = '{address}'");
            assert!(complaint(&exposed).contains(&format!("{key}.listen")), "{exposed}");
            assert!(parse(&format!("{exposed}\nhttp.insecure_http = true")).is_ok(), "{exposed}");
            assert!(parse(&format!("{exposed}\nhttp.tls = {{ certificate = 'Cargo.toml', key = 'Cargo.toml' }}")).is_ok(), "{exposed}");
        }
    }
    for address in ["127.0.0.1:9000", "127.8.8.8:9000", "[::1]:9000", "[::ffff:127.0.0.1]:9000"] {
        assert!(parse(&format!("http.listen = '{address}'")).is_ok(), "{address}");
    }
}

#[test]
fn variables_win_over_the_file() {
    let variables = [
        ("HOLDFAST_DATA_DIR", "/srv/holdfast"),
        ("HOLDFAST_UDP_WORKERS", "3"),
        ("HOLDFAST_HTTP_LISTEN", "0.0.0.0:80"),
        ("HOLDFAST_HTTP_INSECURE_HTTP", "true"),
        ("HOLDFAST_HTTP_TRUSTED_PROXIES", "10.0.0.1, fd00::/8"),
        ("HOLDFAST_HTTP_STREAMS", "unlimited"),
        ("HOLDFAST_CALLS_TIMEOUT_S", "5"),
        ("HOLDFAST_LOG_FORMAT", "json"),
        ("HOLDFAST_SERVICE_HOST", "10.1.1.1"),
        ("HOLDFAST_PORT_8080_TCP_PROTO", "tcp"),
        ("HOLDFAST_CONFIG", "/etc/holdfast.toml"),
        ("PATH", "/bin"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = Config::parse("data_dir = 'elsewhere'\nudp.workers = 'auto'", variables).expect("all is good");
    assert_eq!(config.data_dir, Path::new("/srv/holdfast"));
    assert_eq!(config.udp.workers.get(), 3);
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.http.trusted_proxies.len(), 2);
    assert_eq!(config.http.streams, Limit::Unlimited);
    assert_eq!(config.calls.timeout, Duration::from_secs(5));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn a_variable_that_means_nothing_is_an_error() {
    for (name, value) in [("HOLDFAST_HTTP_LISTNE", "x"), ("HOLDFAST_CALLS_TIMEOUT_S", "soon"), ("HOLDFAST_HTTP_INSECURE_HTTP", "yes")] {
        let complaint = with_variables(&[(name, value)]).expect_err(name).to_string();
        assert!(complaint.contains(name), "{complaint}");
    }
}

#[test]
fn the_public_url_falls_back_to_the_address() {
    assert_eq!(Config::default().public_url(), "http://127.0.0.1:8080");
    let config = parse("http.public_url = 'https://cloud.example.com/things/'").expect("a good URL");
    assert_eq!(config.public_url(), "https://cloud.example.com/things");
}
