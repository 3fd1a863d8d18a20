//! Tests of the whole dispatcher, against a small store and receivers in virtual time.

mod fair;
mod random;
mod rules;
mod world;
