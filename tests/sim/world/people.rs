//! The clients of a world, and when they do something.

use std::net::SocketAddr;

use fanfare::runtime::random::Random;

use super::{Event, World, dc_name};
use crate::clients::{MILLISECOND, SECOND};
use crate::faults::Fault;
use crate::poster::Poster;
use crate::publisher::Publisher;
use crate::viewer::Viewer;

pub enum Client {
    Viewer(Box<Viewer>),
    Publisher(Publisher),
    Poster(Poster),
}

impl Client {
    /// When it wants its next turn.
    fn due(&self) -> u64 {
        match self {
            Client::Viewer(viewer) => viewer.due(),
            Client::Publisher(publisher) => publisher.due(),
            Client::Poster(poster) => poster.due(),
        }
    }

    pub fn viewer(&self) -> Option<&Viewer> {
        match self {
            Client::Viewer(viewer) => Some(viewer),
            _ => None,
        }
    }

    fn stop(&mut self, stops: bool) {
        match self {
            Client::Viewer(_) => {}
            Client::Publisher(publisher) => publisher.stops = stops,
            Client::Poster(poster) => poster.stops = stops,
        }
    }
}

impl World {
    pub(super) fn people(&mut self) {
        let is_nested = self.plan.prefixes && self.plan.nested;
        let place = |number: usize| match is_nested && number % 2 == 1 {
            true => format!("odd.{number}"),
            false => number.to_string(),
        };
        let places: Vec<String> = (0..self.plan.topics).map(place).collect();
        let topics: Vec<String> = ["chat", "live"]
            .iter()
            .flat_map(|kind| places.iter().map(move |place| format!("{kind}:{place}")))
            .collect();
        let members: Vec<String> = (0..self.plan.members).map(|number| format!("m{number}")).collect();
        let presence = members.iter().map(|member| format!("presence:{member}"));
        let all: Vec<String> = topics.iter().cloned().chain(presence).collect();
        for number in 0..self.plan.viewers {
            let mut draw = |of: usize| self.workload.number() as usize % of;
            let (first, count) = (draw(all.len()), 1 + draw(2));
            let mine = (0..count).map(|step| all[(first + step) % all.len()].clone()).collect();
            let mut viewer = Viewer::new(number, mine, SECOND + draw(2 * SECOND as usize) as u64);
            viewer.slow = if draw(4) == 0 { 200 } else { 0 };
            viewer.whole = !self.plan.tokens && number.is_multiple_of(3);
            viewer.roams = draw(4) == 0 && self.plan.data_centers > 1;
            viewer.all.clone_from(&all);
            let mut draw_prefix = Random::new(self.plan.seed ^ 0x9ef1 ^ (number as u64) << 32);
            if self.plan.prefixes && draw_prefix.number().is_multiple_of(2) {
                let (wide, narrow) =
                    [("chat:*", "chat:odd.*"), ("live:*", "live:odd.*")][draw_prefix.number() as usize % 2];
                if draw_prefix.number().is_multiple_of(2) {
                    viewer.topics.clear();
                }
                let all: &[&str] = if is_nested { &[wide, narrow] } else { &[wide] };
                let mine = match if is_nested { draw_prefix.number() % 3 } else { 0 } {
                    0 => &all[..1],
                    1 => &all[1..],
                    _ => all,
                };
                viewer.topics.extend(mine.iter().map(ToString::to_string));
                viewer.all.extend(all.iter().map(ToString::to_string));
                viewer.is_restless = is_nested && draw_prefix.number().is_multiple_of(2);
            }
            viewer.member = members.get(draw(2 * members.len().max(1))).cloned();
            viewer.lasts = self.plan.tokens.then_some([8, 15, 25][draw(3)] * SECOND);
            viewer.renews = draw(4) > 0 && !viewer.roams;
            viewer.is_restless |= self.plan.restless && number.is_multiple_of(2);
            viewer.changes_at = if draw(2) == 0 || viewer.is_restless { 4 * SECOND } else { u64::MAX };
            let late = [(Fault::Clock, 10), (Fault::Pause, 9)].into_iter();
            let late: u64 =
                late.filter(|(fault, _)| self.plan.faults.contains(fault)).map(|(_, seconds)| seconds).sum();
            // What clocks may be apart, and how often streams are looked at.
            viewer.grace = (12 + late) * SECOND;
            self.move_in(Client::Viewer(Box::new(viewer)));
        }
        for _ in 0..self.plan.publishers {
            let next = 3 * SECOND + self.workload.number() % SECOND;
            let pace = [20, 100, 400][self.workload.number() as usize % 3] * MILLISECOND;
            let number = self.clients.len();
            let once = self.workload.number().is_multiple_of(2);
            let publisher = Publisher::new(number, topics.clone(), self.plan.kinds, once, pace, next);
            self.move_in(Client::Publisher(publisher));
        }
        for _ in 0..if self.plan.backends > 0 { self.plan.posters } else { 0 } {
            let next = 3 * SECOND + self.workload.number() % SECOND;
            let pace = [50, 200, 600][self.workload.number() as usize % 3] * MILLISECOND;
            let (number, once) = (self.clients.len(), self.workload.number().is_multiple_of(2));
            let mut poster = Poster::new(number, places.clone(), once, pace, next);
            (poster.shows_tokens, poster.slow) = (self.plan.tokens, self.plan.slow > 0);
            self.move_in(Client::Poster(poster));
        }
        for number in 0..self.clients.len() {
            self.wake(number);
        }
    }

