//! A master that a Sentinel watches.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fanfare::wire::position::Position;

use super::driver::{Store, topic};
use crate::support::eventually;
use crate::support::ports::free_port;
use crate::support::redis::Redis;
use crate::support::site::within;

/// A Sentinel. It is killed when this is dropped.
struct Sentinel(Child);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_failover_is_followed() {
    let mut master = Redis::start();
    let replica = Redis::with(&["--save", "", "--replicaof", &format!("127.0.0.1 {}", master.port)]);
    eventually("the replica to follow", || match replica.info("replication", "master_link_status") {
        Some(status) if status == "up" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let port = free_port();
    let file = replica.folder().join("sentinel.conf");
    let config = format!(
        "bind 127.0.0.1\nport {port}\nsentinel monitor kv 127.0.0.1 {} 1\nsentinel down-after-milliseconds kv 1000\n\
         sentinel failover-timeout kv 3000\n",
        master.port
    );
    std::fs::write(&file, config).expect("a writable folder");
    let sentinel = Command::new("redis-server")
        .arg(&file)
        .args(["--sentinel"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed");
    let _sentinel = Sentinel(sentinel);
    let store = Store::redis(&format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=kv"), "dc1");
    eventually("the master to be found", || store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
    let live = topic("live:1");
    eventually("the Sentinel to know the replica", || match master.sentinel_replicas(port) {
        1 => Ok(()),
        other => Err(format!("{other}")),
    });
    let (place, _) = store.append(&live, "1", 9);
    master.kill();
    // One that was busy for two seconds does nothing for thirty (its TILT mode).
    within(Duration::from_secs(90), "the replica to serve", || {
        store.try_ask(super::driver::append(&live, "2", 9)).map(drop).map_err(|error| error.to_string())
    });
    let page = store.read(&live, Position::START, 9);
    assert_eq!(page.events[0].position, place);
    assert!(page.reaches.place() > place, "nobody knows what the replica lacks");
}
