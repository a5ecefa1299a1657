//! Events of a node's own, such as what it tells viewers of a like that was stored. They are put together here, and published by
//! whoever can: the node's own dispatcher, or any other.

use crate::ground::publishing::Publisher;
use crate::ground::{Ground, Todo};
use crate::wire::event::Draft;
use crate::wire::hops::Begun;
use crate::wire::topic::Topic;

/// An event of this node's own, yet to be published.
#[derive(Debug)]
pub struct Own {
    /// Who is to get it.
    pub topic: Topic,
    /// Its type.
    pub kind: &'static str,
    /// Its key, if it has one.
    pub key: Option<Box<str>>,
    /// Its id; a new one if there is none.
    pub id: Option<String>,
    /// See [`Draft::version`].
    pub version: Option<u64>,
    /// How many events of class `sum` it stands for.
    pub count: u32,
    /// It is shown whatever the pace.
    pub always: bool,
    /// What is known of its way so far.
    pub begun: Begun,
    /// Its data, as JSON.
    pub data: String,
    /// Who is to know that it was published.
    pub publisher: Publisher,
}

impl Own {
    /// An event of nothing but a topic, a type and data, of which nobody is to hear whether it was published.
    pub fn new(topic: &Topic, kind: &'static str, data: String) -> Own {
        Own {
            topic: topic.clone(),
            kind,
            key: None,
            id: None,
            version: None,
            count: 1,
            always: false,
            begun: Begun::default(),
            data,
            publisher: Publisher::Own,
        }
    }

    /// The same with a key.
    pub fn keyed(topic: &Topic, kind: &'static str, key: &str, data: String) -> Own {
        Own { key: Some(key.into()), ..Own::new(topic, kind, data) }
    }

    /// As whoever publishes it reads it.
    pub fn draft(&self) -> Draft<'_> {
        Draft {
            topic: self.topic.as_str().into(),
            kind: self.kind.into(),
            key: self.key.as_deref().map(Into::into),
            id: self.id.as_deref().map(Into::into),
            version: self.version,
            count: self.count,
            always: self.always,
            data: self.data.as_bytes(),
            begun: self.begun,
            hops: None,
        }
    }
}

impl Ground {
    /// Publishes an event of this node's own.
    pub(crate) fn publish(&mut self, own: Own) {
        self.todo.push_back(Todo::Publish(Box::new(own)));
    }
}
