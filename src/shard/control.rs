//! What is to end or to change on all nodes reaches the roles that it concerns.

use std::sync::Arc;

use crate::ground::Ground;
use crate::ground::control::News;
use crate::ground::message::Message;
use crate::kv::{Answer, Page, Request, Unavailable};
use crate::limits::CONTROL_LATE;
use crate::shard::services::{Services, with};
use crate::wire::position::Position;

impl Services {
    /// The first shard read something, or that there is nothing.
    pub(crate) fn on_control(&mut self, ground: &mut Ground, news: Arc<Vec<News>>, known: bool) {
        ground.control.known |= known;
        let checks = ground.node.tokens.is_some();
        for news in news.iter().filter(|_| checks) {
            if let News::Revoked(revocation, until_ms) = news {
                ground.control.revoked.add(revocation.clone(), *until_ms);
            }
        }
        ground.control.held.settle(ground.control.revoked.bytes());
        if !news.is_empty() {
            with(&mut self.frontend, |frontend| frontend.looks.add(news));
        }
    }

    /// Before the first turn. Each shard reads what a store in this process has, so that no token is refused for want of it.
    pub(crate) fn begin_control(&mut self, ground: &mut Ground) {
        if !ground.reads_control() {
            return;
        }
        if ground.node.kv.as_ref().is_some_and(|kv| kv.is_here()) {
            while !ground.control.reading.caught_up {
                let Ok(Ok(Answer::Page(page))) = ground.submit(Request::Read(ground.control.reading.ask())) else {
                    break;
                };
                let (news, known) = ground.control.reading.page(&page);
                self.on_control(ground, Arc::new(news), known);
                if page.events.is_empty() {
                    break;
                }
            }
            // What came between two shards' beginnings is told once more.
            let at = ground.clock.unix_ms.saturating_sub(CONTROL_LATE.as_millis() as u64);
            ground.control.reading.at = ground.control.reading.at.min(Position::at(at));
        }
        if ground.id == 0 {
            ground.read_control();
        }
    }

    /// A part of what was told. What cannot be read now is read at the next time.
    pub(crate) fn on_control_read(&mut self, ground: &mut Ground, result: Result<Page, Unavailable>) {
        let reading = &mut ground.control.reading;
        reading.asking = false;
        let Ok(page) = result else { return };
        let was_behind = !reading.caught_up;
        let (news, known) = reading.page(&page);
        if !news.is_empty() || (was_behind && known) {
            let news = Arc::new(news);
            for shard in 0..ground.node.shards() {
                ground.send(shard, Message::Control { news: Arc::clone(&news), known });
            }
        }
        if !known && !page.events.is_empty() {
            ground.read_control();
        }
    }
}
