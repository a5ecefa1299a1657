//! The flags of a node as typed: what was given, and nothing else. Every one is optional, and still text.

use super::listing::LISTING;
use clap::{ArgMatches, Command};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The flags of a node that were given.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Read settings from this TOML file [default: none]
    #[arg(long, value_name = "FILE", help_heading = "Settings")]
    pub config: Option<PathBuf>,
    /// Print the settings that would apply, as TOML, with where each came from, and exit
    #[arg(long, help_heading = "Settings")]
    pub print_config: bool,
    /// All others.
    #[command(flatten)]
    pub given: Given,
}

impl Flags {
    /// Joins them to those before the command's word, which they win over.
    pub fn over(self, before: Flags) -> Flags {
        let mut given = before.given;
        given.0.extend(self.given.0);
        Flags { config: self.config.or(before.config), print_config: self.print_config || before.print_config, given }
    }

    /// The first one that was given, by name.
    pub fn first(&self) -> Option<&'static str> {
        match (&self.config, self.print_config) {
            (Some(_), _) => Some("config"),
            (_, true) => Some("print_config"),
            _ => self.given.0.keys().next().copied(),
        }
    }
}

/// The texts that settings were given, by their names; a repeatable one has one for each time.
#[derive(Clone, Debug, Default)]
pub struct Given(pub(super) BTreeMap<&'static str, Vec<String>>);

impl clap::Args for Given {
    fn augment_args(command: Command) -> Command {
        command.args(LISTING.iter().map(|setting| setting.arg()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Given, clap::Error> {
        let texts = |name| Some((name, matches.get_many::<String>(name)?.cloned().collect()));
        Ok(Given(LISTING.iter().filter_map(|setting| texts(setting.name)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Given::from_arg_matches(matches)?.0);
        Ok(())
    }
}
