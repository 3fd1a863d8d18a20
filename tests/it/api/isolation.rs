//! Nobody reaches what is somebody else's: every route of the API's description, asked by everybody who has no right to it, and once by somebody who has.
//!
//! A route needs a line in `ROUTES` that says how it is asked rightly. Whoever adds one without gets a failure here, and is told what to add.

use std::collections::BTreeSet;
use std::time::Duration;

use holdfast::store::registry::{ClientKind, HookText, NewClient, NewDevice, NewProduct, NewToken};
use holdfast::store::{Realm, Role, Scopes, TokenHash};
use serde_json::Value as Json;
use tokio::time::timeout;

use crate::client::{Answer, OpenStream};
use crate::rig::{DEVICE, FOREIGN_DEVICE, Rig, id, key};

/// How each route is asked: method, path, body. `{device}`, `{product}`, `{client}`, `{hook}` and `{token}` stand for what the caller has; any other parameter has
/// its value behind `=`, where `@device` is the device. A body in braces is JSON, and a form otherwise.
const ROUTES: &str = include_str!("routes.txt");

/// A device of the product.
const IN_PRODUCT: &str = "e00fce68aabbccddeeff0044";
/// A device of the other account's product.
const IN_FOREIGN_PRODUCT: &str = "e00fce68aabbccddeeff0055";
const UNKNOWN_DEVICE: &str = "0123456789abcdef01234567";
const UNKNOWN_PRODUCT: &str = "99999";
const UNKNOWN_CLIENT: &str = "kit-99999";
const UNKNOWN_HOOK: &str = "0123456789abcdef01234567";
/// What the hooks are signed with.
const SECRET: &str = "whsec_a2VscC1rZWxwLWtlbHAta2VscC1rZWxwLWtlbHA=";
/// Answered differently about what is somebody else's and what is not there, and limited for that.
const TELL_APART: [&str; 2] = ["POST /v1/devices", "POST /v1/provisioning/{device}"];

/// Says which devices of a list are somebody else's, as clients want it.
const IMPORT: &str = "POST /v1/products/{product}/devices";

/// A route of the description, with how it is asked.
struct Route {
    method: String,
    /// As the description has it.
    path: String,
    /// With values for all parameters but the caller's own things.
    address: String,
    body: String,
    needs: Needs,
    streams: bool,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Needs {
    Nothing,
    Account,
    Scope(String),
}

/// What a request is about.
#[derive(Clone)]
struct Things {
    device: String,
    product: String,
    client: String,
    hook: String,
    token: String,
}

impl Things {
    /// What is put in for what.
    fn named(&self) -> [(&'static str, &str); 5] {
        let Self { device, product, client, hook, token } = self;
        [("{device}", device), ("{product}", product), ("{client}", client), ("{hook}", hook), ("{token}", token)]
    }
}

impl Route {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn is_about(&self, thing: &str) -> bool {
        self.address.contains(thing) || self.body.contains(thing)
    }

