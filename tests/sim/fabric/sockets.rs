//! The simulated network as one shard sees it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare::runtime::net::{Simulated, Socket};

use super::{Listener, Owner, PIPE_BYTES, ShardId, Shared, broken};

/// The network as one shard sees it.
pub struct ShardNet {
    pub shared: Shared,
    pub shard: ShardId,
    /// When its rest is to end, in the world's nanoseconds.
    pub rests: Arc<Mutex<Option<u64>>>,
}

impl ShardNet {
    fn socket(number: i32) -> Socket {
        Socket::simulated(number.try_into().expect("numbers begin with 1"))
    }
}

impl Simulated for ShardNet {
    fn accept(&mut self, door: usize) -> io::Result<Option<Socket>> {
        let mut fabric = self.shared.lock();
        if fabric.waiting == 0 {
            return Ok(None);
        }
        let mine = |listener: &&mut Listener| listener.door == door && listener.queues.contains_key(&self.shard);
        let accepted = fabric
            .listeners
            .values_mut()
            .find(mine)
            .and_then(|listener| listener.queues.get_mut(&self.shard)?.pop_front());
        fabric.waiting -= usize::from(accepted.is_some());
        Ok(accepted.map(ShardNet::socket))
    }

    fn open(&mut self, door: usize, open: bool) -> io::Result<()> {
        let mut fabric = self.shared.lock();
        fabric.closed.retain(|closed| *closed != (self.shard, door));
        if !open {
            fabric.closed.push((self.shard, door));
        }
        Ok(())
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<Socket> {
        Ok(ShardNet::socket(self.shared.lock().connect(Owner::Shard(self.shard), address)))
    }

    fn watch(&mut self, socket: &Socket, token: u64) -> io::Result<()> {
        let (mut fabric, number) = (self.shared.lock(), socket.number());
        let end = fabric.ends.get_mut(number).expect("a socket in use is there");
        end.token = Some(token);
        let (readable, ended, over) = (!end.inbox.is_empty(), end.ended, end.broken);
        let writable = end.connected && end.outstanding < PIPE_BYTES;
        if readable || writable || ended || over {
            fabric.stir(number, |ready| {
                ready.readable |= readable || ended || over;
                ready.writable |= writable;
                ready.hung_up |= ended || over;
                ready.over |= over;
            });
        }
        Ok(())
    }

    fn recv(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.shared.lock().recv(socket.number(), into)
    }

    fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.shared.lock().send(socket.number(), bytes)
    }

    fn error(&mut self, socket: &Socket) -> io::Result<()> {
        let fabric = self.shared.lock();
        match fabric.ends.get(socket.number()).expect("a socket in use is there") {
            end if end.broken && !end.connected => Err(ErrorKind::ConnectionRefused.into()),
            end if end.broken => Err(broken()),
            _ => Ok(()),
        }
    }

    fn peer(&self, socket: &Socket) -> Option<IpAddr> {
        self.shared.lock().ends.get(socket.number()).map(|end| end.address)
    }

    fn shut(&mut self, socket: &Socket) {
        self.shared.lock().shut(socket.number());
    }

    fn close(&mut self, socket: Socket) {
        self.shared.lock().close(socket.number());
    }

    fn resident(&self) -> u64 {
        0
    }

    fn rest(&mut self, time: Duration) -> io::Result<()> {
        let now = self.shared.lock().now.get();
        *self.rests.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + time.as_nanos() as u64);
        Ok(())
    }
}
