//! Members who came or went, as those who watch them are told.

use serde_json::{Value, json};

use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::hooks::HookNews;
use crate::ground::own::Own;
use crate::kv::{Request, Turn};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::topic::Topic;

impl Ground {
    /// Tells those who watch members, and hooks, that members came or went, and the store that this was told.
    pub(crate) fn tell_turns(&mut self, turns: Vec<Turn>) {
        if turns.is_empty() {
            return;
        }
        let settled = turns.iter().map(|turn| (turn.member.clone(), turn.version)).collect();
        for turn in turns {
            self.tell_turn(&turn);
            self.tell_hooks(HookNews::Member(turn));
        }
        if !planted(Mistake::TurnsUnsettled) {
            self.ask(Request::Settled(settled), Asked::Settled);
        }
    }

    /// Tells who watches a member that they came or went.
    fn tell_turn(&mut self, turn: &Turn) {
        let Ok(topic) = Topic::encode("presence", &turn.member) else { return };
        self.counters().presence_turns.add(1);
        let data = turn_data(Some(turn), Some(&turn.member)).to_string();
        self.publish(Own { version: Some(turn.version), ..Own::keyed(&topic, "presence", &turn.member, data) });
    }
}

/// What is told of a member: `since` of one who is online, `last_seen` of one who is not.
pub(crate) fn turn_data(turn: Option<&Turn>, member: Option<&str>) -> Value {
    let mut data = match turn {
        Some(turn) if turn.online => json!({"online": true, "since": turn.at}),
        Some(turn) => json!({"online": false, "last_seen": turn.at}),
        None => json!({"online": false, "last_seen": null}),
    };
    if let (Some(member), Value::Object(data)) = (member, &mut data) {
        data.insert("member".to_owned(), member.into());
    }
    data
}
