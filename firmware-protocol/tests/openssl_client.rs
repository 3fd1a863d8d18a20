//! A conformant client that is not ours: `openssl s_client` with raw public keys (RFC 7250) does a whole handshake with the code that serves
//! devices, told to send its Certificate, and exchanges a record each way under the keys that both derived.
//!
//! It takes OpenSSL 3.2 or later. `HOLDFAST_TEST_OPENSSL` names the program; without it the one on the path is tried.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]
#![allow(clippy::print_stdout, reason = "the transcript, and why the test did not run")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the other side is a process with a socket")]

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firmware_protocol::crypto::{Aead, Curve, KeyPair, PublicKey};
use firmware_protocol::dtls::cookie::Cookies;
use firmware_protocol::dtls::demux::{Datagram, demux};
use firmware_protocol::dtls::keys::KeyBlock;
use firmware_protocol::dtls::record::{self, Record, content};
use firmware_protocol::dtls::server::{Established, Handshaker, Pending, ServerCertificate};
use firmware_protocol::entropy::SeededEntropy;
use firmware_protocol::time::Millis;
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::X509;

const PATIENCE: Duration = Duration::from_secs(20);
const FROM_CLIENT: &[u8] = b"from the client\n";
const FROM_SERVER: &[u8] = b"from the server\n";
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

#[test]
fn a_conformant_client_completes() {
    let openssl = std::env::var("HOLDFAST_TEST_OPENSSL").unwrap_or_else(|_| "openssl".to_owned());
    if let Err(reason) = knows_raw_public_keys(&openssl) {
        // Past the capture of test output: a test that did not run should not look like one that did.
        let _ =
            writeln!(std::io::stderr(), "SKIPPED: {reason}; OpenSSL 3.2 or later has them (scripts/test fetches one where Debian has it)");
        return;
    }
    let (mut curve, mut entropy) = (Curve::new().unwrap(), SeededEntropy::new(11));
    let server_key = KeyPair::generate(&mut curve, &mut entropy).unwrap();
    let client_key = KeyPair::generate(&mut curve, &mut entropy).unwrap();
    let mut server = Server::new(server_key.clone(), *client_key.public());
    let mut client = Client::start(&openssl, server.address(), &client_key);

    let Established { public_key, connection, keys, finished_sequence, .. } = server.shake_hands();
    assert_eq!(public_key, *client_key.public());
    assert_eq!((connection, finished_sequence), (None, 0), "nobody asked for a connection id");

    client.say(FROM_CLIENT);
    assert_eq!(server.receive(&keys), (content::APPLICATION, FROM_CLIENT.to_vec()));
    server.send(&keys, 1, FROM_SERVER);
    let transcript = client.read_until(FROM_SERVER);
    client.hang_up();
    assert_eq!(server.receive(&keys), (content::ALERT, CLOSE_NOTIFY.to_vec()));
    let transcript = transcript + &client.end();

    println!("{transcript}");
    assert!(transcript.contains("ECDHE-ECDSA-AES128-CCM8"), "{transcript}");
    let digits: String = transcript.chars().filter(char::is_ascii_hexdigit).collect();
    let point = &server_key.public().spki()[26..];
    assert!(digits.contains(&hex::encode(point)), "the client shows the raw public key it was sent: {transcript}");
}

fn knows_raw_public_keys(openssl: &str) -> Result<(), String> {
    let version = Command::new(openssl).arg("version").output().map_err(|error| format!("no {openssl}: {error}"))?;
    let help = Command::new(openssl).args(["s_client", "-help"]).output().map_err(|error| error.to_string())?;
    let text = [help.stdout, help.stderr].concat();
    let known = text.windows(18).any(|window| window == b"-enable_server_rpk");
    known.then_some(()).ok_or_else(|| format!("{} has no raw public keys", String::from_utf8_lossy(&version.stdout).trim()))
}

/// The handshake code behind a socket, for one client.
struct Server {
    socket: UdpSocket,
    started: Instant,
    handshaker: Handshaker,
    cookies: Cookies,
    entropy: SeededEntropy,
    aead: Aead,
    expected: PublicKey,
    client: Option<SocketAddr>,
}

impl Server {
    fn new(key: KeyPair, expected: PublicKey) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut entropy = SeededEntropy::new(12);
        Self {
            socket,
            started: Instant::now(),
            handshaker: Handshaker::new(key, ServerCertificate::Sent).unwrap(),
            cookies: Cookies::new(Millis(0), &mut entropy),
            entropy,
            aead: Aead::new().unwrap(),
            expected,
            client: None,
        }
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn next_datagram(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        loop {
            assert!(self.started.elapsed() < PATIENCE, "nothing came");
            if let Ok((len, from)) = self.socket.recv_from(&mut buffer) {
                self.client = Some(from);
                return buffer[..len].to_vec();
            }
        }
    }

