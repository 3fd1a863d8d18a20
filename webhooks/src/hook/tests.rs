use firmware_protocol::id::{OwnerId, ProductId};
use firmware_protocol::time::UnixMillis;
use proptest::prelude::*;
use router::event::NewEvent;
use serde_json::json;

use super::*;
use crate::request::URL_LEN_MAX;
use crate::template::{Budget, TEMPLATE_LEN_MAX, TemplateError};

const DEVICE: DeviceId = DeviceId([0x1f; 12]);
const DEVICE_TEXT: &str = "1f1f1f1f1f1f1f1f1f1f1f1f";
const OWNER: Audience = Audience::Owner(OwnerId(1));

fn object(value: Json) -> Map<String, Json> {
    let Json::Object(members) = value else { panic!("an object") };
    members
}

/// A definition with these fields beside those that must be there.
fn parse(fields: Json) -> Result<Hook, HookError> {
    let mut definition = object(json!({ "event": "tide", "url": "https://example.com/in" }));
    definition.extend(object(fields));
    Hook::parse(HookId([1; 12]), OWNER, &definition)
}

fn template(text: &str) -> Template {
    Template::parse(text).unwrap()
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    Fields(pairs.iter().map(|(name, value)| (template(name), template(value))).collect())
}

fn event(source: Source, name: &str) -> Event {
    let new =
        NewEvent { owner: OwnerId(1), product: Some(ProductId(7)), source, name: name.into(), content_format: 0, data: None, ttl_s: 60 };
    new.accept(UnixMillis(0), [0; 10])
}

#[test]
fn what_is_not_said_is_as_particle_has_it() {
    let hook = parse(json!({})).unwrap();
    let usual = Hook {
        id: HookId([1; 12]),
        audience: OWNER,
        prefix: "tide".into(),
        device: None,
        is_disabled: false,
        url: template("https://example.com/in"),
        method: Method::POST,
        body: Body::Default,
        query: Fields::default(),
        headers: Fields::default(),
        auth: None,
        no_defaults: false,
        verifies_tls: true,
        answers: Answers::default(),
        ordering: Ordering::PerDevice,
        timeout: Duration::from_secs(20),
        signature: Signature::Ed25519,
        notify_url: None,
        names: Names::default(),
    };
    assert_eq!(hook, usual);
    let nothing = json!({
        "deviceID": "", "requestType": "", "json": "", "form": null, "body": "", "query": {}, "headers": "", "auth": {}, "noDefaults": null,
        "responseTopic": "", "errorResponseTopic": null, "responseTemplate": "", "unchunked": "", "ordering": null, "timeout": "", "signature": "",
        "notifyUrl": "", "mydevices": true, "template": "webhook", "integration_type": "Webhook", "name": "x",
    });
    assert_eq!(parse(nothing), Ok(usual), "null and empty texts say nothing");
}

#[test]
fn every_field_is_read() {
    let hook = |value| parse(value).unwrap();
    for spelling in ["deviceID", "deviceid", "deviceId"] {
        assert_eq!(hook(json!({ spelling: DEVICE_TEXT })).device, Some(DEVICE));
    }
    for (said, method) in [("GET", Method::GET), ("Post", Method::POST), ("put", Method::PUT), ("delete", Method::DELETE)] {
        assert_eq!(hook(json!({ "requestType": said })).method, method);
    }
    for (said, is) in [(json!(true), true), (json!(false), false), (json!("true"), true), (json!("false"), false)] {
        let hook = hook(json!({
            "disabled": said, "noDefaults": said, "rejectUnauthorized": said, "unchunked": said, "dataUrlResponseEvent": said,
        }));
        let flags = [hook.is_disabled, hook.no_defaults, hook.verifies_tls, hook.answers.is_whole, hook.answers.is_binary];
        assert_eq!(flags, [is; 5]);
    }
    let wide = hook(
        json!({ "query": { "q": "{{a}}", "n": 5, "none": null }, "headers": "{\"X-A\": \"1\"}", "form": { "{{k}}": true, "o": { "a": "{{b}}" } } }),
    );
    assert_eq!((wide.query, wide.headers), (fields(&[("n", "5"), ("q", "{{a}}")]), fields(&[("X-A", "1")])));
    assert_eq!(wide.body, Body::Form(fields(&[("o", "{\"a\":\"{{b}}\"}"), ("{{k}}", "true")])));
    assert_eq!(hook(json!({ "body": "{{{a}}}" })).body, Body::Text(template("{{{a}}}")));
    assert_eq!(hook(json!({ "json": "{\"a\": {{a}}}" })).body, Body::Json(Shape::Text(template("{\"a\": {{a}}}"))));
    let answers = hook(json!({ "responseTopic": "a/{{x}}", "errorResponseTopic": "{{x}}", "responseTemplate": "{{level}}" })).answers;
    assert_eq!(
        (answers.topic, answers.error_topic, answers.template),
        (Some(template("a/{{x}}")), Some(template("{{x}}")), Some(Shape::Text(template("{{level}}"))))
    );
    assert_eq!(hook(json!({ "ordering": "none" })).ordering, Ordering::None);
    for (said, seconds) in [(json!(1), 1), (json!(30), 30), (json!("7"), 7)] {
        assert_eq!(hook(json!({ "timeout": said })).timeout, Duration::from_secs(seconds));
    }
    for (said, signature) in [("ed25519", Signature::Ed25519), ("hmac", Signature::Hmac), ("none", Signature::None)] {
        assert_eq!(hook(json!({ "signature": said })).signature, signature);
    }
    assert_eq!(
        hook(json!({ "notifyUrl": "https://example.org/n" })).notify_url.map(String::from).as_deref(),
        Some("https://example.org/n")
    );
}

