//! Thousands of clients of a server under load: processes, since one may have only so many open files (`processes`), each with
//! threads (`worker`) that hold connections (`sockets`, each by TLS or not: `transport`), take their streams apart (`frames`), know what many of them get alike
//! (`known`), check it (`check`) and count it (`measured`). What the clients do is said by [`Clients`], of which `bench` and
//! `crowd` have one each. A `poster` publishes, from the process that was started.
pub mod check;
pub mod frames;
pub mod known;
pub mod measured;
pub mod poster;
pub mod processes;
pub mod sockets;
#[expect(unsafe_code, reason = "calls that only libc has")]
pub mod sys;
pub mod transport;
pub mod worker;

pub use worker::Clients;
