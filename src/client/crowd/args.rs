//! The crowd's command line.
use std::time::Duration;

use clap::Args;

/// The flags of `fanfare crowd`. Not `Debug`, since they hold a token.
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  fanfare crowd                       200 members for a minute: open http://127.0.0.1:8080/?video=42 and watch
  fanfare crowd -n 10000 -l 500 -d 5m   how does this box bear an evening?

Every like is another member's, since a member likes once. Comments and messages tell when they were posted and
which they are, and every stream is checked for each comment that was acknowledged while it was there or away.

Exit status: 0, 1 when an acknowledged comment or like was lost or streams could not be held, 2 for bad arguments.")]
pub struct CrowdArgs {
    /// The server
    #[arg(long, env = "FANFARE_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Video that the crowd watches
    #[arg(long, default_value = "42")]
    pub video: String,
    /// Conversation that a dozen of them talk in [default: named as the video]
    #[arg(long)]
    pub chat: Option<String>,
    /// Members, each with a stream of its own
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub members: u32,
    /// How long they stay together, such as 90s or 2h; at most a day
    #[arg(long, short = 'd', value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub duration: Duration,
    /// Over which they arrive [default: a fifth of the duration, at most 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub arrive: Option<Duration>,
    /// Likes a second on average; at a goal it is several times as many [default: one for 20 members]
    #[arg(long, short = 'l', value_name = "N", value_parser = rate)]
    pub likes: Option<f64>,
    /// Comments a second on average [default: one for 50 members, at most 10]
    #[arg(long, value_name = "N", value_parser = rate)]
    pub comments: Option<f64>,
    /// Time between goals
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub goal: Duration,
    /// How long a member stays on average before leaving for some seconds
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub stay: Duration,
    /// What the crowd does follows from this number
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Client processes [default: as many as the limit on open files asks for]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub processes: Option<u32>,
    /// Present this token; FANFARE_TOKEN keeps it out of the list of processes [default: none]
    #[arg(long, env = "FANFARE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Report as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let day = Duration::from_secs(24 * 3600);
    if time < Duration::from_secs(1) || time > day { Err("give 1s to 1day".to_owned()) } else { Ok(time) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=1e6).contains(&rate) { Ok(rate) } else { Err("give 0 to 1000000 a second".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        crowd: super::CrowdArgs,
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        let cli = Cli::try_parse_from(["crowd", "-n", "10", "-d", "90s", "-l", "0.5"]).unwrap();
        assert_eq!((cli.crowd.duration.as_secs(), cli.crowd.likes), (90, Some(0.5)));
        for bad in [["-n", "0"], ["-d", "0s"], ["-d", "2d"], ["-l", "-1"], ["-l", "x"], ["-l", "nan"]] {
            assert!(Cli::try_parse_from(["crowd"].into_iter().chain(bad)).is_err(), "{bad:?}");
        }
    }
}
