//! The server's program. Everything it does is in the library.

fn main() {}
