use std::collections::BTreeMap;

use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::{Audience, EventId, Source};
use serde_json::{Map, json};

use super::*;
use crate::hook::HookId;

const FACTS: EventFacts = EventFacts { product: Some(10_001), product_version: Some(12), product_user: Some(OwnerId(3)) };

fn event(data: &str) -> Event {
    Event {
        id: EventId([0xab; 16]),
        owner: OwnerId(1),
        product: Some(ProductId(10_001)),
        source: Source::Device(DeviceId([0x1f; 12])),
        name: "tide/high".into(),
        content_format: 0,
        data: Some(data.as_bytes().to_vec()),
        ttl_s: 60,
        published_at: UnixMillis(1_437_178_338_174),
    }
}

fn hook(fields: Json) -> Hook {
    let Json::Object(fields) = fields else { panic!("an object") };
    let mut definition = Map::from_iter([("event".to_owned(), json!("tide")), ("url".to_owned(), json!("https://example.com/in"))]);
    definition.extend(fields);
    Hook::parse(HookId([1; 12]), Audience::Owner(OwnerId(1)), &definition).unwrap()
}

fn try_to(fields: Json, event: &Event) -> Result<Outgoing, RequestError> {
    Outgoing::new(&hook(fields), event, &FACTS)
}

fn make(fields: Json, event: &Event) -> Outgoing {
    try_to(fields, event).unwrap()
}

fn body(outgoing: &Outgoing) -> &str {
    std::str::from_utf8(&outgoing.body).unwrap()
}

fn header<'o>(outgoing: &'o Outgoing, name: &str) -> Option<&'o str> {
    outgoing.headers.get(name).map(|value| std::str::from_utf8(value.as_bytes()).unwrap())
}

fn form(text: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

#[test]
fn every_variable_is_there() {
    let shown = |template: &str, event: &Event| {
        let outgoing = make(json!({ "body": template }), event);
        body(&outgoing).to_owned()
    };
    let plain = event("25.3 <C>");
    for (name, value) in [
        ("PARTICLE_DEVICE_ID", "1f1f1f1f1f1f1f1f1f1f1f1f"),
        ("SPARK_CORE_ID", "1f1f1f1f1f1f1f1f1f1f1f1f"),
        ("PARTICLE_EVENT_NAME", "tide/high"),
        ("SPARK_EVENT_NAME", "tide/high"),
        ("PARTICLE_EVENT_VALUE", "25.3 <C>"),
        ("SPARK_EVENT_VALUE", "25.3 <C>"),
        ("PARTICLE_PUBLISHED_AT", "2015-07-18T00:12:18.174Z"),
        ("SPARK_PUBLISHED_AT", "2015-07-18T00:12:18.174Z"),
        ("PARTICLE_EVENT_ID", "abababab-abab-abab-abab-abababababab"),
        ("PRODUCT_ID", "10001"),
        ("PRODUCT_USER_ID", "3"),
        ("PRODUCT_VERSION", "12"),
        ("nothing", ""),
    ] {
        assert_eq!(shown(&format!("{{{{{{{name}}}}}}}"), &plain), value, "{name}");
    }
    assert_eq!(shown("{{PARTICLE_EVENT_VALUE}}", &plain), "25.3 &lt;C&gt;");
    let whole = json!({
        "id": "abababab-abab-abab-abab-abababababab", "name": "tide/high", "data": "25.3 <C>", "ttl": 60, "published_at": "2015-07-18T00:12:18.174Z",
        "coreid": "1f1f1f1f1f1f1f1f1f1f1f1f", "productID": 10001, "userid": "3", "version": 12,
    });
    assert_eq!(serde_json::from_str::<Json>(&shown("{{{PARTICLE_EVENT_JSON}}}", &plain)).unwrap(), whole);
    let encoded = shown("{{{PARTICLE_EVENT_BASE64}}}", &plain);
    let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&decoded).unwrap(), whole);
}

#[test]
fn data_of_every_kind_has_its_text() {
    let shown = |content_format, data: Option<&[u8]>| {
        let event = Event { content_format, data: data.map(<[u8]>::to_vec), ..event("") };
        let outgoing = make(json!({ "body": "{{{PARTICLE_EVENT_VALUE}}} {{t}}" }), &event);
        body(&outgoing).to_owned()
    };
    assert_eq!(shown(0, Some(b"{\"t\": 21.50}")), "{\"t\": 21.50} 21.5");
    assert_eq!(shown(0, Some(b"{\"t\"")), "{\"t\" ");
    assert_eq!(shown(0, Some(b"[1]")), "[1] ");
    assert_eq!(shown(42, Some(b"\x00\x01")), "data:application/octet-stream;base64,AAE= ");
    assert_eq!(shown(65_001, Some(b"\xa1\x61t\x05")), "{\"t\":5} 5");
    assert_eq!(shown(0, None), " ");
    assert_eq!(shown(0, Some(b"\xff")), "\u{fffd} ");
}

