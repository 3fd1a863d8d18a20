//! DTLS 1.2 (RFC 6347) in the one profile that Device OS speaks: `TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8`, P-256, raw public keys, no server
//! Certificate message, connection ids of draft-ietf-tls-dtls-connection-id-05. Nothing else is negotiated.
//!
//! [`demux`] tells what a datagram is, [`cookie`] answers a first ClientHello without keeping anything, [`server`] does the handshake,
//! [`record`] protects what follows. [`client`] is the device's side. The source of every rule is RFC 6347 and 5246, the connection-id draft,
//! or the behaviour of the devices; where those differ, the devices win.

pub mod cid;
pub mod client;
pub mod cookie;
pub mod demux;
pub mod hello;
pub mod keys;
pub mod messages;
pub mod probe;
pub mod record;
pub mod sequence;
pub mod server;
