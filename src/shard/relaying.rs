//! Answers of this node's key-value store to questions of other nodes.

use crate::ground::questions::Answered;
use crate::ground::{Ground, Reply};
use crate::kv::Answer;
use crate::shard::services::Services;
use crate::wire::status::Status;

impl Services {
    /// This node's store answered another node's question.
    pub(crate) fn on_relayed(&mut self, ground: &mut Ground, id: u64, at: usize, answer: Answered) {
        if let Ok(Answer::Alive(alive)) = &answer {
            // Who lives is news here, too.
            self.tell_alive(ground, alive, &[]);
        }
        let Some(relay) = ground.cluster.relays.get_mut(&id) else { return };
        if relay.answers[at].replace(answer).is_none() {
            relay.missing -= 1;
        }
        if relay.missing > 0 {
            return;
        }
        let relay = ground.cluster.relays.remove(&id).expect("it was just there");
        let answers: Vec<Answered> = relay.answers.into_iter().flatten().collect();
        let body = serde_json::to_vec(&answers).expect("answers are plain data");
        ground.reply(relay.conn, Reply::Answer(Status::Ok, body));
    }
}
