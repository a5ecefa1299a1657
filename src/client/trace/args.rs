//! The flags of `fanfare trace`.

/// The flags of `fanfare trace`. Not `Debug`, since they hold a token.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare trace live:42 like '{\"member\":\"ana\"}'
  fanfare trace chat:7 message --url http://DISPATCHER:8080 --watch http://FRONTEND:8080 --internal http://DISPATCHER:8081
  fanfare trace chat:7 message --watch http://EU:8080 --watch http://US:8080 --internal http://EU:8081 --internal http://US:8081

Times between two nodes are as good as their clocks: ± says how wrong one may be, and ? marks one that is no longer than that.

Exit status: 0, 1 when the event did not come back or nobody kept its journey, 2 for a mistake in the arguments.")]
pub struct TraceArgs {
    /// Topic to send to, such as live:42
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Type of the event, such as like
    #[arg(value_name = "TYPE")]
    pub event_type: String,
    /// Data of the event as JSON [default: null]
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Send to the dispatcher at this URL
    #[arg(long, env = "FANFARE_URL", hide_env = true, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Wait for it on a stream of the frontend at this URL; repeatable, such as one a data center [default: the URL that it is sent to]
    #[arg(long, value_name = "URL")]
    pub watch: Vec<String>,
    /// Ask the node with this internal listener, and those that it knows of its data center; repeatable, one a data center
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub internal: Vec<String>,
    /// Show them the cluster secret in this file; repeatable, in the order of --internal [default: none]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Vec<String>,
    /// Key under which events of one type merge or replace one another [default: none]
    #[arg(long)]
    pub key: Option<String>,
    /// Present this token; FANFARE_TOKEN keeps it out of the list of processes [default: none]
    #[arg(long, env = "FANFARE_TOKEN", hide_env = true)]
    pub token: Option<String>,
    /// Print the journey as JSON [default: readable lines]
    #[arg(long)]
    pub json: bool,
}
