//! The `fanfare` binary: parse, choose the role, run, exit code.

use clap::Parser;
use fanfare::args::{Action, Args};
use fanfare::auth::mint;
use fanfare::backup;
use fanfare::check;
use fanfare::client::{bench, crowd, publish, subscribe, top, trace};
use fanfare::generate;
use fanfare::roles;
use fanfare::settings::{Flags, Role, Settings};
use std::io::Write;
use std::process::ExitCode;

/// Exit status for a command line or a setting that will not do.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Args::parse().action() {
        Ok(Action::Run(role, flags)) => node(role, &flags, |settings| roles::run(settings, &flags)),
        Ok(Action::Subscribe(args)) => subscribe::run(&args),
        Ok(Action::Publish(args)) => publish::run(&args),
        Ok(Action::Trace(args)) => trace::run(&args),
        Ok(Action::Top(args)) => top::run(&args),
        Ok(Action::Bench(args)) => bench::run(&args),
        Ok(Action::Crowd(args)) => crowd::run(&args),
        Ok(Action::Token(args)) => mint::run(&args),
        Ok(Action::Check(args, role, flags)) => node(role, &flags, |settings| check::run(&args, settings)),
        Ok(Action::Backup(to, flags)) => node(Role::All, &flags, |settings| backup::backup(&to, settings)),
        Ok(Action::Restore(from, flags)) => node(Role::All, &flags, |settings| backup::restore(&from, settings)),
        Ok(Action::Generate(args)) => generate::run(&args),
        Err(error) => error.exit(),
    }
}

/// Prints the settings of a node if asked to, and else does `run` with them.
fn node(role: Role, flags: &Flags, run: impl FnOnce(&Settings) -> ExitCode) -> ExitCode {
    let settings = match Settings::resolve(role, flags, std::env::vars_os()) {
        Ok(settings) => settings,
        Err(error) => {
            // Where nobody reads or a disk is full, the exit status still tells.
            let _ = writeln!(std::io::stderr(), "fanfare: {error}");
            return ExitCode::from(USAGE);
        }
    };
    if !flags.print_config {
        return run(&settings);
    }
    for warning in &settings.warnings {
        let _ = writeln!(std::io::stderr(), "fanfare: warning: {warning}");
    }
    // A reader such as `head` may have gone, which is no reason to panic.
    match std::io::stdout().write_all(settings.to_toml().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
