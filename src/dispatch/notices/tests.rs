//! Notices, told to receivers and a mail server of the test's own.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes as Body;
use axum::http::{HeaderMap as Headers, StatusCode};
use axum::routing::post;
use firmware_protocol::id::{OwnerId, ProductId};
use serde_json::{Map, Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use webhooks::client::{ClientConfig, SystemResolver};
use webhooks::dispatcher::TenantId;
use webhooks::dispatcher::health::State;
use webhooks::dispatcher::messages::DisableWhy;
use webhooks::guard::{Guard, GuardConfig};
use webhooks::hook::HookId;
use webhooks::sign::{Scheme, Signed, SigningKey, SigningKeys, verify};

use super::*;
use crate::config::{self, MailSecurity};
use crate::deliveries::LastFailure;
use crate::metrics::Metrics;
use crate::store::ProductSettings;
use crate::store::registry::NewProduct;

const SERVER: &str = "https://cloud.example.com";
const FAILING_SINCE_MS: u64 = 1_767_225_600_000;

fn cloud() -> Cloud {
    Cloud { url: SERVER.to_owned(), waits: Duration::from_secs(72 * 3_600) }
}

/// A receiver that answers with these statuses, the last of them for good, and tells what it got.
async fn receiver(statuses: &'static [u16]) -> (SocketAddr, mpsc::UnboundedReceiver<(Headers, Body)>) {
    let (sender, got) = mpsc::unbounded_channel();
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let answer = move |headers: Headers, body: Body| async move {
        let _ = sender.send((headers, body));
        let number = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        StatusCode::from_u16(statuses[number.min(statuses.len() - 1)]).unwrap()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/notices", post(answer))).await });
    (address, got)
}

/// A mail server that takes everything, and tells whom it was for and what it said.
async fn mail_server() -> (Mail, mpsc::UnboundedReceiver<(String, String)>) {
    let (sender, got) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let (reading, mut writing) = stream.into_split();
                let (mut lines, mut to, mut text, mut is_data) = (BufReader::new(reading).lines(), String::new(), String::new(), false);
                writing.write_all(b"220 here\r\n").await.unwrap();
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer = match line.as_str() {
                        "." if is_data => {
                            is_data = false;
                            sender.send((to.clone(), std::mem::take(&mut text))).unwrap();
                            "250 taken"
                        }
                        _ if is_data => {
                            text.push_str(&line);
                            text.push('\n');
                            continue;
                        }
                        "DATA" => {
                            is_data = true;
                            "354 go on"
                        }
                        _ => "250 well",
                    };
                    if line.starts_with("RCPT") {
                        to = line;
                    }
                    writing.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
                }
            });
        }
    });
    let from = "Holdfast <cloud@example.com>".parse().unwrap();
    let settings = config::Mail { host: "127.0.0.1".into(), port, security: MailSecurity::None, login: None, from };
    (Mail::new(settings), got)
}

struct World {
    _directory: tempfile::TempDir,
    metrics: Metrics,
    registry: Registry,
    owner: OwnerId,
    notices: Notices,
}

impl World {
    async fn new(mail: Option<Mail>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry::open(&directory.path().join("registry.db")).await.unwrap();
        let owner = registry.add_user("kai@example.com", "sea-wrack").await.unwrap().id;
        let guard = Guard::new(GuardConfig { allow: vec!["127.0.0.0/8".parse().unwrap()], ..GuardConfig::default() });
        let client = Client::new(guard, Arc::new(SystemResolver::new()), ClientConfig::default()).unwrap();
        let metrics = Metrics::new();
        let mut notices = Notices::new(client, mail, registry.clone(), metrics.webhooks(), cloud());
        Arc::get_mut(&mut notices.0).unwrap().waits = [Duration::ZERO; 3];
        Self { _directory: directory, metrics, registry, owner, notices }
    }

    fn subject(&self, url: &str, notify: Option<String>) -> Subject {
        subject(Audience::Owner(self.owner), url, notify)
    }

    fn told(&self, way: &str, outcome: &str) -> u64 {
        let begin = format!("holdfast_webhook_notices_total{{outcome=\"{outcome}\",way=\"{way}\"}} ");
        self.metrics.render().lines().find_map(|line| line.strip_prefix(&begin)?.parse().ok()).unwrap()
    }
}

