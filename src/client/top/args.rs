//! The flags of `fanfare top`.

/// The flags of `fanfare top`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare top
  fanfare top --url http://10.0.0.7:8081 --secret-file /etc/fanfare/cluster.secret
  fanfare top --json | jq '.nodes[] | select(.standing != \"well\")'

q, Esc and Ctrl-C end it. While the node is away it keeps trying. Where standard output is no terminal it prints the essentials once.

Exit status: 0, 1 when the node could not be read, 2 for a mistake in the arguments or a secret that the node refuses.")]
pub struct TopArgs {
    /// Show the node with this internal listener, and the others as it sees them
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    pub url: String,
    /// Show it the cluster secret in this file [default: none]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<String>,
    /// Print the essentials once as text [default: live]
    #[arg(long)]
    pub once: bool,
    /// Print one snapshot as JSON, on one line [default: live]
    #[arg(long, conflicts_with = "once")]
    pub json: bool,
}