    /// A client, whose data center is drawn.
    fn move_in(&mut self, client: Client) {
        let home = self.workload.number() as usize % self.plan.data_centers;
        if !self.plan.without.clients.contains(&client.number()) {
            self.say(|| format!("{client} lives in {}", dc_name(home)));
        }
        self.homes.push(home);
        self.clients.push(client);
        self.waking.push(None);
    }

    pub(super) fn wake(&mut self, number: usize) {
        self.wake_at(number, self.clients[number].due().max(self.now + MILLISECOND));
    }

    /// Clients that take part.
    pub fn present(&self) -> impl Iterator<Item = &Client> {
        self.clients.iter().filter(|client| !self.plan.without.clients.contains(&client.number()))
    }

    pub(super) fn wake_at(&mut self, number: usize, at: u64) {
        if self.plan.without.clients.contains(&number) {
            return;
        }
        if let Some(planned) = self.waking[number] {
            if planned.at <= at {
                return;
            }
            self.agenda.cancel(planned);
        }
        self.waking[number] = Some(self.at(at, Event::Client(number)));
    }

    pub(super) fn client(&mut self, number: usize) {
        self.waking[number] = None;
        let doors = &self.doors[self.homes[number]];
        let roams = self.clients[number].viewer().is_some_and(|viewer| viewer.roams);
        let all: Vec<SocketAddr>;
        let frontends = if roams {
            all = self.doors.iter().flat_map(|doors| &doors.frontends).copied().collect();
            &all
        } else {
            &doors.frontends
        };
        let before = self.verbose.then(|| self.clients[number].stand());
        let shared = self.fabric.clone();
        let (mut fabric, random) = (shared.lock(), self.doings.of(number as u64));
        match &mut self.clients[number] {
            Client::Viewer(viewer) => viewer.turn(&mut fabric, random, frontends),
            Client::Publisher(publisher) => publisher.turn(&mut fabric, random, &doors.dispatchers),
            Client::Poster(poster) => poster.turn(&mut fabric, random, &doors.backends),
        }
        let bytes = fabric.bytes;
        drop(fabric);
        self.mix(bytes);
        if let Some(before) = before {
            self.tell(number, &before);
        }
        self.wake(number);
    }

    /// Publishers say once more what all must know.
    pub fn finish(&mut self) {
        for number in 0..self.clients.len() {
            if let Client::Publisher(publisher) = &mut self.clients[number] {
                publisher.finish(self.now);
                self.wake(number);
            }
        }
    }

    /// One member likes each video, which tells all how many do.
    pub fn like_all(&mut self) {
        let Some(number) = self.first_poster().map(|poster| poster.number) else { return };
        if let Client::Poster(poster) = &mut self.clients[number] {
            poster.like_all(self.now);
        }
        self.wake(number);
    }

    pub fn first_poster(&self) -> Option<&Poster> {
        self.present().find_map(|client| match client {
            Client::Poster(poster) => Some(poster),
            _ => None,
        })
    }

    /// Viewers have what they want, and tokens that last.
    pub(super) fn quiet(&mut self) {
        for client in &mut self.clients {
            if let Client::Viewer(viewer) = client {
                (viewer.slow, viewer.quiet, viewer.renews) = (0, true, !viewer.roams);
                viewer.lasts = viewer.lasts.map(|_| 600 * SECOND);
            }
        }
    }

    /// Some viewers go for good.
    pub fn retire(&mut self) {
        for number in (1..self.clients.len()).step_by(4) {
            if let Client::Viewer(viewer) = &mut self.clients[number] {
                viewer.retire();
                self.wake_at(number, self.now + MILLISECOND);
            }
        }
    }

    /// Some viewers load their pages anew.
    pub fn reload(&mut self) {
        for number in (0..self.clients.len()).step_by(3) {
            if let Client::Viewer(viewer) = &mut self.clients[number] {
                viewer.reloads = true;
                self.wake_at(number, self.now + MILLISECOND);
            }
        }
    }

    /// Publishers go on, or end with what they have begun.
    pub fn publish(&mut self, goes_on: bool) {
        for number in 0..self.clients.len() {
            self.clients[number].stop(!goes_on);
            self.wake_at(number, self.now + MILLISECOND);
        }
    }
}
