//! The flags of a node, under the names of its settings.

use super::{Args, NodeArgs};
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The flags of a node that were given, under their settings' names.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--print-config`.
    pub print_config: bool,
    /// Every other flag that was given; a repeatable one once for each time.
    pub given: BTreeMap<&'static str, Vec<String>>,
}

impl Flags {
    pub(super) fn over(self, before: Flags) -> Flags {
        let mut given = before.given;
        given.extend(self.given);
        Flags { config: self.config.or(before.config), print_config: self.print_config || before.print_config, given }
    }

    /// Refuses flags of a node in front of a client's command, where they would do nothing.
    pub(super) fn none_for(&self, command: &str) -> Result<(), clap::Error> {
        let first = match (&self.config, self.print_config, self.given.keys().next()) {
            (Some(_), ..) => "config",
            (_, true, _) => "print-config",
            (.., Some(name)) => name,
            _ => return Ok(()),
        };
        let flag = first.replace('_', "-");
        let message = format!("--{flag} sets up a node and does nothing for `fanfare {command}`");
        Err(Args::command().error(ErrorKind::ArgumentConflict, message))
    }
}

impl From<NodeArgs> for Flags {
    fn from(node: NodeArgs) -> Flags {
        let one = |value: Option<String>| value.map(|value| vec![value]);
        let given = [
            ("log", one(node.log)),
            ("trace_sample", one(node.trace_sample)),
            ("listen", one(node.listen)),
            ("tls_listen", one(node.tls_listen)),
            ("tls_cert", node.tls_cert),
            ("tls_key", node.tls_key),
            ("internal", one(node.internal)),
            ("advertise", one(node.advertise)),
            ("reuse_port", one(node.reuse_port)),
            ("io", one(node.io)),
            ("cores", one(node.cores)),
            ("drain", one(node.drain)),
            ("idle_timeout", one(node.idle_timeout)),
            ("kv", one(node.kv)),
            ("db", one(node.db)),
            ("db_password_file", one(node.db_password_file)),
            ("reactions", node.reactions),
            ("dispatchers", node.dispatchers),
            ("cluster_secret_file", one(node.cluster_secret_file)),
            ("dc", one(node.dc)),
            ("peer", node.peer),
            ("peer_secret_file", node.peer_secret_file),
            ("peer_insecure", one(node.peer_insecure)),
            ("auth", one(node.auth)),
            ("jwt_key_file", one(node.jwt_key_file)),
            ("jwt_key_url", one(node.jwt_key_url)),
            ("jwt_cookie", one(node.jwt_cookie)),
            ("jwt_issuer", node.jwt_issuer),
            ("jwt_audience", node.jwt_audience),
            ("jwt_max_life", one(node.jwt_max_life)),
            ("cors_origin", node.cors_origin),
            ("trusted_proxy", node.trusted_proxy),
            ("max_connections", one(node.max_connections)),
            ("max_address_connections", one(node.max_address_connections)),
            ("max_address_connects", one(node.max_address_connects)),
            ("max_publishes", one(node.max_publishes)),
            ("max_topics", one(node.max_topics)),
            ("max_memory", one(node.max_memory)),
            ("max_backlog", one(node.max_backlog)),
            ("max_turn", one(node.max_turn)),
        ];
        Flags {
            config: node.config,
            print_config: node.print_config,
            given: given.into_iter().filter_map(|(name, values)| Some((name, values?))).collect(),
        }
    }
}