    /// The request with these things put in.
    fn asks(&self, token: Option<&str>, things: &Things) -> (String, String) {
        let put = |text: &str| things.named().into_iter().fold(text.to_owned(), |text, (name, thing)| text.replace(name, thing));
        let body = put(&self.body);
        let kind = if body.starts_with('{') { "application/json" } else { "application/x-www-form-urlencoded" };
        let token = token.map_or_else(String::new, |token| format!("\r\nAuthorization: Bearer {token}"));
        (format!("{} {} HTTP/1.1{token}\r\nContent-Type: {kind}", self.method, put(&self.address)), body)
    }
}

/// The routes that are described, each with its line.
fn routes(description: &Json) -> Vec<Route> {
    let lines: Vec<(String, String, String, String)> = ROUTES.lines().filter(|line| !line.is_empty()).map(line).collect();
    let (mut routes, mut missing) = (Vec::new(), BTreeSet::new());
    for (path, item) in description["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method = method.to_uppercase();
            match lines.iter().find(|(known, written, ..)| (known, written) == (&method, path)) {
                None => drop(missing.insert(format!("{method} {path}"))),
                Some((.., address, body)) => routes.push(Route {
                    method,
                    path: path.clone(),
                    address: address.clone(),
                    body: body.clone(),
                    needs: needs(&operation["security"]),
                    streams: operation["responses"]["200"]["content"].get("text/event-stream").is_some(),
                }),
            }
        }
    }
    assert!(missing.is_empty(), "tests/it/api/routes.txt has no line for {missing:#?}");
    let written =
        |(method, path, ..): &&(String, String, String, String)| !routes.iter().any(|route| (&route.method, &route.path) == (method, path));
    assert_eq!(lines.iter().find(written), None, "tests/it/api/routes.txt has a line for what is no route");
    routes
}

/// A line: the method, the path as described, the path with values, the body.
fn line(text: &str) -> (String, String, String, String) {
    let (method, rest) = text.split_once(' ').unwrap_or_else(|| panic!("{text}"));
    let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
    let (mut described, mut address) = (String::new(), String::new());
    for (number, part) in path.split('{').enumerate() {
        let (parameter, rest) = if number == 0 { ("", part) } else { part.split_once('}').unwrap_or_else(|| panic!("{text}")) };
        match parameter.split_once('=') {
            Some((name, value)) => {
                described += &format!("{{{name}}}");
                address += &value.strip_prefix('@').map_or_else(|| value.to_owned(), |thing| format!("{{{thing}}}"));
            }
            None if number == 0 => {}
            None => {
                described += &format!("{{{parameter}}}");
                address += &format!("{{{parameter}}}");
            }
        }
        described += rest;
        address += rest;
    }
    (method.to_owned(), described, address, body.to_owned())
}

fn needs(security: &Json) -> Needs {
    match security[0]["token"].as_array().map(Vec::as_slice) {
        None => Needs::Nothing,
        Some([]) => Needs::Account,
        Some([scope, ..]) => Needs::Scope(scope.as_str().expect("a scope").to_owned()),
    }
}

/// Two accounts, each with a device and a product.
struct World {
    rig: Rig,
    routes: Vec<Route>,
    product: holdfast::store::Product,
    foreign_product: holdfast::store::Product,
    other: firmware_protocol::id::OwnerId,
    /// A client of the account, and one of its product.
    clients: [String; 2],
    /// Likewise hooks.
    hooks: [String; 2],
}

impl World {
    async fn new() -> Self {
        let rig = Rig::start_online().await;
        let other = rig.registry.user_by_email("other@example.com").await.unwrap().unwrap().id;
        let product = async |owner, name: &str, device: &str| {
            let new = NewProduct { name: name.into(), description: None, platform_id: 13, settings: Default::default() };
            let product = rig.registry.create_product(owner, new).await.unwrap();
            let device =
                NewDevice { id: id(device), key: key(), owner: None, product: Some(product.id), platform_id: Some(13), name: None };
            rig.registry.add_devices(vec![device]).await.unwrap();
            holdfast::store::Product::clone(&product)
        };
        let (mine, theirs) = (product(rig.user, "kelp", IN_PRODUCT).await, product(other, "crab", IN_FOREIGN_PRODUCT).await);
        for device in [FOREIGN_DEVICE, IN_PRODUCT, IN_FOREIGN_PRODUCT] {
            rig.gateway.bring_online(id(device));
        }
        let client = async |realm| {
            let new = NewClient { name: "kit".into(), kind: ClientKind::Installed, redirect_uri: None, scopes: Scopes::All };
            rig.registry.create_client(realm, new).await.unwrap().client.id
        };
        let hook = async |realm| {
            let definition = r#"{"event":"temp","url":"https://example.com/in","signature":"hmac"}"#.to_owned();
            let text = HookText { event: "temp".into(), name: "n".into(), url: "https://example.com/in".into(), enabled: true, definition };
            let id = rig.registry.create_hook(realm, text).await.unwrap().id;
            rig.registry.set_signing_key(realm, id, SECRET.to_owned(), Default::default()).await.unwrap();
            id.to_string()
        };
        let realms = [Realm::User(rig.user), Realm::Product(mine.id)];
        let (clients, hooks) = ([client(realms[0]).await, client(realms[1]).await], [hook(realms[0]).await, hook(realms[1]).await]);
        let routes = routes(&rig.bare("GET", "/v1/openapi.json").await.json());
        Self { rig, routes, product: mine, foreign_product: theirs, other, clients, hooks }
    }

