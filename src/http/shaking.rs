//! What a shard has to do with TLS: bounding handshakes that are half done, answering who speaks none, and counting.

use crate::ground::Ground;
use crate::ground::http_connection::Http;
use crate::ground::slots::Conn;
use crate::http::Server;
use crate::limits::TLS_HANDSHAKES_MAX;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::observe::metrics::Counter;
use crate::wire::http::HttpError;
use crate::wire::response::AnswerTo;

impl Server {
    /// A connection was accepted that begins with a handshake. Where too many are half done, the oldest ends.
    pub(crate) fn shakes(&mut self, ground: &mut Ground, conn: Conn) {
        let Some(secure) = ground.net.all_secure() else { return };
        let is_full = secure.handshaking() > TLS_HANDSHAKES_MAX;
        self.shaking.push_back(conn);
        while let Some(&oldest) = self.shaking.front() {
            let shakes = self.is_shaking(ground, oldest);
            if shakes && !is_full {
                break;
            }
            self.shaking.pop_front();
            if shakes {
                ground.happened(What::TlsDisplaced, 1, ground.subject(oldest));
                ground.close_http(oldest);
                break;
            }
        }
    }

    fn is_shaking(&mut self, ground: &mut Ground, conn: Conn) -> bool {
        let Some(slot) = ground.slots.get(conn) else { return false };
        ground.net.secure(slot.socket()).is_some_and(|secure| secure.is_handshaking(slot.socket()))
    }

    /// A connection ends since it took too long.
    pub(crate) fn count_late_handshake(&mut self, ground: &mut Ground, conn: Conn) {
        if self.is_shaking(ground, conn) {
            ground.happened(What::TlsLate, 1, ground.subject(conn));
        }
    }

    /// Reading failed: whether that is since the client speaks HTTP without TLS. Then it is answered.
    pub(crate) fn is_plain_for_tls(&mut self, ground: &mut Ground, conn: Conn, http: &mut Http) -> bool {
        let Some(slot) = ground.slots.get(conn) else { return false };
        let is_plain = ground.net.secure(slot.socket()).is_some_and(|secure| secure.is_plain(slot.socket()));
        if is_plain && !http.closing {
            let to = AnswerTo { closes: true, ..AnswerTo::default() };
            self.fail(ground, http, to, &HttpError::bad("this port speaks TLS: ask by https:// instead of http://"));
            return true;
        }
        false
    }

    /// At the end of a turn: what TLS holds counts as what requests hold does, and its numbers are told.
    pub(crate) fn count_tls(&mut self, ground: &mut Ground) {
        let Some(secure) = ground.net.all_secure() else { return };
        let (held, done, shaking) = (secure.held(), secure.handshakes(), secure.handshaking());
        if self.sealed.bytes() != held {
            self.sealed.settle(held);
        }
        let counters = ground.counters();
        counters.tls_handshaking.set(shaking as u64);
        counters.tls_full.set(done.full);
        counters.tls_resumed.set(done.resumed);
        let more = |counter: &Counter, total| total - counter.get();
        counters.happened(What::TlsFailed, more(&counters.tls_failed, done.failed), Subject::default());
        counters.happened(What::TlsPlain, more(&counters.tls_plain, done.plain), Subject::default());
    }
}
