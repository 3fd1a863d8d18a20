use std::time::Instant;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

use super::receiver::{OK, Receiver, read_request, reset};
use super::*;

async fn settle() {
    sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn the_connection_of_a_hook_is_used_again_and_not_for_another_hook() {
    let (receiver, client) = (Receiver::answering(OK).await, client());
    let url = receiver.url();
    for _ in 0..20 {
        client.send(post(&url)).await.unwrap();
    }
    assert_eq!((receiver.accepted(), client.counts().reused), (1, 19));
    client.send(Attempt { hook: HookId([2; 12]), ..post(&url) }).await.unwrap();
    assert_eq!(receiver.accepted(), 2);
    client.send(get(&receiver.named("127.0.0.1"))).await.unwrap();
    assert_eq!(receiver.accepted(), 2, "another path of the same host");
    let counts = client.counts();
    assert_eq!((counts.opened, counts.reused, counts.idle, counts.connections), (2, 20, 2, 2));
}

#[tokio::test]
async fn requests_at_once_have_connections_of_their_own() {
    let receiver = Receiver::start(|mut stream, _| async move {
        while read_request(&mut stream).await.is_some() {
            sleep(BRIEF).await;
            let _ = stream.write_all(OK).await;
        }
    })
    .await;
    let (url, client) = (receiver.url(), client());
    for _ in 0..2 {
        let results = tokio::join!(client.send(post(&url)), client.send(post(&url)), client.send(post(&url)));
        assert!(results.0.is_ok() && results.1.is_ok() && results.2.is_ok());
    }
    assert_eq!((receiver.accepted(), client.counts().idle), (3, 3));
}

#[tokio::test]
async fn a_connection_that_ends_with_its_answer_is_not_used_again() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"[..],
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let (receiver, client) = (Receiver::answering(answer).await, client());
        for _ in 0..3 {
            client.send(post(&receiver.url())).await.unwrap();
        }
        assert_eq!((receiver.accepted(), client.counts().idle), (3, 0), "{}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_noticed_before_it_is_used() {
    for with_reset in [false, true] {
        let receiver = Receiver::start(move |mut stream, _| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(OK).await;
            if with_reset {
                settle().await;
                reset(stream);
            }
        })
        .await;
        let (url, client) = (receiver.url(), client());
        for _ in 0..3 {
            assert_eq!(status(&client.send(post(&url)).await), Some(200));
            sleep(BRIEF).await;
        }
        let counts = client.counts();
        assert_eq!((receiver.accepted(), counts.reused, counts.repeated), (3, 0, 0));
    }
}

#[tokio::test]
async fn what_comes_unasked_ends_a_connection() {
    let receiver = Receiver::start(|mut stream, number| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(OK).await;
        settle().await;
        let _ = stream.write_all(b"HTTP/1.1 500 Smuggled\r\ncontent-length: 0\r\n\r\n").await;
        if number > 0 {
            sleep(AMPLE).await;
        }
    })
    .await;
    let (url, client) = (receiver.url(), client());
    for _ in 0..3 {
        assert_eq!(status(&client.send(post(&url)).await), Some(200));
        sleep(BRIEF).await;
    }
    assert_eq!(receiver.accepted(), 3);
}