    /// What the right caller has that a route is about.
    fn mine(&self, route: &Route) -> Things {
        let device = if route.is_about("{product}") { IN_PRODUCT } else { DEVICE };
        let place = usize::from(route.is_about("{product}"));
        let (client, hook) = (self.clients[place].clone(), self.hooks[place].clone());
        Things { device: device.into(), product: self.product.id.0.to_string(), client, hook, token: self.rig.token.clone() }
    }

    async fn token(&self, user: firmware_protocol::id::OwnerId, scopes: Scopes, life_ms: Option<u64>) -> String {
        let new = NewToken { user, client: "test".to_owned(), scopes, life_ms, refreshable: false };
        self.rig.registry.issue_token(new).await.unwrap().access.reveal().to_owned()
    }

    /// A token of a program that acts for a product.
    async fn program(&self, product: &holdfast::store::Product, scopes: &str) -> String {
        let issued = self.rig.registry.create_api_user(product.id, "robot", Scopes::parse(scopes).unwrap()).await.unwrap();
        issued.token.reveal().to_owned()
    }

    async fn ask(&self, route: &Route, token: Option<&str>, things: &Things) -> Answer {
        let (head, body) = route.asks(token, things);
        let answer = timeout(Duration::from_secs(20), self.rig.raw(&head, body.as_bytes())).await;
        answer.unwrap_or_else(|_| panic!("{} opens a stream for somebody who may not", route.name()))
    }

    /// Asks, and looks at what is refused only.
    async fn status(&self, route: &Route, token: &str, things: &Things) -> u16 {
        if !route.streams {
            return self.ask(route, Some(token), things).await.status;
        }
        let (head, _) = route.asks(Some(token), things);
        let stream = OpenStream::open(self.rig.address, &head).await;
        stream.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap()
    }

