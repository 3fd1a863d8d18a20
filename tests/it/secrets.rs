//! What must not be seen is not seen: tokens, passwords and codes, in every place where they may stand, leave no trace in what the server says of itself.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast::store::Registry;

use crate::cli::{Server, Shell, free_tcp};
use crate::client::{Answer, send_and_wait};

const EMAIL: &str = "dev@example.com";
/// As `Shell::add_user` has it.
const PASSWORD: &str = "correct horse";
const WRONG_PASSWORD: &str = "zebra crossing 77";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";

/// A server, what it said, and what nobody may have seen of it.
struct Watched {
    server: Server,
    secrets: Vec<String>,
    said: Vec<String>,
}

impl Watched {
    /// A request whose answer must not have a secret in it.
    fn ask(&mut self, head: &str, body: &str) -> Answer {
        let answer = self.ask_for_secret(head, body);
        self.said.push(answer.text());
        answer
    }

    fn ask_for_secret(&self, head: &str, body: &str) -> Answer {
        send_and_wait(self.server.port, &format!("{head}\r\nContent-Length: {}", body.len()), body)
    }

    /// A token of this login or refresh, whose two halves are secrets from now on.
    fn log_in(&mut self, form: &str) -> (String, String) {
        let body = self.ask_for_secret(&format!("POST /oauth/token HTTP/1.1\r\n{FORM}"), form).json();
        let text = |field: &str| body[field].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
        let (access, refresh) = (text("access_token"), text("refresh_token"));
        self.secrets.extend([access.clone(), refresh.clone()]);
        (access, refresh)
    }
}

/// A token in each place where one may stand, of requests that are served and of some that are not.
fn use_token(watched: &mut Watched, token: &str) {
    let json = serde_json::json!({ "access_token": token, "name": "x", "args": "y" }).to_string();
    let device = "e00fce68aabbccddeeff0011";
    for (head, body) in [
        (format!("GET /v1/user HTTP/1.1\r\nAuthorization: Bearer {token}"), String::new()),
        (format!("GET /v1/user?access_token={token} HTTP/1.1"), String::new()),
        (format!("GET /v1/devices/?access_token={token} HTTP/1.1"), String::new()),
        (format!("GET /v1/nothing/{token}?access_token={token} HTTP/1.1"), String::new()),
        (format!("GET /v1/devices/{device}?access_token={token} HTTP/1.1"), String::new()),
        (format!("GET /v1/devices/{token}?access_token={token} HTTP/1.1"), String::new()),
        (format!("PUT /v1/devices/{device} HTTP/1.1\r\n{FORM}"), format!("access_token={token}&signal=1")),
        (format!("POST /v1/devices/{device}/led HTTP/1.1\r\n{JSON}"), json.clone()),
        (format!("POST /v1/devices/events HTTP/1.1\r\n{JSON}"), json),
        (format!("POST /v1/devices/events HTTP/1.1\r\n{JSON}"), format!("{{\"access_token\":\"{token}\"")),
        (format!("POST /v1/devices/events HTTP/1.1\r\n{FORM}"), format!("access_token={token}&name=spark/x&ttl={token}")),
        (format!("GET /v1/access_tokens/current HTTP/1.1\r\nAuthorization: Bearer {token}"), String::new()),
        (format!("PATCH /v1/user?access_token={token} HTTP/1.1"), String::new()),
        (
            format!("PUT /v1/devices/{device}?access_token={token} HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x"),
            "--x--".to_owned(),
        ),
    ] {
        watched.ask(&head, &body);
    }
}

#[test]
fn no_secret_stands_in_a_log_line_a_metric_a_refusal_or_the_log_of_acts() {
    let shell = Shell::new();
    shell.add_user(EMAIL);
    let admin = free_tcp();
    let server = Server::start_with(&shell, |command| {
        command.env("HOLDFAST_ADMIN_LISTEN", admin.to_string());
    });
    let mut watched = Watched { server, secrets: vec![PASSWORD.into(), "correct%20horse".into(), WRONG_PASSWORD.into()], said: Vec::new() };

    let login = "username=dev%40example.com&password=correct%20horse&grant_type=password&client_id=particle-cli&client_secret=particle-cli";
    let (access, refresh) = watched.log_in(login);
    use_token(&mut watched, &access);
    let claim = watched.ask_for_secret(&format!("POST /v1/device_claims HTTP/1.1\r\nAuthorization: Bearer {access}"), "").json();
    watched.secrets.push(claim["claim_code"].as_str().unwrap().to_owned());
    let (second, _) = watched.log_in(&format!("grant_type=refresh_token&refresh_token={refresh}"));
    watched.ask(&format!("POST /oauth/token HTTP/1.1\r\n{FORM}"), &format!("grant_type=refresh_token&refresh_token={refresh}"));
    watched
        .ask(&format!("POST /oauth/token HTTP/1.1\r\n{FORM}"), &format!("grant_type=password&username={EMAIL}&password={WRONG_PASSWORD}"));
    for (password, token) in [(WRONG_PASSWORD, &second), (PASSWORD, &second), (PASSWORD, &access)] {
        let basic = STANDARD.encode(format!("{EMAIL}:{password}"));
        watched.ask(&format!("DELETE /v1/access_tokens/{token} HTTP/1.1\r\nAuthorization: Basic {basic}"), "");
        watched.secrets.push(basic);
    }
    // Tokens that are good no more are nobody's business either.
    use_token(&mut watched, &access);
    watched.ask(&format!("POST /v1/users HTTP/1.1\r\n{FORM}"), &format!("username={EMAIL}&password={WRONG_PASSWORD}"));

    let Watched { server, secrets, mut said } = watched;
    said.push(metrics(admin));
    server.stop();
    said.push(shell.log());
    said.push(acts(&shell));
    assert!(said.iter().all(|text| !text.is_empty()), "{said:?}");
    // Each request has a line, of the most talkative kind that there is.
    assert!(shell.log().contains("DEBUG request{") && shell.log().contains("route=\"/v1/access_tokens/{token}\""), "{}", shell.log());
    for secret in &secrets {
        // Part of a token is too much too.
        let part = &secret[..secret.len().min(13)];
        for text in &said {
            let line = text.lines().find(|line| line.contains(part));
            assert_eq!(line, None, "{part} can be seen");
        }
    }
}

fn metrics(admin: SocketAddr) -> String {
    send_and_wait(admin.port(), "GET /metrics HTTP/1.1", "").text()
}

fn acts(shell: &Shell) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(async {
        let file = holdfast::data_dir::DataDir::lock(&shell.path().join("data")).unwrap().registry_to_open().unwrap();
        Registry::open(&file).await.unwrap().audit(None, 1_000).await.unwrap()
    });
    assert!(!rows.is_empty());
    format!("{rows:?}")
}
