use std::sync::Mutex;

use tokio::io::AsyncWriteExt as _;
use tokio::time::sleep;

use super::receiver::{OK, Receiver, read_request, reset};
use super::*;

/// What the receiver reads of it.
async fn as_read(attempt: impl FnOnce(&Url) -> Attempt<'_>) -> String {
    let read = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&read);
    let receiver = Receiver::start(move |mut stream, _| {
        let note = Arc::clone(&note);
        async move {
            let request = read_request(&mut stream).await.unwrap_or_default();
            *note.lock().unwrap() = request;
            let _ = stream.write_all(OK).await;
        }
    })
    .await;
    let url = receiver.url();
    client().send(attempt(&url)).await.unwrap();
    read.lock().unwrap().replace(&receiver.address.port().to_string(), "PORT")
}

#[tokio::test]
async fn a_request_says_what_it_shall_and_what_belongs_to_the_connection_is_set_here() {
    let request = as_read(|url| {
        let mut attempt = post(url);
        for (name, value) in [
            ("x-own", "1"),
            ("content-length", "999"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
            ("keep-alive", "timeout=1"),
            ("expect", "100-continue"),
            ("upgrade", "h2c"),
            ("te", "trailers"),
        ] {
            attempt.headers.append(name, value.parse().unwrap());
        }
        attempt
    })
    .await;
    assert_eq!(request, "POST /path?query=1 HTTP/1.1\r\nx-own: 1\r\nhost: 127.0.0.1:PORT\r\ncontent-length: 2\r\n\r\n{}");
}

#[tokio::test]
async fn a_request_without_a_body_says_so() {
    assert_eq!(as_read(get).await, "GET /path?query=1 HTTP/1.1\r\nhost: 127.0.0.1:PORT\r\n\r\n");
    let request = as_read(|url| Attempt { body: Bytes::new(), ..post(url) }).await;
    assert!(request.contains("content-length: 0\r\n"), "{request}");
}

#[tokio::test]
async fn a_hook_may_say_which_host_it_means_once() {
    let request = as_read(|url| {
        let mut attempt = get(url);
        attempt.headers.append("host", "first.example".parse().unwrap());
        attempt.headers.append("host", "second.example".parse().unwrap());
        attempt
    })
    .await;
    assert_eq!(request, "GET /path?query=1 HTTP/1.1\r\nhost: first.example\r\n\r\n");
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let receiver = Receiver::answering(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 2\r\n\r\nno").await;
    let answer = client().send(post(&receiver.url())).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice(), receiver.accepted()), (302, &b"no"[..], 1));
}

#[tokio::test]
async fn what_an_answer_says_is_read() {
    let receiver =
        Receiver::answering(b"HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-type: text/x\r\ncontent-length: 4\r\n\r\nwait").await;
    let answer = client().send(post(&receiver.url())).await;
    let expected =
        Answer { status: 503, retry_after_s: Some(7), content_type: Some("text/x".to_owned()), body: b"wait".to_vec(), is_cut: false };
    assert_eq!(answer, Ok(expected));
    assert_eq!(Outcome::from(&answer), Outcome::Answered { status: 503, retry_after_s: Some(7) });
}

#[tokio::test]
async fn bodies_may_have_no_length_or_come_in_chunks_or_not_at_all() {
    for (answer, body) in [
        (&b"HTTP/1.1 200 OK\r\n\r\nuntil the end"[..], "until the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", "old"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nx-trailer: 1\r\n\r\n", "abcde"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", ""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "x"),
    ] {
        let receiver = Receiver::answering_once(answer).await;
        let answer = client().send(post(&receiver.url())).await.unwrap();
        assert_eq!(String::from_utf8(answer.body).unwrap(), body);
    }
}

/// One that sends some bytes first, and then others again and again for as long as anybody listens.
async fn endless(first: &'static [u8], again: &'static [u8]) -> Receiver {
    Receiver::start(move |mut stream, _| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(first).await;
        while stream.write_all(again).await.is_ok() {}
    })
    .await
}