    /// Everything that is there, for a look whether it has stayed so.
    fn state(&self) -> String {
        let registry = &self.rig.registry;
        format!("{:?} {:?} {:?}", registry.devices().all(), registry.products().find(self.product.id), registry.tokens().len())
    }
}

/// The answer with what was asked about put out.
fn without(answer: &Answer, things: &Things) -> (u16, String) {
    let text = things.named().into_iter().fold(answer.text(), |text, (_, thing)| text.replace(thing, "…"));
    (answer.status, text)
}

#[tokio::test]
async fn nobody_is_answered_without_a_token_that_is_good() {
    let world = World::new().await;
    let revoked = world.token(world.rig.user, Scopes::All, None).await;
    world.rig.registry.revoke_token(TokenHash::of(&revoked).unwrap()).await.unwrap();
    let expired = world.token(world.rig.user, Scopes::All, Some(1)).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = world.state();
    for route in world.routes.iter().filter(|route| route.needs != Needs::Nothing) {
        let words = [(None, 400, "not found"), (Some(&revoked), 401, "is invalid"), (Some(&expired), 401, "has expired")];
        for (token, status, words) in words {
            let answer = world.ask(route, token.map(String::as_str), &world.mine(route)).await;
            assert_eq!(answer.status, status, "{}", route.name());
            assert!(answer.json()["error_description"].as_str().is_some_and(|text| text.contains(words)), "{}", route.name());
        }
    }
    assert_eq!(world.state(), before);
}

#[tokio::test]
async fn a_token_without_the_scope_is_good_for_nothing() {
    let world = World::new().await;
    let narrow = world.token(world.rig.user, Scopes::parse("nothing:get").unwrap(), None).await;
    let program = world.program(&world.product, "nothing:get").await;
    let before = world.state();
    for route in &world.routes {
        let Needs::Scope(scope) = &route.needs else { continue };
        for token in [&narrow, &program] {
            let answer = world.ask(route, Some(token), &world.mine(route)).await;
            assert_eq!((answer.status, &answer.json()["error"]), (403, &"insufficient_scope".into()), "{}", route.name());
            assert!(answer.json()["error_description"].as_str().is_some_and(|text| text.contains(scope)), "{}", route.name());
        }
    }
    assert_eq!(world.state(), before);
}

#[tokio::test]
async fn what_is_somebody_elses_is_answered_like_what_is_not_there() {
    let world = World::new().await;
    let other = world.token(world.other, Scopes::All, None).await;
    let program = world.program(&world.foreign_product, "*:*").await;
    let before = world.state();
    for route in &world.routes {
        if route.needs == Needs::Nothing || TELL_APART.contains(&route.name().as_str()) {
            continue;
        }
        let mine = world.mine(route);
        let unknown = Things {
            device: UNKNOWN_DEVICE.into(),
            product: UNKNOWN_PRODUCT.into(),
            client: UNKNOWN_CLIENT.into(),
            hook: UNKNOWN_HOOK.into(),
            ..mine.clone()
        };
        let slug = Things { product: world.product.slug.clone(), ..mine.clone() };
        let mut pairs =
            vec![(&other, mine.clone(), unknown.clone()), (&other, slug, unknown.clone()), (&program, mine.clone(), unknown.clone())];
        // In a product of one's own, a device of another.
        let own = world.foreign_product.id.0.to_string();
        pairs.push((&other, Things { product: own.clone(), ..mine.clone() }, Things { product: own.clone(), ..unknown.clone() }));
        pairs.push((&program, Things { product: own.clone(), ..mine.clone() }, Things { product: own, ..unknown.clone() }));
        // In one's own product what is about the product alone is one's own; and a list of devices says which of them are not for it.
        let about = ["{device}", "{client}", "{hook}"].iter().any(|thing| route.is_about(thing));
        pairs.truncate(match (route.is_about("{product}"), about) {
            (false, false) => 0,
            (true, true) if route.name() != IMPORT => 5,
            _ => 3,
        });
        for (token, foreign, missing) in pairs {
            let answers = [world.ask(route, Some(token), &foreign).await, world.ask(route, Some(token), &missing).await];
            assert_eq!(without(&answers[0], &foreign), without(&answers[1], &missing), "{}", route.name());
            assert!((400..500).contains(&answers[0].status) || answers[0].status == 501, "{} {:?}", route.name(), answers[0]);
        }
    }
    assert_eq!(world.state(), before);
}

#[tokio::test]
async fn what_others_ask_for_without_naming_it_has_nothing_of_mine_in_it() {
    let world = World::new().await;
    let other = world.token(world.other, Scopes::All, None).await;
    for route in world.routes.iter().filter(|route| route.method == "GET" && route.needs != Needs::Nothing && !route.streams) {
        if ["{device}", "{product}", "{client}", "{hook}"].iter().any(|thing| route.is_about(thing)) {
            continue;
        }
        let answer = world.ask(route, Some(&other), &world.mine(route)).await.text();
        let number = world.product.id.0.to_string();
        let mine = [DEVICE, IN_PRODUCT, "kitchen light", "dev@example.com", &number, &world.product.slug, &world.hooks[0], &world.hooks[1]];
        for mine in mine {
            assert!(!answer.contains(mine), "{} tells {mine}: {answer}", route.name());
        }
    }
}

#[tokio::test]
async fn whoever_may_only_look_changes_nothing() {
    let world = World::new().await;
    world.rig.registry.put_member(world.product.id, "other@example.com", Role::Viewer).await.unwrap();
    let viewer = world.token(world.other, Scopes::All, None).await;
    let before = world.state();
    for route in world.routes.iter().filter(|route| route.is_about("{product}") && route.needs != Needs::Nothing) {
        let Needs::Scope(scope) = &route.needs else { continue };
        let status = world.status(route, &viewer, &world.mine(route)).await;
        match Role::Viewer.allows(scope) {
            true => assert!(![401, 403].contains(&status), "{}: {status}", route.name()),
            false => assert_eq!(status, 403, "{}", route.name()),
        }
    }
    assert_eq!(world.state(), before);
}

#[tokio::test]
async fn whoever_may_only_look_reads_no_secret_of_a_hook() {
    let world = World::new().await;
    world.rig.registry.put_member(world.product.id, "other@example.com", Role::Viewer).await.unwrap();
    let viewer = world.token(world.other, Scopes::All, None).await;
    let mut told = 0;
    for route in world.routes.iter().filter(|route| route.method == "GET" && route.is_about("{hook}")) {
        let mine = world.mine(route);
        let answer = world.ask(route, Some(&viewer), &mine).await;
        assert!(!answer.text().contains("whsec_"), "{}", route.name());
        told += usize::from(world.ask(route, Some(&world.rig.token), &mine).await.text().contains(SECRET));
    }
    assert_eq!(told, 4, "its owner reads it by either name, in either place");
}

#[tokio::test]
async fn what_is_claimed_or_brought_along_is_told_apart_and_stays_whose_it_is() {
    let world = World::new().await;
    let other = world.token(world.other, Scopes::All, None).await;
    let before = world.state();
    for route in world.routes.iter().filter(|route| TELL_APART.contains(&route.name().as_str())) {
        for device in [DEVICE, IN_PRODUCT] {
            let answer = world.ask(route, Some(&other), &Things { device: device.into(), ..world.mine(route) }).await;
            assert_eq!(answer.status, 403, "{}", route.name());
        }
    }
    assert_eq!(world.state(), before);
}

#[tokio::test]
async fn a_program_of_a_product_reaches_nothing_outside_of_it() {
    let world = World::new().await;
    let program = world.program(&world.product, "*:*").await;
    let before = world.state();
    for route in world.routes.iter().filter(|route| route.needs != Needs::Nothing && !route.is_about("{product}")) {
        let answer = world.ask(route, Some(&program), &world.mine(route)).await;
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"unauthorized".into()), "{}", route.name());
    }
    assert_eq!(world.state(), before);
}

#[tokio::test]
async fn whoever_has_the_right_is_let_in() {
    let world = World::new().await;
    let mut routes: Vec<&Route> = world.routes.iter().filter(|route| route.needs != Needs::Nothing).collect();
    // What ends something comes last, the innermost first.
    routes.sort_by_key(|route| (route.method == "DELETE", std::cmp::Reverse(route.path.len())));
    for route in routes {
        let scopes = match &route.needs {
            Needs::Scope(scope) => Scopes::parse(scope).unwrap(),
            _ => Scopes::All,
        };
        let token = world.token(world.rig.user, scopes, None).await;
        let status = world.status(route, &token, &Things { token: token.clone(), ..world.mine(route) }).await;
        assert!(![401, 403, 405, 429, 500].contains(&status), "{}: {status}", route.name());
        if let (Needs::Scope(scope), true) = (&route.needs, route.is_about("{product}") && route.method != "DELETE") {
            let program = world.program(&world.product, scope).await;
            let status = world.status(route, &program, &world.mine(route)).await;
            assert!(![401, 403, 405, 429, 500].contains(&status), "{} by a program: {status}", route.name());
        }
    }
}
