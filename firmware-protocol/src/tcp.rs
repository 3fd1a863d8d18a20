//! TCP as devices without DTLS speak it ("lightssl", docs/protocol.md): an RSA handshake, then CoAP messages in frames of AES-CBC.
//!
//! [`handshake`] is the server's side of the handshake, [`client`] the device's, [`frame`] carries messages over the stream, [`session`] is what
//! a server holds of one connection. Nothing outlives its connection: each begins with a handshake and a Hello.

pub mod client;
pub mod frame;
pub mod handshake;
pub mod session;
