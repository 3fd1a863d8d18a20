//! Hooks carry events to other systems: one accepted event and one hook are one delivery, and a delivery is one or more attempts, each an HTTP
//! request, until one succeeds or there is no sense in another.
//!
//! What a hook says is a [`hook::Hook`]; [`request`] makes of it and an event what is sent, with [`template`]s, and [`response`] what is published of the
//! answer. [`sign`] signs. [`client`] sends, to addresses that [`guard`] allows. [`dispatcher`] decides what is sent when, of which queue, and what
//! becomes of it; it does no I/O and takes `now`. Where deliveries are kept is the server's.

pub mod client;
pub mod delivery;
pub mod dispatcher;
pub mod guard;
pub mod hook;
pub mod request;
pub mod response;
pub mod sign;
pub mod template;
