//! The server's program. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast::cli::main()
}
