//! DTLS 1.2 in the one profile that Device OS speaks.
pub mod cid;
pub mod keys;
