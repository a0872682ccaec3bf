//! The `pixart` binary: hands over to [`pixart::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    pixart::cli::run()
}