/// One that answers the first request of its first connection, and closes that when the second has come; the others it serves for as long as they are not more
/// than so many.
async fn forgetful(serves: usize) -> Receiver {
    Receiver::start(move |mut stream, number| async move {
        read_request(&mut stream).await;
        if number > serves {
            return;
        }
        let _ = stream.write_all(OK).await;
        read_request(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn a_request_on_a_connection_that_is_closed_goes_out_again_only_if_the_receiver_can_tell() {
    let (receiver, client) = (forgetful(9).await, client());
    let url = receiver.url();
    client.send(post(&url)).await.unwrap();
    let result = client.send(post(&url)).await;
    assert_eq!(result, Err(Failure::new(Phase::Wait, "the other side closed the connection without an answer")));
    assert_eq!((receiver.accepted(), client.counts().repeated), (1, 0));
    for again in
        [with_id(post(&url)), get(&url), Attempt { method: Method::PUT, ..post(&url) }, Attempt { method: Method::DELETE, ..get(&url) }]
    {
        client.forget(HOOK);
        let before = receiver.accepted();
        client.send(post(&url)).await.unwrap();
        assert_eq!(status(&client.send(again).await), Some(200));
        assert_eq!(receiver.accepted(), before + 2);
    }
    assert_eq!(client.counts().repeated, 4);
}

#[tokio::test]
async fn a_request_goes_out_again_once() {
    let (receiver, client) = (forgetful(0).await, client());
    let url = receiver.url();
    client.send(post(&url)).await.unwrap();
    assert_eq!(phase(&client.send(with_id(post(&url))).await), Some(Phase::Wait));
    assert_eq!((receiver.accepted(), client.counts().repeated), (2, 1));
}

#[tokio::test]
async fn half_an_answer_on_a_kept_connection_is_not_asked_for_again() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        let _ = stream.write_all(OK).await;
        read_request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 2").await;
    })
    .await;
    let (url, client) = (receiver.url(), client());
    client.send(post(&url)).await.unwrap();
    assert_eq!(phase(&client.send(with_id(get(&url))).await), Some(Phase::Body));
    assert_eq!((receiver.accepted(), client.counts().repeated), (1, 0));
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed() {
    let receiver = Receiver::answering(OK).await;
    let client = client_with(Limits { idle: BRIEF, ..Limits::default() }, Names::none(), &["127.0.0.1"]);
    client.send(post(&receiver.url())).await.unwrap();
    client.tidy();
    assert_eq!(client.counts().idle, 1);
    sleep(BRIEF * 2).await;
    client.send(Attempt { hook: HookId([2; 12]), ..post(&receiver.url()) }).await.unwrap();
    client.tidy();
    let counts = client.counts();
    assert_eq!((counts.idle, counts.connections), (1, 1));
    sleep(BRIEF * 2).await;
    client.send(Attempt { hook: HookId([2; 12]), ..post(&receiver.url()) }).await.unwrap();
    assert_eq!(receiver.accepted(), 3, "what is too old is not used, tidied or not");
}

#[tokio::test]
async fn no_more_connections_are_kept_than_may_and_the_oldest_makes_room() {
    let receiver = Receiver::answering(OK).await;
    let client = client_with(Limits { idle_max: 2, ..Limits::default() }, Names::none(), &["127.0.0.1"]);
    let url = receiver.url();
    let hook = |number| Attempt { hook: HookId([number; 12]), ..post(&url) };
    for number in [1, 2, 3, 3, 2, 1] {
        client.send(hook(number)).await.unwrap();
    }
    let counts = client.counts();
    assert_eq!((counts.opened, counts.reused, counts.idle, counts.evicted, counts.connections), (4, 2, 2, 2, 2));
}

#[tokio::test]
async fn there_are_no_more_connections_than_may_be() {
    let receiver = Receiver::start(|mut stream, _| async move {
        while read_request(&mut stream).await.is_some() {
            sleep(BRIEF).await;
            let _ = stream.write_all(OK).await;
        }
    })
    .await;
    let client = client_with(Limits { connections_max: 2, ..Limits::default() }, Names::none(), &["127.0.0.1"]);
    let (url, began) = (receiver.url(), Instant::now());
    let hook = |number| Attempt { hook: HookId([number; 12]), ..post(&url) };
    let late = Attempt { timeout: BRIEF / 3, ..hook(3) };
    let results = tokio::join!(client.send(hook(1)), client.send(hook(2)), client.send(late));
    assert_eq!((status(&results.0), status(&results.1), phase(&results.2)), (Some(200), Some(200), Some(Phase::Connect)));
    let results = tokio::join!(client.send(hook(3)), client.send(hook(4)));
    assert_eq!((status(&results.0), status(&results.1)), (Some(200), Some(200)), "kept ones make room");
    assert!(client.counts().connections <= 2 && began.elapsed() < AMPLE);
}

#[tokio::test]
async fn one_that_waits_for_a_connection_gets_one_that_is_done_with() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        sleep(BRIEF).await;
        let _ = stream.write_all(OK).await;
    })
    .await;
    let client = client_with(Limits { connections_max: 1, idle_max: 0, ..Limits::default() }, Names::none(), &["127.0.0.1"]);
    let url = receiver.url();
    let results = tokio::join!(client.send(post(&url)), client.send(post(&url)), client.send(post(&url)));
    assert!(results.0.is_ok() && results.1.is_ok() && results.2.is_ok());
}

#[tokio::test]
async fn nothing_is_left_of_an_attempt_that_is_given_up() {
    let receiver = Receiver::start(|mut stream, _| async move {
        read_request(&mut stream).await;
        sleep(AMPLE).await;
    })
    .await;
    let (url, client) = (receiver.url(), client());
    assert!(timeout(BRIEF, client.send(post(&url))).await.is_err());
    let counts = client.counts();
    assert_eq!((receiver.accepted(), counts.idle, counts.connections), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_at_once_all_come_through_although_connections_close_all_the_time() {
    let receiver = Receiver::start(|mut stream, number| async move {
        for _ in 0..=number % 5 {
            if read_request(&mut stream).await.is_none() || stream.write_all(OK).await.is_err() {
                return;
            }
        }
    })
    .await;
    let (url, client) = (receiver.url(), Arc::new(client_with(Limits { idle_max: 8, ..Limits::default() }, Names::none(), &["127.0.0.1"])));
    let lanes = (0..12).map(|lane| {
        let (url, client) = (url.clone(), Arc::clone(&client));
        tokio::spawn(async move {
            for _ in 0..50 {
                let result = client.send(Attempt { hook: HookId([lane % 3; 12]), ..with_id(post(&url)) }).await;
                assert_eq!(status(&result), Some(200), "{result:?}");
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
    let counts = client.counts();
    assert!(counts.idle <= 8 && counts.connections == counts.idle && counts.opened >= 200, "{counts:?}");
}
