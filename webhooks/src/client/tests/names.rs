use std::time::Instant;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::receiver::{OK, Receiver};
use super::*;

const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

async fn on_second_address(answer: &'static [u8]) -> Receiver {
    Receiver::start_on("127.0.0.2:0", move |mut stream, _| async move {
        while receiver::read_request(&mut stream).await.is_some() && tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.is_ok()
        {
        }
    })
    .await
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_a_moment_later_leads_nowhere() {
    // The second address of this machine stands for a public one.
    let receiver = on_second_address(CLOSE).await;
    let names = Names::leading(&[&["127.0.0.2"], &["127.0.0.1"], &["127.0.0.2", "127.0.0.1"], &["127.0.0.2"]]);
    let client = client_with(Limits::default(), names, &["127.0.0.2"]);
    let url = receiver.named("rebinding.example");
    assert_eq!(status(&client.send(post(&url)).await), Some(200));
    for _ in 0..2 {
        let result = client.send(post(&url)).await;
        assert_eq!(result, Err(Failure::new(Phase::Guard, "the host has a loopback address, and hooks go to public ones only")));
    }
    assert_eq!(status(&client.send(post(&url)).await), Some(200));
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn a_kept_connection_goes_where_it_went() {
    let receiver = on_second_address(OK).await;
    let client = client_with(Limits::default(), Names::leading(&[&["127.0.0.2"], &["127.0.0.1"]]), &["127.0.0.2"]);
    let url = receiver.named("rebinding.example");
    for _ in 0..3 {
        assert_eq!(status(&client.send(post(&url)).await), Some(200));
    }
    client.forget(HOOK);
    assert_eq!(phase(&client.send(post(&url)).await), Some(Phase::Guard));
}

#[tokio::test]
async fn names_without_addresses_and_of_private_ones_are_told_apart() {
    for (names, expected) in [
        (Names::none(), (Phase::Dns, "the name of the host could not be looked up")),
        (Names::leading(&[&[]]), (Phase::Guard, "the name of the host has no address")),
        (Names::leading(&[&["10.0.0.1"]]), (Phase::Guard, "the host has a private address, and hooks go to public ones only")),
        (
            Names::leading(&[&["8.8.8.8", "::ffff:10.0.0.1"]]),
            (Phase::Guard, "the host has a translated address, and hooks go to public ones only"),
        ),
        (
            Names::leading(&[&["8.8.8.8", "169.254.169.254"]]),
            (Phase::Guard, "the host has a metadata address, and hooks go to public ones only"),
        ),
    ] {
        let client = client_with(Limits::default(), names, &["0.0.0.0/8"]);
        let result = client.send(post(&"http://name.example/".parse().unwrap())).await;
        assert_eq!(result, Err(Failure::new(expected.0, expected.1)));
    }
}

#[tokio::test]
async fn a_name_that_nobody_answers_for_has_a_limit_of_its_own() {
    let client = client_with(Limits { lookup: BRIEF, ..Limits::default() }, Names::hanging(), &[]);
    let (url, began) = ("http://name.example/".parse().unwrap(), Instant::now());
    let result = client.send(post(&url)).await;
    assert_eq!(result, Err(Failure::new(Phase::Dns, "the name of the host was not looked up within 0.15 s")));
    assert!(began.elapsed() < AMPLE);
    let client = client_with(Limits::default(), Names::hanging(), &[]);
    assert_eq!(phase(&client.send(Attempt { timeout: BRIEF, ..post(&url) }).await), Some(Phase::Dns));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_does_not_answer() {
    let receiver = on_second_address(OK).await;
    let names = Names::leading(&[&["127.0.0.1", "127.0.0.3", "127.0.0.2"]]);
    let client = client_with(Limits::default(), names, &["127.0.0.0/8"]);
    assert_eq!(status(&client.send(post(&receiver.named("several.example"))).await), Some(200));
}

#[tokio::test]
async fn nobody_at_the_address_is_a_failure_to_connect() {
    let receiver = Receiver::answering(OK).await;
    let url = receiver.named("127.0.0.4");
    assert_eq!(client().send(post(&url)).await, Err(Failure::new(Phase::Connect, "the connection was refused")));
    let (full, _waiting) = full_receiver().await;
    let client = client_with(Limits { connect: BRIEF, ..Limits::default() }, Names::none(), &["127.0.0.0/8"]);
    let result = client.send(post(&full)).await;
    assert_eq!(result, Err(Failure::new(Phase::Connect, "there was no connection within 0.15 s")));
}

/// One that accepts nobody, with as many at its door as there is room for, so that whoever comes hears nothing.
async fn full_receiver() -> (Url, (TcpListener, Vec<TcpStream>)) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(Ok(stream)) = timeout(BRIEF, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    (Url::parse(&format!("http://{address}/")).unwrap(), (listener, waiting))
}
