//! What is published of answers: names and data of events, one row for each field of a hook that shapes them.

use serde_json::json;

use super::bench::{Bench, saying, silent};
use super::receiver::Reply;

const SENT: &str = "hook-sent/tide/high";
const ANSWER: &str = r#"{"level":2.4,"where":"<quay>","list":[1,2]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_published_as_the_hook_says() {
    let mut bench = Bench::start().await;
    let answer = |name: &str, data: &str| vec![silent(SENT), saying(name, data)];
    let usual = "hook-response/tide/high/0";
    for (fields, reply, expected) in [
        (json!({}), Reply::ok("high water"), answer(usual, "high water")),
        (json!({}), Reply::status(200), vec![silent(SENT)]),
        (json!({}), Reply::status(204), vec![silent(SENT)]),
        (json!({}), Reply::ok("höh \u{1f30a}"), answer(usual, "höh \u{1f30a}")),
        (json!({ "responseTopic": "answer/{{PARTICLE_DEVICE_ID}}" }), Reply::ok("x"), answer(&format!("answer/{}/0", Bench::id()), "x")),
        (json!({ "responseTopic": "" }), Reply::ok("x"), answer(usual, "x")),
        (json!({ "responseTopic": "{{{none}}}" }), Reply::ok("x"), answer(usual, "x")),
        (
            json!({ "responseTemplate": "{{level}} at {{{where}}} {{where}}" }),
            Reply::ok(ANSWER),
            answer(usual, "2.4 at <quay> &lt;quay&gt;"),
        ),
        (json!({ "responseTemplate": { "l": "{{level}}", "{{list.1}}": 5 } }), Reply::ok(ANSWER), answer(usual, r#"{"2":5,"l":"2.4"}"#)),
        (json!({ "responseTemplate": "{{level}}" }), Reply::ok("no JSON"), answer(usual, "no JSON")),
        (
            json!({ "dataUrlResponseEvent": true }),
            Reply::ok([0, 255, 13, 10]).with("content-type", "application/octet-stream"),
            answer(usual, "data:application/octet-stream;base64,AP8NCg=="),
        ),
        (
            json!({ "dataUrlResponseEvent": true }),
            Reply::ok("png").with("content-type", "image/png; charset=x"),
            answer(usual, "data:image/png;base64,cG5n"),
        ),
        (
            json!({ "dataUrlResponseEvent": true }),
            Reply::ok("{}").with("content-type", "text/plain"),
            answer(usual, "data:application/octet-stream;base64,e30="),
        ),
    ] {
        let said = fields.to_string();
        assert_eq!(bench.answered(fields, reply, expected.len()).await, expected, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_answers_come_in_pieces_of_512_bytes_or_whole() {
    let mut bench = Bench::start().await;
    let long: String = (0..1300).map(|n| char::from(b'a' + u8::try_from(n % 26).unwrap())).collect();
    let events = bench.answered(json!({}), Reply::ok(long.clone()), 4).await;
    let names: Vec<_> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [SENT, "hook-response/tide/high/0", "hook-response/tide/high/1", "hook-response/tide/high/2"]);
    let pieces: Vec<_> = events.iter().filter_map(|(_, data)| data.as_deref()).collect();
    assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [512, 512, 276]);
    assert_eq!(pieces.concat(), long);

    let events = bench.answered(json!({ "unchunked": true }), Reply::ok(long.clone()), 2).await;
    assert_eq!(events, [silent(SENT), saying("hook-response/tide/high/0", &long)]);
    let exact = "x".repeat(1024);
    assert_eq!(bench.answered(json!({}), Reply::ok(exact), 3).await.len(), 3);

    let huge = "y".repeat(120_000);
    let events = bench.answered(json!({}), Reply::ok(huge), 1 + 100_000_usize.div_ceil(512)).await;
    let len: usize = events.iter().filter_map(|(_, data)| data.as_ref()).map(String::len).sum();
    assert_eq!((len, events.len()), (100_000, 197), "the first 100 kB");
    assert_eq!(events.last().unwrap().0, "hook-response/tide/high/195");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_published_where_the_hook_says() {
    let mut bench = Bench::start().await;
    let words = |status: u16| format!("error status {status} from 127.0.0.1");
    for (fields, status, name) in [
        (json!({}), 404, "hook-error/tide/high/0".to_owned()),
        (json!({}), 500, "hook-error/tide/high/0".to_owned()),
        (json!({}), 301, "hook-error/tide/high/0".to_owned()),
        (json!({ "errorResponseTopic": "trouble/{{PARTICLE_EVENT_VALUE}}" }), 503, "trouble/21.5/0".to_owned()),
        (json!({ "responseTopic": "answer", "errorResponseTopic": "trouble" }), 400, "trouble/0".to_owned()),
        (json!({ "responseTopic": "answer" }), 400, "hook-error/tide/high/0".to_owned()),
    ] {
        let said = fields.to_string();
        let reply = Reply::status(status).saying("the body of an error is for nobody");
        let events = bench.answered(fields, reply, 2).await;
        assert_eq!(events, [silent(SENT), saying(&name, &words(status))], "{said} {status}");
    }
}