    fn reply(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.client.unwrap()).unwrap();
    }

    fn shake_hands(&mut self) -> Established<()> {
        let (mut pending, mut challenged): (Option<Pending>, bool) = (None, false);
        loop {
            let datagram = self.next_datagram();
            let peer = self.client.unwrap();
            match demux(&datagram) {
                Datagram::Hello(hello) if !self.cookies.proves(peer, &hello) => {
                    assert!(hello.cookie.is_empty(), "the cookie that came back is not the one that was sent");
                    challenged = true;
                    self.reply(&self.cookies.challenge(peer, &hello));
                }
                Datagram::Hello(hello) => {
                    let mut begun = self.handshaker.begin(&hello, None, &mut self.entropy).unwrap();
                    self.reply(&begun.flight(hello.record_sequence));
                    pending = Some(begun);
                }
                Datagram::Flight { connection: None } => {
                    let pending = pending.as_ref().expect("a hello came first");
                    let known = self.expected;
                    let mut established = self.handshaker.finish(pending, &datagram, |key| (*key == known).then_some(())).unwrap();
                    let keys = established.keys;
                    let flight = established.final_flight.write(&mut self.aead, &keys, 0).unwrap();
                    self.reply(&flight);
                    assert!(challenged, "a cookie was asked for");
                    return established;
                }
                other => panic!("{other:?}: {}", hex::encode(&datagram)),
            }
        }
    }

    /// The next protected record's type and content.
    fn receive(&mut self, keys: &KeyBlock) -> (u8, Vec<u8>) {
        let datagram = self.next_datagram();
        let (record, rest) = Record::parse(&datagram).unwrap();
        assert!(rest.is_empty() && record.epoch == 1, "{}", hex::encode(&datagram));
        let (content_type, plaintext) = record.open(&mut self.aead, &keys.client()).expect("sealed with the client's key");
        (content_type, plaintext.to_vec())
    }

    fn send(&mut self, keys: &KeyBlock, sequence: u64, plaintext: &[u8]) {
        let mut datagram = Vec::new();
        record::write_sealed(&mut datagram, &mut self.aead, &keys.server(), None, content::APPLICATION, sequence, plaintext).unwrap();
        self.reply(&datagram);
    }
}

/// A running `s_client`.
struct Client {
    process: Child,
    files: PathBuf,
}

impl Client {
    fn start(openssl: &str, server: SocketAddr, key: &KeyPair) -> Self {
        let files = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("openssl-client-{}", std::process::id()));
        std::fs::create_dir_all(&files).unwrap();
        let (key_file, certificate_file) = (files.join("key.pem"), files.join("certificate.pem"));
        std::fs::write(&key_file, key.to_pem().unwrap()).unwrap();
        // The client takes its key from a certificate, of which it then sends nothing but the key.
        std::fs::write(&certificate_file, certificate(key)).unwrap();
        let mut command = Command::new(openssl);
        command.args(["s_client", "-dtls1_2", "-connect", &server.to_string(), "-cipher", "ECDHE-ECDSA-AES128-CCM8:@SECLEVEL=0"]);
        command.args(["-enable_server_rpk", "-enable_client_rpk", "-nocommands", "-state"]);
        command.arg("-key").arg(&key_file).arg("-cert").arg(&certificate_file);
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self { process, files }
    }

    fn say(&mut self, bytes: &[u8]) {
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(bytes).unwrap();
        input.flush().unwrap();
    }

    /// Its output until `end` has come.
    fn read_until(&mut self, end: &[u8]) -> String {
        let output = self.process.stdout.as_mut().unwrap();
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(end) {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "it ended after: {}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// End of input: it says goodbye and leaves.
    fn hang_up(&mut self) {
        self.process.stdin = None;
    }

    /// The rest of what it had to say.
    fn end(mut self) -> String {
        let mut rest = String::new();
        self.process.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        self.process.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
        assert!(self.process.wait().unwrap().success(), "{rest}");
        rest
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Both fail when it is over already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

fn certificate(key: &KeyPair) -> Vec<u8> {
    let key = PKey::private_key_from_pem(&key.to_pem().unwrap()).unwrap();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    builder.build().to_pem().unwrap()
}