#[test]
fn members_of_the_data_go_before_what_is_said_of_every_event() {
    let event = event(r#"{"PARTICLE_DEVICE_ID":"other","PARTICLE_EVENT_VALUE":{"a":1},"x":{"y":[7]}}"#);
    let outgoing = make(json!({ "body": "{{PARTICLE_DEVICE_ID}} {{PARTICLE_EVENT_VALUE.a}} {{x.y.0}} {{PARTICLE_EVENT_NAME}}" }), &event);
    assert_eq!(body(&outgoing), "other 1 7 tide/high");
    let defaults = make(json!({}), &event);
    assert_eq!(form(body(&defaults))["coreid"], "1f1f1f1f1f1f1f1f1f1f1f1f", "the defaults say what is so");
}

#[test]
fn each_kind_of_request_is_made_as_documented() {
    let defaults =
        [("coreid", "1f1f1f1f1f1f1f1f1f1f1f1f"), ("data", "a&b"), ("event", "tide/high"), ("published_at", "2015-07-18T00:12:18.174Z")];
    let with = |more: &[(&str, &str)]| -> BTreeMap<String, String> {
        defaults.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let event = event("a&b");
    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
    for method in ["POST", "PUT"] {
        let made = |fields: Json| {
            let mut all = json!({ "requestType": method });
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            make(all, &event)
        };
        let plain = made(json!({ "query": { "q": "{{PARTICLE_EVENT_VALUE}}" } }));
        assert_eq!((form(body(&plain)), header(&plain, "content-type"), plain.method.as_str()), (with(&[]), FORM, method));
        assert_eq!(plain.url.as_str(), "https://example.com/in?q=a%26amp%3Bb");
        let of_form = made(json!({ "form": { "x": "{{{PARTICLE_EVENT_VALUE}}}", "{{PARTICLE_EVENT_NAME}}": "1", "data": "mine" } }));
        assert_eq!(
            (form(body(&of_form)), header(&of_form, "content-type")),
            (with(&[("x", "a&b"), ("tide/high", "1"), ("data", "mine")]), FORM)
        );
        let bare = made(json!({ "form": { "x": "1" }, "noDefaults": true }));
        assert_eq!(body(&bare), "x=1");
        assert_eq!(body(&made(json!({ "noDefaults": true }))), "");
        let json_body = made(json!({ "json": { "x": "{{{PARTICLE_EVENT_VALUE}}}", "data": 5 } }));
        let expected = json!({
            "x": "a&b", "data": 5, "event": "tide/high", "coreid": "1f1f1f1f1f1f1f1f1f1f1f1f", "published_at": "2015-07-18T00:12:18.174Z",
        });
        assert_eq!(serde_json::from_str::<Json>(body(&json_body)).unwrap(), expected);
        assert_eq!(
            (header(&json_body, "content-type"), header(&json_body, "accept")),
            (Some("application/json"), Some("application/json"))
        );
        assert_eq!(body(&made(json!({ "json": { "x": 1 }, "noDefaults": true }))), r#"{"x":1}"#);
        let text = made(json!({ "body": "v={{{PARTICLE_EVENT_VALUE}}}" }));
        assert_eq!((body(&text), header(&text, "content-type"), text.url.query()), ("v=a&b", None, None));
    }
    for method in ["GET", "DELETE"] {
        let outgoing = make(
            json!({ "requestType": method, "form": { "f": "1" }, "query": { "q": "2" }, "url": "https://example.com/?z=3#frag" }),
            &event,
        );
        assert_eq!(form(outgoing.url.query().unwrap()), with(&[("f", "1"), ("q", "2"), ("z", "3")]));
        assert_eq!((body(&outgoing), header(&outgoing, "content-type"), outgoing.url.fragment()), ("", None, None));
        let bare = make(json!({ "requestType": method, "noDefaults": true, "json": { "x": 1 } }), &event);
        assert_eq!((bare.url.as_str(), body(&bare)), ("https://example.com/in", ""));
    }
}

#[test]
fn json_may_be_said_as_a_text() {
    let event = event(r#"{"t":21.10}"#);
    let of = |text: &str, no_defaults: bool| {
        try_to(json!({ "json": text, "noDefaults": no_defaults }), &event).map(|made| body(&made).to_owned())
    };
    let merged = of(r#"{"temperature": {{t}}, "event": "mine"}"#, false).unwrap();
    let merged: Json = serde_json::from_str(&merged).unwrap();
    assert_eq!((&merged["temperature"], &merged["event"], &merged["data"]), (&json!(21.1), &json!("mine"), &json!(r#"{"t":21.10}"#)));
    assert_eq!(of(r#"{"temperature": {{t}} }"#, true).unwrap(), r#"{"temperature": 21.1 }"#, "without defaults it stays as it was said");
    assert_eq!(of("[{{t}}, 1.0]", false).unwrap(), "[21.1, 1.0]");
    assert!(matches!(of(r#"{"temperature": {{missing}}}"#, true), Err(RequestError::NotJson(_))));
}

#[test]
fn an_event_without_data_has_defaults_all_the_same() {
    let event = Event { data: None, ..event("") };
    assert_eq!(form(body(&make(json!({}), &event)))["data"], "");
    let json_body = make(json!({ "json": { "x": "1" } }), &event);
    assert_eq!(serde_json::from_str::<Json>(body(&json_body)).unwrap()["data"], Json::Null);
}

#[test]
fn the_receiver_is_told_who_it_is() {
    let event = event(r#"{"u":"ü","t":"abc"}"#);
    let basic = |text: &str| Some(format!("Basic {}", base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text)));
    let authorization = |fields| header(&make(fields, &event), "authorization").map(str::to_owned);
    assert_eq!(authorization(json!({ "auth": { "username": "{{u}}", "password": "p:" } })), basic("ü:p:"));
    assert_eq!(authorization(json!({ "auth": { "user": "u", "pass": "" } })), basic("u:"));
    assert_eq!(authorization(json!({ "auth": { "bearer": "{{t}}" } })).as_deref(), Some("Bearer abc"));
    assert_eq!(authorization(json!({})), None);
    let url = "https://a%2Bb+:p%26%3D@example.com/in";
    assert_eq!(authorization(json!({ "url": url })), basic("a+b+:p&="));
    assert_eq!(authorization(json!({ "url": url, "auth": { "bearer": "x" } })).as_deref(), Some("Bearer x"));
    assert_eq!(authorization(json!({ "url": url, "headers": { "authorization": "own" } })).as_deref(), Some("own"));
    let outgoing = make(json!({ "url": url }), &event);
    assert_eq!(outgoing.url.as_str(), "https://example.com/in");
    let shown = format!("{outgoing:?}");
    assert!(
        shown.starts_with("Outgoing { method: POST, host: Some(\"example.com\"), body_len: ") && shown.len() < 100,
        "secrets are not for logs: {shown}"
    );
    assert!(outgoing.headers["authorization"].is_sensitive());
}

#[test]
fn headers_are_the_hooks_own_but_for_the_connections() {
    let event = event(r#"{"k":"X-Tide","v":"höh"}"#);
    let outgoing = make(
        json!({ "headers": {
            "{{k}}": " {{v}}\t", "content-type": "text/plain", "User-Agent": "mine", "Host": "other", "Content-Length": "7", "Transfer-Encoding": "chunked",
            "Connection": "close", "webhook-id": "x", "Webhook-Signature": "x", "Accept-Encoding": "gzip", "X-Empty": "{{nothing}}",
        } }),
        &event,
    );
    let names: Vec<_> = outgoing.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(outgoing.headers.len(), 4, "{names:?}");
    assert_eq!((header(&outgoing, "x-tide"), header(&outgoing, "content-type")), (Some("höh"), Some("text/plain")));
    assert_eq!((header(&outgoing, "user-agent"), header(&outgoing, "x-empty")), (Some("mine"), Some("")));
    let plain = make(json!({}), &event);
    assert!(header(&plain, "user-agent").unwrap().starts_with("Holdfast/"));
}

#[test]
fn nothing_ends_a_line_that_should_not() {
    for evil in ["a\r\nX-B: 1", "a\nb", "a\r", "a\u{0}b", "\u{7f}", "a\r\n"] {
        let event = event(&json!({ "x": evil }).to_string());
        assert_eq!(try_to(json!({ "headers": { "X-A": "{{{x}}}" } }), &event), Err(RequestError::HeaderValue("x-a".into())), "{evil:?}");
        assert!(matches!(try_to(json!({ "headers": { "{{{x}}}": "1" } }), &event), Err(RequestError::HeaderName(_))), "{evil:?}");
        assert_eq!(
            try_to(json!({ "auth": { "bearer": "{{{x}}}" } }), &event),
            Err(RequestError::HeaderValue("authorization".into())),
            "{evil:?}"
        );
        assert_eq!(try_to(json!({ "url": "https://example.com/{{{x}}}/" }), &event), Err(RequestError::ControlInAddress), "{evil:?}");
    }
    for name in ["", "a b", "a:b", "é"] {
        let event = event(&json!({ "x": name }).to_string());
        assert_eq!(try_to(json!({ "headers": { "{{{x}}}": "1" } }), &event), Err(RequestError::HeaderName(name.into())));
    }
}

#[test]
fn the_address_is_read_again_when_it_is_filled_in() {
    let of = |url: &str, x: &str| {
        try_to(json!({ "url": url, "noDefaults": true }), &event(&json!({ "x": x }).to_string())).map(|made| made.url.to_string())
    };
    assert_eq!(of("https://example.com/{{{x}}}", "ä b/../c?d=e"), Ok("https://example.com/c?d=e".to_owned()));
    assert_eq!(of("{{{x}}}", "http://EXAMPLE.com:80"), Ok("http://example.com/".to_owned()));
    assert_eq!(of("https://{{x}}.example.com/", "a"), Ok("https://a.example.com/".to_owned()));
    for (url, x) in [
        ("{{{x}}}", "file:///etc/passwd"),
        ("{{{x}}}", ""),
        ("http{{{x}}}", "x://example.com"),
        ("https://{{{x}}}", ""),
        ("{{{x}}}", "//example.com"),
    ] {
        assert_eq!(of(url, x), Err(RequestError::NoAddress), "{url} {x}");
    }
}

#[test]
fn requests_have_bounds() {
    let of = |fields, data: &str| try_to(fields, &event(data)).map(|_| ());
    let long = "x".repeat(12_000);
    assert_eq!(of(json!({ "url": "https://example.com/{{{PARTICLE_EVENT_VALUE}}}" }), &long), Err(RequestError::AddressTooLong));
    assert_eq!(of(json!({ "requestType": "GET" }), &long), Err(RequestError::AddressTooLong));
    let twice = json!({ "X-A": "{{{PARTICLE_EVENT_VALUE}}}", "X-B": "{{{PARTICLE_EVENT_VALUE}}}" });
    assert_eq!(of(json!({ "headers": twice }), &long), Err(RequestError::HeadersTooLong));
    let hundred = json!({ "l": vec![0; 200], "x": "\u{1}".repeat(700) }).to_string();
    let many = |inner: &str| format!("{{{{#l}}}}{{{{#l}}}}{inner}{{{{/l}}}}{{{{/l}}}}");
    assert_eq!(of(json!({ "body": many("{{x}}") }), &hundred), Err(RequestError::Render("body", RenderError::TooLong)));
    let once = |inner: &str| format!("{{{{#l}}}}{inner}{{{{/l}}}}");
    assert_eq!(
        of(json!({ "form": { "a": once("{{x}}{{x}}{{x}}") } }), &hundred),
        Err(RequestError::BodyTooLong),
        "what is encoded is longer"
    );
    assert_eq!(
        of(json!({ "json": { "a": format!("{}{}", once("{{x}}{{x}}"), "{{#l}}{{#l}}{{#l}}{{/l}}{{/l}}{{/l}}") } }), &hundred),
        Err(RequestError::Render("json", RenderError::TooManySteps))
    );
    let outcome: Outcome = RequestError::NoAddress.into();
    assert_eq!(outcome, Outcome::Failed { phase: Phase::Render, error: "the address is none of http or https".into() });
}

proptest! {
    #[test]
    fn whatever_is_published_makes_a_request_within_bounds_or_none(
        data in prop_oneof![".{0,60}", Just(r#"{"x":"a\r\nb","l":[1,2,{"x":3}]}"#.to_owned())],
        content_format in prop::sample::select(vec![0_u16, 42, 50, 60, 65_001]),
        texts in prop::array::uniform5(prop::sample::select(vec!["{{x}}", "{{{PARTICLE_EVENT_VALUE}}}", "{{#l}}{{x}}{{/l}}", "é", "", "X-A", "{{{PARTICLE_EVENT_JSON}}}"])),
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
        kind in prop::sample::select(vec!["json", "form", "query"]),
    ) {
        let [a, b, c, d, e] = texts;
        let fields = json!({
            "url": format!("https://example.com/{a}"), "requestType": method, kind: { b: c }, "headers": { d: e }, "auth": { "user": a, "pass": e },
        });
        let event = Event { content_format, ..event(&data) };
        if let Ok(outgoing) = try_to(fields, &event) {
            prop_assert!(outgoing.url.as_str().len() <= URL_LEN_MAX && outgoing.body.len() <= BODY_LEN_MAX);
            prop_assert!(outgoing.headers.values().all(|value| !value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte))));
            prop_assert_eq!(outgoing.url.host_str(), Some("example.com"));
        }
    }
}
