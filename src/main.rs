//! The program `natterjack`.

use std::process::ExitCode;

fn main() -> ExitCode {
    natterjack::run()
}
