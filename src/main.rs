//! The server's program. Everything it does is in the library.

use std::process::ExitCode;

/// Chosen because a frozen thread must not stop its neighbours' allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    holdfast::cli::main()
}
