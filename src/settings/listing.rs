//! Every setting, once: its name, type, check, default and text. The flag and its help, the key of the file, the variable,
//! `--print-config`, the tables of `docs/settings.md` and `tuning/fanfare.toml` follow from here.
//!
//! A setting is its text, the field with its type, how it is written and what checks a text, what stands for its value, and
//! its default or an example; `live` ones hold at once when the settings are read again. The first paragraph of the text is
//! what `--help` says. A field that only helps to make another one is seen by the settings alone.

use super::access::*;
use super::hooks::{authorize, signing_secret};
use super::layers::{Field, Layers};
use super::limits::{backlog, connections, memory, number, topics, turn};
use super::setting::{Setting, Shape, listing};
use super::values::*;
use super::{Cores, CorsOrigins, Database, Io, IpNet, Kv, Memory, Secret, SettingsError, Url};
use crate::limits::RATE_MAX;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

listing! {

/// All settings but limits and event types.
Listed "" {

"Listening" {
    /// Serve the public on this address and port; port 0 takes a free one.
    ///
    /// Viewers and publishers come here, from a proxy that speaks TLS or by `--tls-listen`.
    pub listen: SocketAddr = Text(address), "ADDRESS", default: "127.0.0.1:8080";
    /// Serve viewers and publishers by TLS at this address as well.
    ///
    /// It speaks TLS 1.3 and 1.2, with HTTP/1.1; see [TLS](operating.md#tls). A port below 1024 needs CAP_NET_BIND_SERVICE.
    pub(super) tls_listen: Option<SocketAddr> = Text(address), "ADDRESS", example: "0.0.0.0:8443";
    /// Show the certificate in this PEM file, with those that vouch for it behind it; several by name, with commas between.
    ///
    /// A client is shown the first that has the name it asks for, or else the first. Read again when they change; one that is
    /// unreadable, expired, or not its key's is exit status 2 at the start, and later changes nothing and is logged.
    pub(super) tls_cert: Vec<PathBuf> = List(path), "FILE,…", example: "/etc/fanfare/live.example.pem";
    /// Prove it by the private key in this PEM file; one a certificate, in their order.
    pub(super) tls_key: Vec<PathBuf> = List(path), "FILE,…", example: "/etc/fanfare/live.example.key";
    /// Serve other nodes and operators on this address and port.
    ///
    /// Metrics, health, publishing for backends. Beyond loopback it needs a cluster secret. It answers to its address,
    /// `localhost` and the name in `--advertise`, and to no web page but its own (`Origin`, `Sec-Fetch-Site`), whatever
    /// `--cors-origin` says.
    pub internal: SocketAddr = Text(address), "ADDRESS", default: "127.0.0.1:8081";
    /// Tell other nodes to reach the internal listener by this URL.
    pub advertise: Option<Url> = Text(node_url), "URL", example: "http://10.0.0.7:8081", shown: "the address it listens on";
    /// Share the public port with other processes on this box (SO_REUSEPORT).
    pub reuse_port: bool = Switch(switch), "BOOL", default: "false";
    /// Wait for sockets by io_uring, by epoll, or by whichever this machine has.
    ///
    /// `auto` is epoll where a container's profile, a sysctl, an old kernel or too little lockable memory keeps io_uring away;
    /// then the log says so once. `uring` is exit status 2 there.
    pub io: Io = Text(io), "auto|uring|epoll", default: "auto";
    /// Run one shard on each of this many cores, or of those listed, such as 0,2-3.
    ///
    /// Each is pinned; `all` are those that the process may use.
    pub cores: Cores = Number(cores), "CORES", default: "all";
    /// Spread the closing of streams over this time when told to stop.
    ///
    /// 0s to 1h. Where every role is in one process without Redis and peers, its viewers wait for its next start.
    pub drain: Duration = Text(drain), "DURATION", default: "1s", shown: "1s, and 30s of a node among others", live: true;
    /// Close a connection that has sent no request for this time; a load balancer's own must be shorter.
    ///
    /// 1s to 1h; answers tell it (`Keep-Alive: timeout=`). What stands in front must give its own idle connections up sooner,
    /// or it sends requests into connections that are just being closed: nginx' `keepalive_timeout` of the upstream (60s by
    /// default), HAProxy's `timeout server`, an ALB's or ELB's idle timeout (60s). Google's load balancers hold theirs for
    /// 600s: give 620s there. And it must let a stream be silent for 25s.
    pub idle_timeout: Duration = Text(idle_timeout), "DURATION", default: "75s", live: true;
}

"Storage" {
    /// Keep subscriptions and history here: memory, redis://HOST or rediss://HOST.
    ///
    /// `memory` is for `all` only. `redis://[USER:PASSWORD@]HOST:6379[/DB]`, `rediss://…` for TLS,
    /// `redis+cluster://HOST,HOST`; Redis 7 or Valkey.
    pub kv: Kv = Text(kv), "URL", default: "memory", shown: "memory, for `all`";
    /// Keep likes and comments here: sqlite:PATH or postgres://HOST/NAME.
    ///
    /// `postgres://USER:PASSWORD@HOST/NAME` (12 or later, tested with 15) is for several backends on one database, also through
    /// a pooler of sessions or transactions (tested with PgBouncer); likes a second are more without one. Fanfare makes the
    /// schema `fanfare` and touches nothing else; `sslmode=require` encrypts and checks the certificate. A relative PATH is
    /// below /var/lib/fanfare in the systemd units, which may write nowhere else: for a database on a volume of its own,
    /// `systemctl edit` the unit: [Unit] RequiresMountsFor=/srv/fanfare, and [Service] ReadWritePaths=/srv/fanfare, a folder of
    /// the user fanfare.
    pub db: Database = Text(database), "URL", default: "sqlite:fanfare.db", shown: "sqlite:fanfare.db, for `all`";
    /// Read the password for PostgreSQL from this file, so that it stands in no list of processes.
    ///
    /// Read anew with each connection. Without one, and without a password in `--db`, PostgreSQL's own file is looked into:
    /// `PGPASSFILE`, else `~/.pgpass`, which nobody else may read (`chmod 600`).
    pub(super) db_password_file: Option<String> = Text(readable), "FILE", example: "/etc/fanfare/db.password";
    /// Offer these reactions, with commas between.
    pub reactions: Vec<String> = List(reaction), "NAME,…", default: "like,celebrate,support,love,insightful,funny", live: true;
}

"Cluster" {
    /// Reach dispatchers at these internal URLs, with commas between.
    ///
    /// Frontends and backends need them; `http://` only. A name stands for all its addresses, looked up every 30 s.
    pub dispatchers: Vec<Url> = List(node_url), "URL,…", example: "http://10.0.0.5:8081";
    /// Share the secret in this file with the other nodes of this data center.
    ///
    /// Such as `openssl rand -hex 32` prints. Requests to the internal listener's closed part carry it as
    /// `Authorization: Bearer`. To rotate a secret between nodes or peers write the new one into the file and the old one on
    /// the line below, everywhere, and then the new one alone: a changed file is taken up within seconds, and a node that
    /// refuses another's secret logs it. [Secrets](secrets.md) has every secret.
    pub cluster_secret_file: Option<Secret> = Text(secret), "FILE", example: "/etc/fanfare/cluster.secret";
    /// Name the data center that this node is in.
    ///
    /// It is part of keys in the store and of stream ids.
    pub dc: String = Text(data_center), "NAME", default: "local";
    /// Send events on to the data center NAME by its dispatchers' internal URLs; repeatable.
    ///
    /// Or by the URLs of what is in front of them. See [Data centers](data-centers.md).
    pub(super) peer: BTreeMap<String, Vec<Url>> = NamedLists(node_url), "NAME=URL,…", example: "eu=https://eu.example:8081";
    /// Share the secret in this file with the data center NAME; repeatable.
    ///
    /// It is good for broadcasts only; a peer beyond loopback needs it.
    pub(super) peer_secret_file: BTreeMap<String, Secret> = Named(secret), "NAME=FILE", example: "eu=/etc/fanfare/eu.secret";
    /// Allow plain http:// to data centers beyond this box.
    pub peer_insecure: bool = Switch(switch), "BOOL", default: "false";
    /// Allow plain http:// to hooks, and to the server of --authorize, beyond this box.
    ///
    /// `[[hooks]]` stand in the file; see [Hooks](hooks.md).
    pub hook_insecure: bool = Switch(switch), "BOOL", default: "false";
}

"Access" {
    /// Ask for tokens (jwt), or let everyone do everything (none).
    ///
    /// `none` belongs on loopback only; see [Tokens](tokens.md).
    pub(super) auth: bool = Text(auth), "none|jwt", default: "none";
    /// Check tokens by the secret, PEM key or JWKS in this file, read again when it changes.
    pub(super) jwt_key_file: Option<PathBuf> = Text(key_file), "FILE", example: "/etc/fanfare/keys.json";
    /// Check tokens by the JWKS that their issuer serves here, fetched again for a key that is not known.
    ///
    /// In place of `--jwt-key-file`; fetched every 10 minutes, too.
    pub(super) jwt_key_url: Option<Url> = Text(key_url), "URL", example: "https://id.example/.well-known/jwks.json";
    /// Take tokens also from the cookie of this name.
    pub(super) jwt_cookie: Option<String> = Text(cookie), "NAME", example: "fanfare";
    /// Take only tokens of these issuers (iss), with commas between.
    pub(super) jwt_issuer: Vec<String> = List(claim), "ISSUER,…", example: "https://id.example";
    /// Take only tokens for one of these (aud), with commas between.
    pub(super) jwt_audience: Vec<String> = List(claim), "AUDIENCE,…", example: "fanfare";
    /// Refuse tokens that live for longer, from iat or from now to exp.
    ///
    /// 3653d is the most. A revocation is kept for this long and an hour, so give what your tokens live.
    pub(super) jwt_max_life: Duration = Text(life), "TIME", default: "3653d";
    /// Let streams of Mercure's protocol be opened without a token.
    ///
    /// They get public updates; whoever publishes needs a token all the same. See [Mercure](http.md#mercures-protocol).
    pub mercure_anonymous: bool = Switch(switch), "BOOL", default: "false", live: true;
    /// Ask the server at this URL before somebody subscribes or publishes, beside tokens or without them.
    ///
    /// See [Authorize](authorize.md), also for what it answers.
    pub authorize: Option<Url> = Text(authorize), "URL", example: "https://app.example/fanfare/authorize";
    /// Sign what it is asked by the secret in this file, whsec_ and base64.
    ///
    /// As [hooks](hooks.md) are signed; read again when it changes, and it may hold the previous one below.
    pub authorize_secret_file: Option<Secret> = Text(signing_secret), "FILE", example: "/etc/fanfare/authorize.secret";
    /// Take it to be away when it has not answered after this time.
    ///
    /// 50ms to 10s.
    pub authorize_deadline: Duration = Text(deadline), "DURATION", default: "2s", live: true;
    /// Keep an answer that allows for this time, unless it says for how long.
    ///
    /// 0s to 24h; with 0s each request is asked about. Open streams are asked about again when the time is over, 10s at the
    /// least.
    pub authorize_keep: Duration = Text(keep), "DURATION", default: "1m", live: true;
    /// Refuse what it does not answer while it is away, or allow it.
    pub authorize_away: bool = Text(away), "refuse|allow", default: "refuse", live: true;
    /// Tell it these headers of the request, with commas between: cookie, authorization, origin.
    ///
    /// They are what clients prove themselves by: whoever reads what it is asked may act as they do.
    pub authorize_headers: Vec<&'static str> = List(header), "NAME,…", example: "cookie", live: true;
    /// Let pages of these origins use the API, with commas between, or * for any.
    ///
    /// Also by a cookie; with `*` without credentials.
    pub cors_origin: CorsOrigins = List(origin), "ORIGIN,…", example: "https://www.example", live: true;
    /// Believe X-Forwarded-For from these addresses or networks, with commas between.
    pub trusted_proxy: Vec<IpNet> = List(network), "NETWORK,…", example: "127.0.0.1", live: true;
}

"Logs" {
    /// Log what passes this filter, such as info or fanfare=debug.
    ///
    /// In `tracing`'s syntax; JSON when standard error is no terminal. With `connection=ID`, `member=NAME`, `topic=TOPIC` or
    /// `event=ID` among it every step of one is logged, up to 64 at a time; see [Operating](operating.md#find-one). Who does not read log lines holds up nothing: 1 MiB of
    /// them waits, and how many found no room is logged later.
    pub log: String = Text(log_filter), "FILTER", default: "info", live: true;
    /// Note the journey of one event in this many, checkpoint by checkpoint; 0 is none.
    ///
    /// For metrics and `fanfare trace`; 0 is none but those whose publisher samples them. See [Journeys](journeys.md).
    pub trace_sample: u32 = Number(trace_sample), "N", default: "1000", live: true;
    /// Publish canaries and look whether all of them arrive, or do not (off).
    ///
    /// Events of topics of their own, every second from each backend by each dispatcher to each frontend, so that a metric says
    /// whether anything is lost now; give all nodes the same. See [Canaries](metrics.md#canaries) for what is checked, and
    /// what it costs.
    pub canary: bool = Text(on_or_off), "on|off", default: "on", live: true;
    /// Send the hops of those events as spans to this collector of OpenTelemetry, by OTLP over HTTP.
    ///
    /// Such as a collector on this box; `/v1/traces` is added to the URL where it does not end so. A collector that is away or
    /// slow loses spans, counted in `fanfare_spans_lost_total`, and holds nothing up. See [Journeys](journeys.md#opentelemetry).
    pub otlp: Option<Url> = Text(otlp_url), "URL", example: "http://127.0.0.1:4318";
}

}

/// How much a node gives. A zero is no limit, where it says so.
Most "max_" {

"Limits" {
    /// Hold this many connections in all; beyond it 503.
    ///
    /// No more than the open files allow.
    pub connections: Option<usize> = Number(connections), "N", default: "auto", shown: "auto, what the open files allow", live: true;
    /// Hold this many connections of one address (of IPv6, one /64); beyond it 429; 0 is no limit.
    ///
    /// Behind `--trusted-proxy` each stream counts to the address in `X-Forwarded-For`.
    pub address_connections: u32 = Number(|text| number(text, u32::MAX)), "N", default: "0", live: true;
    /// Take this many connections a second of one address; beyond it 429; 0 is no limit.
    pub address_connects: u32 = Number(|text| number(text, RATE_MAX)), "N", default: "0", live: true;
    /// Take this many events a second of one member, or without tokens of one address; beyond it 429; 0 is no limit.
    pub publishes: u32 = Number(|text| number(text, RATE_MAX)), "N", default: "0", live: true;
    /// Let one stream have this many topics, 1 to 100.
    pub topics: usize = Number(topics), "N", default: "100", live: true;
    /// Open no more streams, and publish nothing, while this process has this much memory: a size such as 8GiB, or a share.
    ///
    /// It is resident memory, as of the last second and with what is held more since. Past it no topic is added to a stream,
    /// either, and publishing is 503.
    pub memory: Memory = Text(memory), "SIZE", default: "80%", live: true;
    /// Hold this much for clients that read too slowly, over all of them: a size, or a share of the memory.
    pub backlog: Option<Memory> = Text(backlog), "SIZE", default: "auto", shown: "auto, 15% of --max-memory", live: true;
    /// Open no more streams on a shard that takes longer to serve all its sockets once; 0s is no limit.
    pub turn: Duration = Text(turn), "DURATION", default: "250ms", live: true;
}

}

}