#[test]
fn who_the_receiver_is_told_that_it_is_has_several_spellings() {
    let basic = |user, password| Some(Auth::Basic { user: template(user), password: template(password) });
    for (said, auth) in [
        (json!({ "username": "u", "password": "p" }), basic("u", "p")),
        (json!({ "user": "{{u}}", "pass": 5 }), basic("{{u}}", "5")),
        (json!({ "username": "key" }), basic("key", "")),
        (json!({ "bearer": "t" }), Some(Auth::Bearer(template("t")))),
        (json!("{\"user\":\"u\",\"password\":\"p\"}"), basic("u", "p")),
        (json!({ "sendImmediately": true }), None),
    ] {
        assert_eq!(parse(json!({ "auth": said })).unwrap().auth, auth, "{said}");
    }
}

#[test]
fn json_keeps_its_shape_and_its_texts_stay_texts() {
    let said = json!({ "{{k}}": "{{v}}", "list": [1, null, "{{v}}", { "deep": true }], "k": "later" });
    let Body::Json(shape) = parse(json!({ "json": said })).unwrap().body else { panic!("JSON") };
    let filled = shape.render(&json!({ "k": "key", "v": 5 }), &mut Budget::default()).unwrap();
    assert_eq!(filled, r#"{"k":"later","key":"5","list":[1,null,"5",{"deep":true}]}"#);
    assert!(shape.render(&json!({ "v": "x".repeat(100) }), &mut Budget { bytes: 150, steps: 100 }).is_err());
}

#[test]
fn every_problem_names_its_field() {
    for (said, words) in [
        (json!({ "event": null }), "event must be from 1 to 64 bytes long"),
        (json!({ "event": "x".repeat(65) }), "event must be from 1 to 64 bytes long"),
        (json!({ "event": 5 }), "event must be a text"),
        (json!({ "deviceid": "1f" }), "deviceid must be the id of a device"),
        (json!({ "requestType": "PATCH" }), "requestType must be GET, POST, PUT or DELETE"),
        (json!({ "disabled": 1 }), "disabled must be true or false"),
        (json!({ "json": {}, "form": {} }), "form cannot be said together with json"),
        (json!({ "json": 5 }), "json must be an object or a text"),
        (json!({ "json": { "a": [{ "b": "{{" }] } }), "json.a.0.b is no template: the tag at 0 has no end"),
        (json!({ "query": "q" }), "query must be an object"),
        (json!({ "headers": [1] }), "headers must be an object"),
        (json!({ "headers": { "X": "{{#a}}" } }), "headers.X is no template: the section \"a\" has no end before 6"),
        (json!({ "form": { "{{": "" } }), "form.{{ is no template: the tag at 0 has no end"),
        (json!({ "auth": { "user": "u", "bearer": "t" } }), "auth.bearer cannot be said together with a name and a password"),
        (json!({ "auth": { "pass": "{{" } }), "auth.pass is no template: the tag at 0 has no end"),
        (
            json!({ "responseTopic": "Spark/x" }),
            "responseTopic must be a name that does not begin with spark or particle: those are reserved",
        ),
        (json!({ "errorResponseTopic": ["x"] }), "errorResponseTopic must be a text"),
        (json!({ "ordering": "some" }), "ordering must be per_device or none"),
        (json!({ "timeout": 31 }), "timeout must be from 1 to 30 seconds"),
        (json!({ "timeout": 1.5 }), "timeout must be from 1 to 30 seconds"),
        (json!({ "timeout": 0 }), "timeout must be from 1 to 30 seconds"),
        (json!({ "signature": "rsa" }), "signature must be ed25519, hmac or none"),
        (json!({ "notifyUrl": "mailto:a@example.com" }), "notifyUrl must be an address that begins with http:// or https://"),
    ] {
        assert_eq!(parse(said.clone()).map_err(|error| error.to_string()), Err(words.to_owned()), "{said}");
    }
}

#[test]
fn an_address_may_have_tags_but_not_go_elsewhere() {
    for good in [
        "https://example.com",
        " http://[::1]:8080/{{x}}?a=b ",
        "HTTPS://example.com",
        "{{{base}}}/x",
        "http{{s}}://x",
        "https://{{host}}/",
    ] {
        assert!(parse(json!({ "url": good })).is_ok(), "{good}");
    }
    let long = format!("https://example.com/{}", "x".repeat(URL_LEN_MAX));
    for bad in ["", "ftp://example.com", "example.com", "https://", "http://a b/", "javascript:{{x}}", "file:///{{x}}", "https:/", &long] {
        assert_eq!(parse(json!({ "url": bad })).map_err(|error| error.field), Err("url".to_owned()), "{bad}");
    }
}

#[test]
fn definitions_have_bounds() {
    let many: Map<String, Json> = (0..=FIELDS_MAX).map(|number| (number.to_string(), json!("x"))).collect();
    let problem = |said| parse(said).map_err(|error| error.problem).map(|_| ());
    for field in ["headers", "query", "form", "json"] {
        assert_eq!(problem(json!({ field: many })), Err(Problem::TooMany), "{field}");
    }
    assert_eq!(problem(json!({ "json": { "a": vec![0; FIELDS_MAX + 1] } })), Err(Problem::TooMany));
    assert_eq!(problem(json!({ "body": "x".repeat(TEMPLATE_LEN_MAX + 1) })), Err(TemplateError::TooLong.into()));
    let long = "x".repeat(TEMPLATE_LEN_MAX);
    assert_eq!(problem(json!({ "json": [long, long, long, long] })), Err(Problem::TooLong));
    let named = parse(json!({ "headers": { "é".repeat(500): "{{" } })).map_err(|error| error.field.len());
    assert!(named.is_err_and(|len| len <= 128));
}

#[test]
fn events_match_by_name_device_and_audience() {
    let (device, other) = (Source::Device(DEVICE), Source::Device(DeviceId([2; 12])));
    let hook = parse(json!({})).unwrap();
    for (source, name, matches) in [
        (device, "tide", true),
        (device, "tide/high", true),
        (Source::Api, "tides", true),
        (device, "Tide", false),
        (device, "tid", false),
        (device, "low tide", false),
    ] {
        assert_eq!(hook.matches(&event(source, name)), matches, "{name}");
    }
    let of_one = parse(json!({ "deviceID": DEVICE_TEXT })).unwrap();
    assert_eq!([device, other, Source::Api].map(|source| of_one.matches(&event(source, "tide"))), [true, false, false]);
    let of = |audience| Hook { audience, ..hook.clone() }.matches(&event(device, "tide"));
    assert!(of(Audience::Product(ProductId(7))) && !of(Audience::Product(ProductId(8))) && !of(Audience::Owner(OwnerId(7))));
    assert!(!parse(json!({ "disabled": true })).unwrap().matches(&event(device, "tide")));
}

#[test]
fn events_that_are_made_for_hooks_trigger_none() {
    let hook = |prefix: &str| parse(json!({ "event": prefix })).unwrap();
    for name in ["hook-sent/tide", "hook-response/tide/0", "hook-error/tide/0", "tide/answer/0"] {
        assert!(!hook(name).matches(&event(Source::Cloud, name)), "{name}");
        assert!(hook(name).matches(&event(Source::Device(DEVICE), name)), "a device may publish what it wants: {name}");
    }
    assert!(hook("spark/status").matches(&event(Source::Cloud, "spark/status")));
    assert!(hook("spark/status").matches(&event(Source::Device(DEVICE), "spark/status")));
}

fn definition_with_secrets() -> Map<String, Json> {
    object(json!({
        "event": "tide", "url": "https://example.com", "name": "token",
        "auth": { "username": "u", "password": "p" },
        "headers": { "Authorization": "Bearer abc", "X-Api-Key": "k", "x-auth-token": "{{{token}}}", "X-Reef": "1", "Cookie": "c" },
        "query": { "key": "q", "q": "tide", "sig": "s" },
        "form": { "user": "u", "token": "t", "message": "{{x}}" },
        "json": { "list": [{ "access_key": "j", "key": "shown" }], "secret": 5 },
        "body": "token",
    }))
}

#[test]
fn secrets_are_masked_and_masks_keep_what_is_stored() {
    let stored = definition_with_secrets();
    let mut shown = stored.clone();
    mask(&mut shown);
    let expected = json!({
        "event": "tide", "url": "https://example.com", "name": "token",
        "auth": { "username": "u", "password": MASK },
        "headers": { "Authorization": MASK, "X-Api-Key": MASK, "x-auth-token": "{{{token}}}", "X-Reef": "1", "Cookie": MASK },
        "query": { "key": MASK, "q": "tide", "sig": MASK },
        "form": { "user": "u", "token": MASK, "message": "{{x}}" },
        "json": { "list": [{ "access_key": MASK, "key": "shown" }], "secret": 5 },
        "body": "token",
    });
    assert_eq!(Json::Object(shown.clone()), expected);
    unmask(&mut shown, &stored).unwrap();
    assert_eq!(shown, stored);
}

#[test]
fn a_mask_finds_what_it_stands_for() {
    let stored = definition_with_secrets();
    let kept = |new: Json| {
        let mut new = object(new);
        unmask(&mut new, &stored).map(|()| Json::Object(new)).map_err(|error| error.to_string())
    };
    assert_eq!(kept(json!({ "auth": { "user": "v", "pass": MASK } })), Ok(json!({ "auth": { "user": "v", "pass": "p" } })));
    assert_eq!(kept(json!({ "headers": { "authorization": MASK } })), Ok(json!({ "headers": { "authorization": "Bearer abc" } })));
    assert_eq!(kept(json!({ "headers": format!("{{\"X-API-KEY\":\"{MASK}\"}}") })), Ok(json!({ "headers": { "X-API-KEY": "k" } })));
    assert_eq!(kept(json!({ "headers": { "Authorization": "new" } })), Ok(json!({ "headers": { "Authorization": "new" } })));
    assert_eq!(
        kept(json!({ "headers": { "X-Reef": MASK } })),
        Ok(json!({ "headers": { "X-Reef": MASK } })),
        "where no secret is, it is a text"
    );
    for (new, field) in [
        (json!({ "headers": { "X-Token": MASK } }), "headers.X-Token"),
        (json!({ "auth": { "bearer": MASK } }), "auth.bearer"),
        (json!({ "json": { "secret": MASK } }), "json.secret"),
        (json!({ "json": { "list": [{}, { "access_key": MASK }] } }), "json.list.1.access_key"),
    ] {
        assert_eq!(kept(new), Err(format!("{field} is masked, and nothing is stored in its place: say it")));
    }
}

fn any_json() -> impl Strategy<Value = Json> {
    let text = prop::sample::select(vec!["", "x", "{{a}}", "{{", "true", "{\"token\":\"t\"}", MASK, "https://e.com", "GET", "none"]);
    let leaf =
        prop_oneof![Just(Json::Null), any::<bool>().prop_map(Json::from), (0_u8..40).prop_map(Json::from), text.prop_map(Json::from)];
    leaf.prop_recursive(3, 20, 4, |inner| {
        let name = prop::sample::select(vec!["token", "password", "username", "x", "{{k}}"]);
        let object = prop::collection::btree_map(name.prop_map(str::to_owned), inner.clone(), 0..4);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Json::from),
            object.prop_map(|members| Json::Object(members.into_iter().collect()))
        ]
    })
}

