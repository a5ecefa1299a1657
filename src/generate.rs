//! `fanfare generate`: manual pages and shell completions, from the very definition of the command line. The package is
//! built with it, so they cannot tell of flags that are not there.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::{Args, GenerateArgs, Generated};

/// Writes the files. 0, or 1 when a file cannot be written.
pub fn run(args: &GenerateArgs) -> ExitCode {
    let written = std::fs::create_dir_all(&args.directory).and_then(|()| match args.what {
        Generated::Man => man(&args.directory),
        Generated::Completions => completions(&args.directory),
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanfare generate: {}: {error}", args.directory.display());
            ExitCode::FAILURE
        }
    }
}

/// `fanfare.1`, and `fanfare-COMMAND.1` for each command.
fn man(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Args::command(), directory)
}

/// Under the names by which the shells look for them.
fn completions(directory: &Path) -> io::Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Args::command(), "fanfare", directory)?;
    }
    Ok(())
}