#[tokio::test]
async fn of_a_body_no_more_is_kept_than_is_wanted() {
    static LONG: [u8; 10_043] = {
        let (mut answer, head) = ([b'x'; 10_043], b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n");
        let mut index = 0;
        while index < head.len() {
            answer[index] = head[index];
            index += 1;
        }
        answer
    };
    let (receiver, client) = (Receiver::answering(&LONG[..10_042]).await, client());
    for (keep_max, len) in [(4096, 4096), (0, 0), (10_000, 10_000), (usize::MAX, 10_000)] {
        let answer = client.send(Attempt { keep_max, ..post(&receiver.url()) }).await.unwrap();
        assert_eq!((answer.body.len(), answer.is_cut), (len, len < 10_000));
    }
    assert_eq!(receiver.accepted(), 1, "what is not kept is read, so that the connection is of use");
}

#[tokio::test]
async fn a_body_without_end_is_cut() {
    let client = client();
    for (first, again) in [
        (&b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"[..], &b"a\r\n0123456789\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"0123456789"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", b"0123456789"),
    ] {
        let receiver = endless(first, again).await;
        for (keep_max, len) in [(4096, 4096), (usize::MAX, BODY_READ_MAX)] {
            let answer = client.send(Attempt { keep_max, ..post(&receiver.url()) }).await.unwrap();
            assert_eq!((answer.status, answer.body.len(), answer.is_cut), (200, len, true));
        }
        assert_eq!(receiver.accepted(), 2, "such a connection is not used again");
    }
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    for (first, again) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], &b"x-header: 0123456789\r\n"[..]),
        (b"HTTP/1.1 200 OK\r\nx-header: ", b"0123456789"),
        (b"HTTP/1.1 200 ", b"OK"),
    ] {
        let result = client().send(post(&endless(first, again).await.url())).await;
        assert_eq!(result, Err(Failure::new(Phase::Body, "the head of the answer is too large")));
    }
    let result = client().send(Attempt { timeout: BRIEF, ..post(&endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n").await.url()) }).await;
    assert_eq!(phase(&result), Some(Phase::Body), "{result:?}");
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    for answer in [
        &b"SSH-2.0-OpenSSH_9.9\r\n\r\n"[..],
        b"HTTP/2 200 OK\r\n\r\n",
        b"<html>no head</html>\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"HTTP/1.1 200 OK\r\nname : x\r\n\r\n",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let result = client().send(post(&Receiver::answering_once(answer).await.url())).await;
        assert_eq!(phase(&result), Some(Phase::Body), "{}: {result:?}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    for answer in [
        &b"H"[..],
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n",
    ] {
        let result = client().send(with_id(post(&Receiver::answering_once(answer).await.url()))).await;
        assert_eq!(phase(&result), Some(Phase::Body), "{}: {result:?}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_says_where() {
    let silent = Receiver::answering_once(b"").await;
    let result = client().send(post(&silent.url())).await;
    assert_eq!(result, Err(Failure::new(Phase::Wait, "the other side closed the connection without an answer")));
    assert_eq!(silent.accepted(), 1, "on a new connection, nothing is sent again");
    let broken = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        reset(stream);
    });
    let result = client().send(with_id(post(&broken.await.url()))).await;
    assert_eq!(result, Err(Failure::new(Phase::Wait, "the other side broke the connection")));
    let broken = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await;
        sleep(BRIEF).await;
        reset(stream);
    });
    let result = client().send(post(&broken.await.url())).await;
    assert_eq!(result, Err(Failure::new(Phase::Body, "the other side broke the connection")));
    let broken = Receiver::start(|stream, _| async { reset(stream) }).await;
    let (url, body) = (broken.url(), Bytes::from(vec![b'x'; 8 << 20]));
    let result = client().send(Attempt { body, ..post(&url) }).await;
    assert_eq!(phase(&result), Some(Phase::Write), "{result:?}");
}

#[tokio::test]
async fn all_of_it_together_has_a_limit() {
    let deaf = Receiver::start(|stream, _| async move {
        sleep(AMPLE).await;
        drop(stream);
    })
    .await;
    let brief = |url| Attempt { timeout: BRIEF, ..post(url) };
    let (url, body) = (deaf.url(), Bytes::from(vec![b'x'; 64 << 20]));
    assert_eq!(
        client().send(Attempt { body, ..brief(&url) }).await,
        Err(Failure::new(Phase::Write, "the request was not taken whole within 0.15 s"))
    );
    assert_eq!(client().send(brief(&url)).await, Err(Failure::new(Phase::Wait, "there was no answer within 0.15 s")));
    let drop_by_drop = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    let result = client().send(brief(&drop_by_drop.await.url())).await;
    assert_eq!(result, Err(Failure::new(Phase::Body, "the answer did not end within 0.15 s")));
}

#[tokio::test]
async fn an_answer_may_come_before_the_request_was_read() {
    let receiver = Receiver::start(|mut stream, _| async move {
        let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await;
        sleep(AMPLE).await;
    })
    .await;
    let (url, client) = (receiver.url(), client());
    let body = Bytes::from(vec![b'x'; 64 << 20]);
    let result = client.send(Attempt { body, ..post(&url) }).await;
    assert_eq!((status(&result), client.counts().idle), (Some(413), 0));
}

#[tokio::test]
async fn addresses_that_are_refused_are_not_connected_to() {
    let (receiver, client) = (Receiver::answering(OK).await, client_with(Limits::default(), Names::none(), &[]));
    for url in [
        receiver.url(),
        "ftp://example.com/".parse().unwrap(),
        "http://user@example.com/".parse().unwrap(),
        "http://[::1]/".parse().unwrap(),
    ] {
        assert_eq!(phase(&client.send(post(&url)).await), Some(Phase::Guard), "{url}");
    }
    assert_eq!((receiver.accepted(), client.counts().refused), (0, 4));
}
