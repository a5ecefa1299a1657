//! A PgBouncer of the test's own, before a PostgreSQL server.

use std::process::{Child, Stdio};

use tempfile::TempDir;

use super::eventually;
use super::ports::free_port;
use super::postgres::{Postgres, command, give};

/// A running pooler that takes everybody as `postgres`. It ends when this is dropped.
pub struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// One that pools `transaction`s, `session`s or `statement`s, on so many connections to the server's database `fanfare`.
    pub fn before(server: &Postgres, mode: &str, connections: usize) -> PgBouncer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, path) = (free_port(), folder.path());
        let configuration = format!(
            "[databases]\nfanfare = host=127.0.0.1 port={} dbname=fanfare user=postgres\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = {mode}\n\
             default_pool_size = {connections}\nunix_socket_dir =\n",
            server.port()
        );
        let file = path.join("pgbouncer.ini");
        std::fs::write(&file, configuration).expect("the folder is ours");
        give(path);
        let child = command("pgbouncer", path)
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path.join("log")).expect("the log"))
            .spawn()
            .expect("pgbouncer starts");
        let pooler = PgBouncer { child, port, _folder: folder };
        eventually("PgBouncer to take connections", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        pooler
    }

    /// The database `fanfare` by way of it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/fanfare", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