fn any_definition() -> impl Strategy<Value = Map<String, Json>> {
    let names = vec![
        "event",
        "url",
        "requestType",
        "deviceID",
        "disabled",
        "json",
        "form",
        "body",
        "query",
        "headers",
        "auth",
        "responseTopic",
        "responseTemplate",
        "unchunked",
        "ordering",
        "timeout",
        "signature",
        "notifyUrl",
    ];
    let field = prop::sample::select(names).prop_map(str::to_owned);
    prop::collection::btree_map(field, any_json(), 0..8).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #[test]
    fn any_definition_is_a_hook_or_refused(fields in any_definition()) {
        let _ = parse(Json::Object(fields));
    }

    #[test]
    fn whatever_is_masked_comes_back(definition in any_definition()) {
        let mut opened = definition.clone();
        each_secret(&mut opened, |_, _| Ok(())).unwrap();
        let mut shown = definition.clone();
        mask(&mut shown);
        each_secret(&mut shown.clone(), |_, secret| { assert_eq!(secret, MASK); Ok(()) }).unwrap();
        let mut had_mask = false;
        each_secret(&mut opened.clone(), |_, secret| { had_mask |= secret == MASK; Ok(()) }).unwrap();
        if !had_mask {
            unmask(&mut shown, &definition).unwrap();
            prop_assert_eq!(shown, opened);
        }
    }
}