fn subject(audience: Audience, url: &str, notify: Option<String>) -> Subject {
    let mut definition = Map::from_iter([("event".into(), json!("temp")), ("url".into(), json!(url))]);
    definition.extend(notify.map(|url| ("notifyUrl".to_owned(), Json::from(url))));
    let failure = LastFailure {
        at_ms: FAILING_SINCE_MS + 60_000,
        status: None,
        phase: Some("connect".into()),
        error: "the connection was refused".into(),
    };
    let standing = Standing {
        health: State::Failing,
        since_ms: FAILING_SINCE_MS + 30_000,
        failing_since_ms: Some(FAILING_SINCE_MS),
        last_failure: Some(failure),
        ..Standing::default()
    };
    let listed = Listed {
        hook: Arc::new(Hook::parse(HookId([9; 12]), audience, &definition).unwrap()),
        name: "Kitchen".into(),
        keys: Some(Arc::new(SigningKeys::new(SigningKey::generate(Scheme::Hmac).unwrap()))),
        tenant: TenantId(1),
        updated_at: UnixMillis(0),
        publishes: true,
        is_own: false,
    };
    Subject { listed, standing, oldest_pending: Some(UnixMillis(FAILING_SINCE_MS)) }
}

#[tokio::test]
async fn the_second_address_hears_of_it_signed_and_again_until_it_takes_it() {
    let (world, (address, mut got)) = (World::new(None).await, receiver(&[503, 302, 204]).await);
    let subject = world.subject("http://127.0.0.1:9/", Some(format!("http://{address}/notices")));
    assert_eq!(world.notices.tell(Notice::Failing, &subject).await, Way::Url);
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let (headers, body) = got.recv().await.unwrap();
        let key = subject.listed.keys.as_ref().unwrap().current().verifying().unwrap();
        let signed = Signed::read(&headers).unwrap();
        verify(&[key], signed, &body, dates::now().0 / 1_000).unwrap();
        ids.insert(signed.id.to_owned());
        let json: Json = serde_json::from_slice(&body).unwrap();
        assert_eq!((&json["type"], &json["state"]), (&json!("webhook.failing"), &json!("failing")));
        assert_eq!(json["hook"], json!({ "id": "09".repeat(12), "name": "Kitchen", "event": "temp" }));
        assert_eq!((&json["failingSince"], &json["oldestPending"]), (&json!("2026-01-01T00:00:00.000Z"), &json["failingSince"]));
        assert_eq!((&json["error"]["phase"], &json["error"]["status"]), (&json!("connect"), &Json::Null));
        assert_eq!(json["deliveries"], json!(format!("{SERVER}/v1/integrations/{}/deliveries", "09".repeat(12))));
    }
    assert_eq!((ids.len(), world.told("url", "ok"), world.told("none", "failed")), (1, 1, 0));
}

#[tokio::test]
async fn mail_goes_to_the_owner_where_there_is_no_other_way() {
    let (mail, mut got) = mail_server().await;
    let (world, (address, mut asked)) = (World::new(Some(mail)).await, receiver(&[200]).await);
    // The second address is at the place that fails.
    let subject = world.subject(&format!("http://{address}/hooks"), Some(format!("http://{address}/notices")));
    assert_eq!(world.notices.tell(Notice::DisableSoon, &subject).await, Way::Mail);
    let (to, text) = got.recv().await.unwrap();
    assert_eq!(to, "RCPT TO:<kai@example.com>");
    for words in ["will be disabled", "connect", "/deliveries"] {
        assert!(text.replace("=\n", "").contains(words), "{words}: {text}");
    }
    assert!(asked.try_recv().is_err());
    assert_eq!((world.told("mail", "ok"), world.told("url", "failed")), (1, 0));
}

#[tokio::test]
async fn mail_stands_in_for_an_address_that_does_not_answer_and_the_log_for_both() {
    let (mail, mut got) = mail_server().await;
    let world = World::new(Some(mail)).await;
    let subject = world.subject("https://example.com/", Some("http://10.0.0.1/notices".into()));
    assert_eq!(world.notices.tell(Notice::Refused(403), &subject).await, Way::Mail);
    assert!(got.recv().await.unwrap().1.contains("Subject: Webhook \"Kitchen\" is refused with status 403"));
    assert_eq!((world.told("url", "failed"), world.told("mail", "ok")), (1, 1));
    let world = World::new(None).await;
    let subject = world.subject("https://example.com/", None);
    assert_eq!(world.notices.tell(Notice::Recovered, &subject).await, Way::None);
    assert_eq!(world.told("none", "failed"), 1);
}

#[tokio::test]
async fn those_who_administrate_a_product_get_mail_and_nobody_else() {
    let (mail, mut got) = mail_server().await;
    let world = World::new(Some(mail)).await;
    let new = NewProduct { name: "Kettle".into(), description: None, platform_id: 12, settings: ProductSettings::default() };
    let product = world.registry.create_product(world.owner, new).await.unwrap().id;
    for (name, role) in [("admin", Role::Administrator), ("dev", Role::Developer)] {
        let email = format!("{name}@example.com");
        world.registry.add_user(&email, "sea-wrack").await.unwrap();
        world.registry.put_member(product, &email, role).await.unwrap();
    }
    let subject = subject(Audience::Product(product), "https://example.com/", None);
    assert_eq!(world.notices.tell(Notice::Disabled(DisableWhy::Gone), &subject).await, Way::Mail);
    let readers = [got.recv().await.unwrap().0, got.recv().await.unwrap().0];
    assert_eq!(readers, ["RCPT TO:<kai@example.com>", "RCPT TO:<admin@example.com>"]);
    assert!(got.try_recv().is_err());
}

