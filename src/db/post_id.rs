//! Ids of posts: a number of the database, and the database's name, so that two data centers never give the same one.

/// Makes and reads the ids of one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostIds {
    /// Eight lowercase hexadecimal digits, drawn at random when the database was made.
    database: String,
}

impl PostIds {
    /// `database` as it is stored.
    pub(crate) fn new(database: String) -> PostIds {
        PostIds { database }
    }

    /// The database's name.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// The id of the post with this number.
    pub(crate) fn text(&self, number: i64) -> String {
        format!("{number}-{}", self.database)
    }

    /// The number of an id, if this database can have given it.
    pub(crate) fn number(&self, id: &str) -> Option<i64> {
        let number = id.strip_suffix(self.database.as_str())?.strip_suffix('-')?;
        // One post, one id: no plus sign and no leading zeros.
        let canonical = number.bytes().all(|byte| byte.is_ascii_digit()) && !number.starts_with('0');
        number.parse().ok().filter(|_| canonical)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::POST_ID_BYTES_MAX;

    #[test]
    fn ids_are_read_back_and_nothing_else_is() {
        let ids = PostIds::new("0123abcd".into());
        for number in [1, 42, i64::MAX] {
            let id = ids.text(number);
            assert!(id.len() <= POST_ID_BYTES_MAX, "{id}");
            assert_eq!(ids.number(&id), Some(number));
        }
        assert_eq!(ids.text(42), "42-0123abcd");
        for other in [
            "",
            "42",
            "42-",
            "-0123abcd",
            "420123abcd",
            "0-0123abcd",
            "042-0123abcd",
            "+42-0123abcd",
            "-42-0123abcd",
            "42-0123abce",
            "42-0123ABCD",
            "42-0123abcd ",
            "4 2-0123abcd",
            "9223372036854775808-0123abcd",
            "é-0123abcd",
        ] {
            assert_eq!(ids.number(other), None, "{other}");
        }
    }
}
