//! The load generator's command line.
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Load a server, check every delivery, report latency percentiles, memory and CPU
#[derive(Clone, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// What to load the server with.
#[derive(Clone, Subcommand)]
pub enum Scenario {
    /// Open connections as fast as the server takes them
    Connect(Common),
    /// Hold connections that get nothing, and see what memory they cost
    Idle(Common),
    /// One topic that everybody watches
    Broadcast(Broadcast),
    /// Many small topics, each with a few viewers
    Topics(Topics),
    /// Publish as fast as the server takes it, with nobody subscribed
    Publish(Common),
    /// Likes through the database, each by another member
    Likes(Common),
    /// A burst of likes of one video, through the database and to its 10,000 viewers: 10,000 likes a second
    Burst(Common),
    /// Some clients do not read: what the others notice
    Slow(Slow),
    /// All connections are cut at once and come back with what they saw last, while comments are published
    Reconnect(Common),
}

#[derive(Clone, Args)]
pub struct Broadcast {
    #[command(flatten)]
    pub common: Common,
    /// Search for the highest rate at which nothing is lost
    #[arg(long)]
    pub find_max: bool,
    /// In that search: a rate counts if its p99 is below this many ms
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub p99_max: u64,
    /// In that search: a rate counts if at most this share of its deliveries came merged, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub merged_max: f64,
}

#[derive(Clone, Args)]
pub struct Topics {
    #[command(flatten)]
    pub common: Common,
    /// Topics
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub topics: u32,
    /// Viewers of each
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub viewers: u32,
}

#[derive(Clone, Args)]
pub struct Slow {
    #[command(flatten)]
    pub common: Common,
    /// Clients that subscribe and never read
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub stalled: u32,
}

/// How events are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PublishMode {
    /// A POST an event
    Single,
    /// Many events a POST, one JSON a line
    Ndjson,
}

/// What marks a connection as open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadyOn {
    /// The `connected` event
    Connected,
    /// The head of the answer
    Head,
}

/// What every scenario takes; what is left out has the scenario's own default. Not `Debug`, since it holds a token.
#[derive(Clone, Args)]
pub struct Common {
    /// The server under load, of any make
    #[arg(long, env = "FANFARE_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Where to publish, when not at --url; several get every event each (frontends that share a public port)
    #[arg(long, value_name = "URL")]
    pub publish_url: Vec<String>,
    /// The server's internal listener, whose /health/ready must be 200 before the load begins
    #[arg(long, value_name = "URL")]
    pub internal_url: Option<String>,
    /// Connections that subscribe
    #[arg(long, short = 'c', value_name = "N", value_parser = clap::value_parser!(u32).range(0..=2_000_000))]
    pub connections: Option<u32>,
    /// Events a second in all, at their own times whether or not the server keeps up
    #[arg(long, short = 'r', value_name = "N")]
    pub rate: Option<f64>,
    /// Seconds that are measured
    #[arg(long, short = 'd', value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub duration: Option<u32>,
    /// Seconds of load before that, which are checked but not timed
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub warmup: Option<u32>,
    /// Seconds without any delivery after which what is missing counts as lost
    #[arg(long, value_name = "S", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub drain: u32,
    /// Threads in all (default: one a core; in publish, likes and burst: one)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Client processes (default: as many as the limit on open files asks for)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub processes: Option<u32>,
    /// Connections that publish (default 1; in publish and likes: 64; in burst: 256)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub publishers: Option<u32>,
    /// How to publish (default: ndjson above 2,000 events a second)
    #[arg(long, value_enum)]
    pub publish_mode: Option<PublishMode>,
    /// Requests that a publishing connection has under way at once (default: 64; in publish, likes and burst: 1)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub pipeline: Option<u32>,
    /// Events a POST in NDJSON at most
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub batch: u32,
    /// Bytes of an event's data at least
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=16_000))]
    pub payload: Option<u32>,
    /// Type of the events
    #[arg(long = "type", value_name = "TYPE", default_value = "like")]
    pub kind: String,
    /// Key of the events
    #[arg(long, value_name = "KEY", default_value = "like")]
    pub key: String,
    /// Topic, or what the topics' names begin with (default: a new one each run)
    #[arg(long)]
    pub topic: Option<String>,
    /// Connects under way at once; above the listener's backlog (often 128) the kernel drops some, which then take 1 s
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub window: u32,
    /// What marks a connection as open
    #[arg(long, value_enum, default_value = "connected")]
    pub ready_on: ReadyOn,
    /// By https:// shake hands in full each time, instead of coming back with what the server gave
    #[arg(long)]
    pub full_handshakes: bool,
    /// How often to open all connections, in connect
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// The server's process, repeatable (default: whoever listens on the port, when that is here)
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Token for all requests
    #[arg(long, env = "FANFARE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Path of a subscription, with {topic}
    #[arg(long, value_name = "PATH", default_value = "/v1/events?topic={topic}")]
    pub subscribe_path: String,
    /// Path of a single publish, with {topic} [default: /v1/topics/{topic}/events; in likes: /v1/videos/{topic}/likes]
    #[arg(long, value_name = "PATH")]
    pub publish_path: Option<String>,
    /// Publish the event as subscribers are to see it, for servers that pass a body on as it is
    #[arg(long)]
    pub raw_body: bool,
    /// Report as JSON on standard output
    #[arg(long)]
    pub json: bool,
    /// A page with pictures of the run; runs that FILE has already stay, and are drawn beside it
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// What the run is called there [default: version and date]
    #[arg(long, value_name = "NAME", requires = "report")]
    pub label: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        bench: super::BenchArgs,
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        for scenario in ["connect", "idle", "broadcast", "topics", "publish", "likes", "burst", "slow", "reconnect"] {
            Cli::try_parse_from(["bench", scenario, "-c", "10", "-d", "1"]).unwrap();
        }
        assert!(Cli::try_parse_from(["bench", "broadcast", "-d", "0"]).is_err());
    }
}