#[tokio::test]
async fn nobody_is_told_of_the_synthetic_hook_and_too_many_notices_do_not_wait() {
    let world = World::new(None).await;
    let mut own = subject(Audience::Owner(world.owner), "https://example.com/", None);
    own.listed.is_own = true;
    assert_eq!(world.notices.tell(Notice::Failing, &own).await, Way::None);
    assert_eq!(world.told("none", "failed"), 0);
    let _all = world.notices.0.waiting.acquire_many(256).await.unwrap();
    let subject = world.subject("https://example.com/", Some("https://example.org/".into()));
    assert_eq!(world.notices.tell(Notice::Failing, &subject).await, Way::None);
    assert_eq!((world.told("none", "failed"), world.told("url", "failed")), (1, 0));
}

#[test]
fn a_notice_never_goes_where_the_hook_does() {
    let way = |url: &str, notify: &str| another_way(&subject(Audience::Owner(OwnerId(1)), url, Some(notify.into())).listed.hook).is_some();
    assert!(way("https://a.example/hooks", "https://b.example/"));
    assert!(way("https://a.example/hooks", "https://a.example:8443/"));
    assert!(way("https://a.example/{{x}}", "https://b.example/") && way("https://a.example?x={{x}}", "https://b.example/"));
    for (url, notify) in [
        ("https://a.example/hooks", "https://a.example/other"),
        ("https://A.Example./hooks", "https://a.example:443/"),
        ("https://a.example:443/hooks", "https://user:secret@a.example"),
        ("http://127.1/", "http://0x7f000001/"),
        ("https://a.example/{{x}}", "https://a.example/"),
        // Where these go a template decides.
        ("https://{{host}}/", "https://b.example/"),
        ("https://a.example{{rest}}", "https://b.example/"),
        ("{{{url}}}", "https://b.example/"),
    ] {
        assert!(!way(url, notify), "{url} {notify}");
    }
}

#[test]
fn letters_say_what_happens_next() {
    let subject = subject(Audience::Product(ProductId(10_001)), "https://example.com/", None);
    let (now, cloud) = (UnixMillis(FAILING_SINCE_MS + 120_000), cloud());
    let letter = |notice| Words::new(notice, &subject, &cloud, now).letter();
    let failing = letter(Notice::Failing);
    assert_eq!(
        failing,
        "The webhook \"Kitchen\" (090909090909090909090909) at https://cloud.example.com, for events that begin with \"temp\", is failing: no request has \
         succeeded since 2026-01-01T00:00:00.000Z.\n\n\
         The last error, at 2026-01-01T00:01:00.000Z: connect: the connection was refused\n\n\
         Its events wait and are tried again, each for up to 72 hours. The oldest waits since 2026-01-01T00:00:00.000Z. If nothing succeeds until then, \
         the hook will be disabled at 2026-01-06T00:00:00.000Z.\n\n\
         To see its deliveries and what came of each attempt:\n\n    \
         curl https://cloud.example.com/v1/products/10001/integrations/090909090909090909090909/deliveries -H 'Authorization: Bearer TOKEN'\n\n\
         docs/webhooks.md says what the states mean, and how deliveries are made again.\n"
    );
    assert!(letter(Notice::Refused(401)).contains("status 401, which says that the address or the credentials are wrong"));
    assert!(letter(Notice::Disabled(DisableWhy::LongFailing)).contains("until it is enabled again"));
    assert!(letter(Notice::Recovered).contains("What waited is being sent.") && !letter(Notice::Recovered).contains("last error"));
}

#[test]
fn whatever_a_hook_is_called_its_notice_can_be_said() {
    let (mut subject, cloud) = (subject(Audience::Owner(OwnerId(1)), "https://example.com/", None), cloud());
    subject.listed.name = "ä\"\\{{x}}".repeat(40).into();
    for notice in [Notice::Failing, Notice::Refused(404), Notice::DisableSoon, Notice::Disabled(DisableWhy::Gone), Notice::Recovered] {
        let words = Words::new(notice, &subject, &cloud, UnixMillis(0));
        assert_eq!(serde_json::from_str::<Json>(&words.json()).unwrap()["hook"]["name"], *subject.listed.name);
        assert!(words.title().len() < 140 && !words.id().contains('.'));
    }
}
