//! The roles that a shard has, and what it has them do in a turn. Also what no role answers alone: operators' questions, and who
//! watches.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::Backend;
use crate::dispatcher::Dispatcher;
use crate::frontend::Frontend;
use crate::ground::access::Access;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::hooks::HookNews;
use crate::ground::lines::Taken;
use crate::ground::opening::Opening;
use crate::ground::past::Past;
use crate::ground::slots::Conn;
use crate::ground::{Ground, Todo};
use crate::http::Service;
use crate::kv::{Answer, Unavailable};
use crate::limits::{APPENDS_AHEAD, CROWD_SLICE, MAIL_SLICE};
use crate::runtime::account::Held;
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::shard::draining::Draining;
use crate::shard::listing::Gathering;
use crate::shard::present::Presents;
use crate::shard::watching::Watching;
use crate::wire::authorize::Who;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;

/// See the [module](self).
pub struct Services {
    pub(crate) frontend: Option<Frontend>,
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(crate) backend: Option<Backend>,
    /// Questions of operators that other shards have not answered.
    pub(crate) gathering: Map<Conn, Gathering>,
    pub(crate) presents: Map<Conn, Held<Box<Presents>>>,
    /// Listings of history for which a page came at once.
    pub(crate) pasts: VecDeque<(Held<Past>, Result<Answer, Unavailable>)>,
    pub(crate) watching: Watching,
    pub(crate) draining: Option<Draining>,
}

/// Has a role act, if this node has it.
pub(crate) fn with<Role>(role: &mut Option<Role>, act: impl FnOnce(&mut Role)) {
    if let Some(role) = role {
        act(role);
    }
}

impl Service for Services {
    fn open_mail(&mut self, ground: &mut Ground, until: u64) {
        self.open_mail_until(ground, until);
    }

    fn handle(&mut self, ground: &mut Ground, incoming: Incoming<'_>) -> Result<Handled, HttpError> {
        let handled = self.route(ground, incoming);
        self.bring_about(ground);
        handled
    }

    fn open_stream(&mut self, ground: &mut Ground, conn: Conn, before: Vec<u8>, opening: Opening, to: AnswerTo) {
        with(&mut self.frontend, |frontend| frontend.open_stream(ground, conn, before, opening, to));
    }

    fn lines_access(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        internal: bool,
        request: &Request<'_>,
    ) -> Result<Access, HttpError> {
        ground.lines_access(conn, internal, request)
    }

    fn publish_line(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        publisher: (u64, Option<&Arc<Who>>),
        at: (Conn, u64),
        line: &[u8],
    ) -> Result<Taken, String> {
        let taken = self.publish_text(ground, access, publisher, at, line);
        self.bring_about(ground);
        taken
    }

    fn takes_lines(&self) -> bool {
        self.dispatcher.as_ref().is_none_or(|dispatcher| dispatcher.appends_waiting < APPENDS_AHEAD)
    }

    fn is_behind(&self) -> bool {
        self.frontend.as_ref().is_some_and(|frontend| !frontend.unserved.is_empty())
    }
}

impl Services {
    /// Those of a shard which begins.
    pub(crate) fn start(ground: &mut Ground) -> Services {
        let roles = ground.node.roles;
        let mut services = Services {
            frontend: roles.frontend.then(|| Frontend::start(ground)),
            dispatcher: roles.dispatcher.then(|| Dispatcher::start(ground)),
            backend: roles.backend.then(|| Backend::start(ground)),
            gathering: Map::default(),
            presents: Map::default(),
            pasts: VecDeque::new(),
            watching: Watching::default(),
            draining: None,
        };
        services.begin_control(ground);
        services
    }

    /// The role that holds viewers.
    ///
    /// # Errors
    /// 404 on a node that has it not.
    pub(crate) fn frontend(&mut self) -> Result<&mut Frontend, HttpError> {
        self.frontend.as_mut().ok_or_else(HttpError::not_found)
    }

    /// The role that takes events; see [`Services::frontend`].
    pub(crate) fn dispatcher(&mut self) -> Result<&mut Dispatcher, HttpError> {
        self.dispatcher.as_mut().ok_or_else(HttpError::not_found)
    }

    /// The role that stores; see [`Services::frontend`].
    pub(crate) fn backend(&mut self) -> Result<&mut Backend, HttpError> {
        self.backend.as_mut().ok_or_else(HttpError::not_found)
    }

    /// Opens mail until so much of it was opened, for as long as one turn may. True if that is all of it: shards that answer
    /// each other cannot hold a turn for ever.
    pub(crate) fn open_mail_until(&mut self, ground: &mut Ground, until: u64) -> bool {
        // What a shard tells itself precedes what others told it since.
        self.do_todo(ground);
        let mut slice = ground.clock.slice(MAIL_SLICE);
        while ground.mailbox.taken() < until {
            let Some(message) = ground.mailbox.next() else { break };
            self.on_message(ground, message);
            self.do_todo(ground);
            if slice.is_over() {
                break;
            }
        }
        ground.mailbox.taken() >= until
    }

