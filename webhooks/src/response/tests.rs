use firmware_protocol::id::{DeviceId, OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::EventId;
use serde_json::{Map, json};

use super::*;
use crate::hook::{HookId, is_made_for_a_hook};

const FACTS: EventFacts = EventFacts { product: None, product_version: None, product_user: None };
const BARE: Audience = Audience::Owner(OwnerId(1));
const PRODUCT: Audience = Audience::Product(ProductId(7));

fn event(name: &str, data: &str) -> Event {
    Event {
        id: EventId([0; 16]),
        owner: OwnerId(1),
        product: Some(ProductId(7)),
        source: Source::Device(DeviceId([0x1f; 12])),
        name: name.into(),
        content_format: 0,
        data: Some(data.as_bytes().to_vec()),
        ttl_s: 5,
        published_at: UnixMillis(0),
    }
}

fn hook(audience: Audience, fields: Json) -> Hook {
    let Json::Object(fields) = fields else { panic!("an object") };
    let mut definition = Map::from_iter([("event".to_owned(), json!("tide")), ("url".to_owned(), json!("https://example.com/in"))]);
    definition.extend(fields);
    Hook::parse(HookId([1; 12]), audience, &definition).unwrap()
}

fn answers(audience: Audience, fields: Json, event: &Event, body: &[u8]) -> Vec<Published> {
    answered(&hook(audience, fields), event, &FACTS, &Answer { content_type: Some("text/plain"), body })
}

fn names(published: &[Published]) -> Vec<&str> {
    published.iter().map(|published| published.name.as_str()).collect()
}

fn text(published: &Published) -> &str {
    std::str::from_utf8(published.data.as_deref().unwrap()).unwrap()
}

#[test]
fn that_a_request_was_sent_is_published_without_data() {
    let published = sent(&event("tide/high", "5"));
    assert_eq!(published, Published { name: "hook-sent/tide/high".into(), data: None, content_format: 0 });
    let new = published.because_of(&event("tide", ""));
    assert_eq!((new.owner, new.product, new.source, new.ttl_s), (OwnerId(1), Some(ProductId(7)), Source::Cloud, 60));
}

#[test]
fn an_answer_comes_in_pieces_of_512_bytes() {
    let event = event("tide/high", "5");
    let of_len = |len: usize| -> Vec<_> {
        let body: Vec<u8> = (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let pieces = answers(BARE, json!({}), &event, &body);
        assert_eq!(pieces.iter().flat_map(|piece| piece.data.clone().unwrap()).collect::<Vec<_>>(), body[..len.min(ANSWER_LEN_MAX)]);
        pieces.iter().map(|piece| piece.data.as_ref().unwrap().len()).collect()
    };
    assert_eq!(of_len(0), [0_usize; 0]);
    assert_eq!(of_len(1), [1]);
    assert_eq!(of_len(512), [512]);
    assert_eq!(of_len(1_025), [512, 512, 1]);
    assert_eq!((of_len(100_000).len(), of_len(100_001).len()), (196, 196));
    let pieces = answers(BARE, json!({}), &event, &[b'x'; 6_000]);
    assert_eq!((names(&pieces)[0], names(&pieces)[11]), ("hook-response/tide/high/0", "hook-response/tide/high/11"));
    assert!(pieces.iter().all(|piece| piece.content_format == 0));
}

#[test]
fn names_follow_the_scope_and_the_hook() {
    let event = event("tide", r#"{"x":"low","PARTICLE_DEVICE_ID":"other"}"#);
    let name = |audience, fields| answers(audience, fields, &event, b"ok").remove(0).name;
    assert_eq!(name(BARE, json!({})), "hook-response/tide/0");
    assert_eq!(
        name(PRODUCT, json!({})),
        "1f1f1f1f1f1f1f1f1f1f1f1f/hook-response/tide/0",
        "what a device says of itself does not reach others"
    );
    assert_eq!(name(PRODUCT, json!({ "responseTopic": "answer/{{x}}" })), "answer/low/0");
    assert_eq!(name(BARE, json!({ "responseTopic": "{{nothing}}" })), "hook-response/tide/0");
    assert_eq!(name(BARE, json!({ "responseTopic": "{{x}}\n\u{85}" })), "low  /0");
    let error = |audience, fields| {
        failed(&hook(audience, fields), &event, &FACTS, "h", &Outcome::Answered { status: 500, retry_after_s: None }).name
    };
    assert_eq!((error(BARE, json!({})), error(PRODUCT, json!({}))), ("hook-error/tide/0".into(), "hook-error/tide/0".into()));
    assert_eq!(error(BARE, json!({ "errorResponseTopic": "bad/{{x}}" })), "bad/low/0");
}

#[test]
fn no_name_is_one_of_the_systems() {
    for data in [r#"{"x":"spark/status"}"#, r#"{"x":"Particle"}"#] {
        let event = event("tide", data);
        let published = answers(BARE, json!({ "responseTopic": "{{{x}}}" }), &event, b"ok").remove(0);
        assert_eq!(published.name, "hook-response/tide/0");
    }
}

#[test]
fn names_that_are_too_long_are_cut_before_the_number() {
    let event = event(&"é".repeat(32), "");
    let short = answers(BARE, json!({}), &event, b"ok");
    assert_eq!(names(&short), [format!("hook-response/{}/0", "é".repeat(24))]);
    let long = answers(PRODUCT, json!({}), &event, &[b'x'; 60_000]);
    assert!(long.iter().all(|piece| piece.name.len() <= NAME_LEN_MAX));
    let topics: std::collections::BTreeSet<_> = names(&long).into_iter().map(|name| name.rsplit_once('/').unwrap().0).collect();
    assert_eq!(topics.into_iter().collect::<Vec<_>>(), [format!("1f1f1f1f1f1f1f1f1f1f1f1f/hook-response/{}", "é".repeat(10))]);
    assert_eq!(sent(&event).name, format!("hook-sent/{}", "é".repeat(27)));
}

#[test]
fn a_template_is_filled_in_from_an_answer_that_is_json() {
    let event = event("tide", "");
    let shown = |template: Json, body: &str| {
        let published = answers(BARE, json!({ "responseTemplate": template }), &event, body.as_bytes());
        published.iter().map(|piece| text(piece).to_owned()).collect::<String>()
    };
    assert_eq!(shown(json!("{{results.0.lat}},{{x}}"), r#"{"results":[{"lat":52.50}]}"#), "52.5,");
    assert_eq!(shown(json!({ "lat": "{{{results.0.lat}}}", "n": 1 }), r#"{"results":[{"lat":52.5}]}"#), r#"{"lat":"52.5","n":1}"#);
    assert_eq!(shown(json!("{{0}}"), "[7]"), "7");
    assert_eq!(shown(json!("{{x}}"), "{}"), "");
    assert_eq!(shown(json!("{{x}}"), "no JSON"), "no JSON");
    assert_eq!(shown(json!(""), "{\"x\":1}"), "{\"x\":1}");
    let list = json!({ "l": vec![0; 300] }).to_string();
    let endless = "{{#l}}{{#l}}{{#l}}{{.}}{{/l}}{{/l}}{{/l}}";
    assert_eq!(shown(json!(endless), &list), "error: the response template: the template takes too many steps");
}

#[test]
fn an_answer_may_be_whole_or_bytes() {
    let event = event("tide", "");
    let whole = answers(BARE, json!({ "unchunked": true }), &event, &[b'x'; 120_000]);
    assert_eq!((names(&whole), whole[0].data.as_ref().map(Vec::len)), (vec!["hook-response/tide/0"], Some(ANSWER_LEN_MAX)));
    let format = |content_type| {
        let hook = hook(BARE, json!({ "dataUrlResponseEvent": true }));
        answered(&hook, &event, &FACTS, &Answer { content_type, body: b"\x00\xff" }).remove(0).content_format
    };
    assert_eq!((format(Some("image/png")), format(Some("Image/JPEG; q=1")), format(Some("text/html")), format(None)), (23, 22, 42, 42));
}

#[test]
fn what_went_wrong_is_said_in_words() {
    let (hook, event) = (hook(BARE, json!({})), event("tide", ""));
    let said = |outcome: &Outcome| text(&failed(&hook, &event, &FACTS, "example.com", outcome)).to_owned();
    let answer = |status| Outcome::Answered { status, retry_after_s: None };
    let failure = |phase| Outcome::Failed { phase, error: "why".into() };
    for (outcome, words) in [
        (answer(404), "error status 404 from example.com"),
        (answer(302), "error status 302 from example.com"),
        (failure(Phase::Render), "error: the request could not be made: why"),
        (failure(Phase::Guard), "error: requests to example.com are not allowed"),
        (failure(Phase::Dns), "error: example.com has no address"),
        (failure(Phase::Connect), "error: no connection to example.com: why"),
        (failure(Phase::Tls), "error: no secure connection to example.com: why"),
        (failure(Phase::Write), "error: the request did not reach example.com: why"),
        (failure(Phase::Wait), "error: no answer from example.com: why"),
        (failure(Phase::Body), "error: the answer of example.com broke off: why"),
    ] {
        assert_eq!(said(&outcome), words);
    }
    assert_eq!(text(&sleeping(&hook, &event, &FACTS)), "Sleeping, too many errors, please wait and try again");
    let long = Outcome::Failed { phase: Phase::Wait, error: "é".repeat(400) };
    assert!(said(&long).len() <= PIECE_LEN);
}

proptest! {
    #[test]
    fn whatever_is_published_has_a_name_that_fits_and_triggers_nothing(
        name in ".{1,64}",
        data in prop_oneof![".{0,40}", "[a-z/]{0,70}".prop_map(|text| json!({ "x": text }).to_string())],
        topic in prop::sample::select(vec!["", "{{x}}", "{{{x}}}/é", "answer/{{PARTICLE_EVENT_NAME}}", "{{.}}"]),
        body in prop::collection::vec(any::<u8>(), 0..3_000),
        is_product in any::<bool>(),
    ) {
        let name = &name[..name.floor_char_boundary(64)];
        let event = event(name, &data);
        let hook = hook(if is_product { PRODUCT } else { BARE }, json!({ "responseTopic": topic, "errorResponseTopic": topic, "responseTemplate": "{{a}}" }));
        let mut all = answered(&hook, &event, &FACTS, &Answer { content_type: None, body: &body });
        all.extend([sent(&event), sleeping(&hook, &event, &FACTS)]);
        for published in all {
            prop_assert!((1..=NAME_LEN_MAX).contains(&published.name.len()) && !published.name.contains(char::is_control));
            let made = published.because_of(&event).accept(UnixMillis(0), [0; 10]);
            prop_assert!(is_made_for_a_hook(&made));
        }
    }
}
