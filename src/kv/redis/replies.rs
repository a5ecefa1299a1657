//! Reading what a server answers.

use redis::Value;

use crate::wire::position::Position;

/// A text, in whichever form it came.
pub fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        Value::Okay => Some("OK".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A list, or a set.
pub fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) | Value::Set(list) => Some(list),
        Value::Nil => Some(Vec::new()),
        _ => None,
    }
}

/// Names and values, as a map or one after the other.
pub fn pairs(value: Value) -> Option<Vec<(Value, Value)>> {
    match value {
        Value::Map(pairs) => Some(pairs),
        value => {
            let mut list = list(value)?.into_iter();
            let mut pairs = Vec::with_capacity(list.len() / 2);
            while let Some(name) = list.next() {
                pairs.push((name, list.next()?));
            }
            Some(pairs)
        }
    }
}

/// A whole number that is not negative.
pub fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?.parse().ok(),
        _ => None,
    }
}

/// A position; the empty text is none.
pub fn position(value: Value) -> Option<Option<Position>> {
    match text(value)?.as_str() {
        "" => Some(None),
        text => text.parse().ok().map(Some),
    }
}

/// A line `name:value` of `INFO`.
pub fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Replicas that take part, in the section `replication` of `INFO`; one that is still being filled does not.
pub fn replicas_online(replication: &str) -> usize {
    replication.lines().filter(|line| line.starts_with("slave") && line.contains("state=online")).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_info() {
        let info = "# Replication\r\nrole:master\r\nconnected_slaves:2\r\nslave0:ip=127.0.0.1,port=1,state=online,offset=9,lag=0\r\n\
                    slave1:ip=127.0.0.1,port=2,state=wait_bgsave,offset=0,lag=0\r\n";
        assert_eq!((info_field(info, "role"), info_field(info, "slave")), (Some("master"), None));
        assert_eq!(replicas_online(info), 1);
    }
}