    /// Once a tick.
    pub(crate) fn tick(&mut self, ground: &mut Ground) {
        self.heartbeat(ground);
        ground.tick_authorizing();
        with(&mut self.frontend, |frontend| frontend.tick(ground));
        with(&mut self.dispatcher, |dispatcher| dispatcher.tick(ground));
        with(&mut self.backend, |backend| backend.tick(ground));
        self.tick_watching(ground);
        if let Some(draining) = &mut self.draining {
            draining.is_due = true;
        }
    }

    /// Does what follows from what was just read, and tells the key-value store of topics.
    pub(crate) fn go_on(&mut self, ground: &mut Ground) {
        self.do_todo(ground);
        self.bit_by_bit(ground, |services, ground| {
            services.frontend.as_mut().is_some_and(|frontend| frontend.register_some(ground))
        });
    }

    /// Has something done bit by bit, with all that follows from each, for as long as one turn may. `bit` is false if nothing was
    /// left to do; true is given if there may be more.
    fn bit_by_bit(&mut self, ground: &mut Ground, bit: impl Fn(&mut Services, &mut Ground) -> bool) -> bool {
        let mut slice = ground.clock.slice(CROWD_SLICE);
        while bit(self, ground) {
            self.do_todo(ground);
            if slice.is_over() {
                return true;
            }
        }
        false
    }

    /// Once a turn, behind messages and requests: a slice of what each role has to do. True if there is more.
    pub(crate) fn serve(&mut self, ground: &mut Ground) -> bool {
        with(&mut self.backend, |backend| backend.tell_posts(ground));
        self.do_todo(ground);
        let counts = self.bit_by_bit(ground, |services, ground| {
            services.dispatcher.as_mut().is_some_and(|dispatcher| dispatcher.tell_counts(ground))
        });
        let drains = self.go_on_draining(ground);
        let viewers = self.frontend.as_mut().is_some_and(|frontend| frontend.serve(ground));
        let pasts = self.read_pasts(ground);
        counts | drains | viewers | pasts
    }

    /// At the end of a turn: what other nodes answered is settled, and what there is for them goes out. True if there is
    /// more to do at once.
    pub(crate) fn exchange(&mut self, ground: &mut Ground) -> bool {
        self.settle_calls(ground);
        self.go_on(ground);
        ground.send_questions();
        with(&mut self.dispatcher, |dispatcher| dispatcher.send(ground));
        ground.send_events();
        !ground.cluster.outcomes.is_empty()
    }

    /// Whether there is more to do at once.
    pub(crate) fn has_more(&self, ground: &Ground) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.posts.lines.is_ready())
            || self.frontend.as_ref().is_some_and(|frontend| frontend.has_more(ground))
    }

    /// Does what follows from a request before it is answered: whoever has the answer may ask another core next, and what follows
    /// from this request is to come before what follows from that one.
    fn bring_about(&mut self, ground: &mut Ground) {
        if !ground.todo.is_empty() {
            // It holds the answer, and what follows may write to streams by it.
            let answer = std::mem::take(&mut ground.out);
            self.do_todo(ground);
            debug_assert!(ground.out.is_empty(), "who writes to a stream leaves nothing");
            ground.out = answer;
        }
    }

    /// Has this node's own backend store this shard's news for hooks.
    fn note_hooks(&mut self, ground: &mut Ground, news: &[HookNews]) {
        let noted = self.backend.as_mut().map(|backend| backend.note_hooks(ground, news, None));
        if !matches!(noted, Some(Ok(()))) {
            ground.on_hooks_told(false);
        }
    }

    /// Does what was said to be done, and what follows from that.
    pub(crate) fn do_todo(&mut self, ground: &mut Ground) {
        while let Some(todo) = ground.todo.pop_front() {
            shrink(&mut ground.todo);
            match todo {
                Todo::Mail(message) => self.on_message(ground, message),
                Todo::Noticed(notice) => self.on_notice(ground, notice),
                Todo::Answered(asked, result) => self.on_answer(ground, asked, result),
                Todo::Publish(own) => self.publish_own(ground, *own),
                Todo::Arrived(frame) => with(&mut self.frontend, |frontend| frontend.ingress(ground, &frame)),
                Todo::Update(conn, updating) => self.go_on_updating(ground, conn, updating),
                Todo::CanaryTold(by, number, is_taken) => {
                    with(&mut self.backend, |backend| backend.on_canary_told(by, number, is_taken));
                }
                Todo::Told(topic, record, is_told) => {
                    with(&mut self.backend, |backend| backend.on_told(ground, &topic, &record, is_told));
                }
                Todo::HookNews(news) => self.note_hooks(ground, &news),
                Todo::TotalsAsked(topics) => {
                    with(&mut self.backend, |backend| backend.on_asked_totals(ground, &topics))
                }
            }
        }
    }
}
