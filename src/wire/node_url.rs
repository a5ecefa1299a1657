//! The URL of a node's internal listener, as settings name it and as nodes tell each other: scheme, host and port.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use super::authority::Authority;
use crate::limits::NODE_URL_BYTES_MAX;

/// One that was read and checked. What nodes say of themselves is listed, logged and connected to, so that a text that is none
/// goes nowhere.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeUrl(Url);

/// Why a text is no URL of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeUrlError {
    /// Longer than any name of a host makes it.
    #[error("longer than {NODE_URL_BYTES_MAX} bytes")]
    Long,
    /// A line break, another control character or a space, which readers of URLs drop, each as it likes.
    #[error("not a URL (it has control characters or spaces)")]
    Controls,
    /// None at all.
    #[error("not a URL ({0})")]
    Url(#[from] url::ParseError),
    /// Another scheme.
    #[error("not an http:// or https:// URL")]
    Scheme,
    /// Port 0.
    #[error("port 0 cannot be connected to")]
    Port,
    /// A user, a path, a query or a fragment.
    #[error("more than scheme, host and port")]
    More,
}

impl NodeUrl {
    /// Reads one.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<NodeUrl, NodeUrlError> {
        if text.len() > NODE_URL_BYTES_MAX {
            return Err(NodeUrlError::Long);
        }
        if text.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return Err(NodeUrlError::Controls);
        }
        let url = Url::parse(text)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(NodeUrlError::Scheme);
        }
        if url.port() == Some(0) {
            return Err(NodeUrlError::Port);
        }
        let more = !url.username().is_empty() || url.password().is_some() || url.path() != "/";
        if more || url.query().is_some() || url.fragment().is_some() {
            return Err(NodeUrlError::More);
        }
        Ok(NodeUrl(url))
    }

    /// As a URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Its host and port.
    pub fn authority(&self) -> Option<Authority<'_>> {
        Authority::parse(&self.0[url::Position::BeforeHost..url::Position::AfterPort])
    }
}

impl TryFrom<String> for NodeUrl {
    type Error = NodeUrlError;

    fn try_from(text: String) -> Result<NodeUrl, NodeUrlError> {
        NodeUrl::parse(&text)
    }
}

impl From<NodeUrl> for String {
    fn from(url: NodeUrl) -> String {
        url.to_string()
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for NodeUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_scheme_host_and_port_and_nothing_else() {
        for (text, shown, host) in [
            ("http://10.0.0.5:8081", "http://10.0.0.5:8081", "10.0.0.5:8081"),
            ("http://Node-7.example:8081/", "http://node-7.example:8081", "node-7.example:8081"),
            ("https://[::1]:9", "https://[::1]:9", "[::1]:9"),
        ] {
            let url = NodeUrl::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.authority()), (shown, Authority::parse(host)));
            assert_eq!(serde_json::from_str::<NodeUrl>(&serde_json::to_string(&url).unwrap()).unwrap(), url);
        }
        let long = format!("http://{}/", "a".repeat(9 * 1024));
        for bad in [
            "",
            "10.0.0.5:8081",
            "file:///etc/passwd",
            "ftp://h",
            "javascript:alert(1)",
            "http://",
            "http://h:0",
            "http://h:99999",
            "http://u:p@h",
            "http://h/x",
            "http://h?x",
            "http://h#x",
            "http://h/\r\nX: y",
            "http://h\r\n",
            "http://h\t:80",
            " http://h",
            "http://h\u{85}",
            "http://h%0d%0a",
            "http://a b",
            &long,
        ] {
            assert!(NodeUrl::parse(bad).is_err(), "{bad:?}");
            assert!(serde_json::from_value::<NodeUrl>(serde_json::json!(bad)).is_err(), "{bad:?}");
        }
    }
}
