//! What a site stands on: one Redis, or a Cluster of three masters, of which one may die in the midst of a test.

use redis::{Commands as _, Connection, RedisResult};

use crate::support::redis::{Cluster, Redis};

/// Nodes' leases.
pub const LEASES: &str = "fanfare:{local:nodes}:leases";

/// A key-value store.
pub enum Store {
    /// One server.
    Redis(Redis),
    /// Three masters with a replica each, of which one dies together with whatever else fails.
    FailingOver(Cluster),
}

impl Store {
    pub fn redis() -> Store {
        Store::Redis(Redis::start())
    }

    pub fn failing_over() -> Store {
        Store::FailingOver(Cluster::start())
    }

    /// One server that has on disk whatever it answered.
    pub fn durable() -> Store {
        Store::Redis(Redis::durable())
    }

    /// What `--kv` takes.
    pub fn url(&self) -> String {
        match self {
            Store::Redis(redis) => redis.url(),
            Store::FailingOver(cluster) => cluster.url(),
        }
    }

    /// Whether it loses nothing, so that nobody is to be told of a gap: a new master cannot know what the old one had.
    pub fn remembers(&self) -> bool {
        !matches!(self, Store::FailingOver(_))
    }

    fn servers(&self) -> &[Redis] {
        match self {
            Store::Redis(redis) => std::slice::from_ref(redis),
            Store::FailingOver(cluster) => &cluster.nodes,
        }
    }

    fn servers_mut(&mut self) -> &mut [Redis] {
        match self {
            Store::Redis(redis) => std::slice::from_mut(redis),
            Store::FailingOver(cluster) => &mut cluster.nodes,
        }
    }

    fn masters(&self) -> Vec<&Redis> {
        match self {
            Store::Redis(redis) => vec![redis],
            Store::FailingOver(cluster) => cluster.masters().into_iter().map(|at| &cluster.nodes[at]).collect(),
        }
    }

    /// What `look` finds, at all masters together.
    ///
    /// # Errors
    /// One of them could not say.
    pub fn find<T>(&self, look: impl Fn(&mut Connection) -> RedisResult<Vec<T>>) -> Result<Vec<T>, String> {
        let mut found = Vec::new();
        for master in self.masters() {
            let client = redis::Client::open(master.url()).expect("a URL");
            let seen = client.get_connection().and_then(|mut connection| look(&mut connection));
            found.extend(seen.map_err(|error| error.to_string())?);
        }
        Ok(found)
    }

    /// What `read` finds in keys like `pattern`, each asked of the master that has it.
    ///
    /// # Errors
    /// One of them could not say.
    pub fn read<T>(
        &self,
        pattern: &str,
        read: impl Fn(&mut Connection, &str) -> RedisResult<Vec<T>>,
    ) -> Result<Vec<T>, String> {
        self.find(|kv| {
            let keys: Vec<String> = kv.keys(pattern)?;
            let read: RedisResult<Vec<Vec<T>>> = keys.iter().map(|key| read(kv, key)).collect();
            Ok(read?.into_iter().flatten().collect())
        })
    }

    /// Kills the master that has a key like `pattern`, where a test is about that. Its replica is to take over.
    pub fn lose_master_of(&mut self, pattern: &str) {
        let Store::FailingOver(cluster) = self else { return };
        let has =
            |at: &usize| cluster.nodes[*at].command(&["EVAL", "return #redis.call('KEYS', ARGV[1])", "0", pattern]);
        let master = cluster.masters().into_iter().find(|at| has(at) != ":0").expect("one of them has it");
        cluster.nodes[master].kill();
    }

    /// Stops it without ending it.
    pub fn pause(&self) {
        self.servers().iter().for_each(Redis::pause);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.servers().iter().for_each(Redis::resume);
    }

    /// Kills it: all of it, or all masters but for one whose replica takes over.
    pub fn kill(&mut self) {
        if let Store::FailingOver(cluster) = self {
            return cluster.masters().into_iter().for_each(|at| cluster.nodes[at].kill());
        }
        self.servers_mut().iter_mut().for_each(Redis::kill);
    }

    /// Starts what was killed, with what it has on disk, but for the one whose replica takes over. Waits until all is there.
    pub fn restart(&mut self) {
        let spared = usize::from(!self.remembers());
        let dead = self.servers_mut().iter_mut().filter(|server| !server.runs());
        dead.skip(spared).for_each(Redis::restart);
        self.settled();
    }

    /// Waits until a Cluster is whole.
    pub fn settled(&self) {
        match self {
            Store::Redis(_) => {}
            Store::FailingOver(cluster) => cluster.settled(),
        }
    }
}
