//! What a node serves: one table of its resources, each with the methods and the query parameters that it takes. From it
//! follow 404, 405 with `Allow`, the 400 that names the known parameters, and the answers to OPTIONS and to CORS preflights.

use crate::db::PostKind;
use crate::ground::Ground;
use crate::ground::answering::Handled;
use crate::ground::node::Roles;
use crate::web::{self, Asset};
use crate::wire::http::{HttpError, Method, is_token_byte};
use crate::wire::query::Parameter::{self, *};
use crate::wire::query::Query;
use crate::wire::request::Request;
use crate::wire::response::{AnswerTo, Cors};
use crate::wire::status::Status;

/// Something that a listener serves, with the parts of its path that name which, still percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// `/v1/events`: streams, and publishing by lines.
    Events,
    /// `/v1/poll`
    Poll,
    /// `/v1/topics/{topic}/events`
    TopicEvents(&'a str),
    /// `/v1/topics/{topic}/members`
    TopicMembers(&'a str),
    /// `/v1/connections/{connection}/topics`
    StreamTopics(&'a str),
    /// `/v1/connections/{connection}/token`
    StreamToken(&'a str),
    /// `/v1/received`
    Received,
    /// `/v1/time`
    Time,
    /// `/v1/videos/{video}/likes`
    Likes(&'a str),
    /// `/v1/videos/{video}/taps`
    Taps(&'a str),
    /// `/v1/videos/{video}/comments` and `/v1/conversations/{conversation}/messages`
    Posts(PostKind, &'a str),
    /// One of them.
    Post(PostKind, &'a str, &'a str),
    /// `/v1/conversations/{conversation}/receipts`
    Receipts(&'a str),
    /// `/v1/conversations/{conversation}/typing`
    Typing(&'a str),
    /// `/v1/videos/{video}/rules`
    Rules(&'a str),
    /// `/v1/videos/{video}/timeouts`
    Timeouts(&'a str),
    /// `/v1/presence`
    Presence,
    /// `/v1/members/{member}/…` and `/v1/tokens/{jti}/revoke`: for all nodes.
    Order(Order<'a>),
    /// `/openapi.json` and `/asyncapi.json`
    Description(Described),
    /// `/.well-known/mercure`
    Mercure,
    /// A file of the demo page, and whether it is the page itself; on the internal listener one of the operators' page.
    Asset(Asset, bool),
    /// Internal: `/metrics`
    Metrics,
    /// Internal: `/health/live`
    Live,
    /// Internal: `/health/ready`
    Ready,
    /// Internal: `/v1/node`
    Node,
    /// Internal: `/v1/connections`
    Connections,
    /// Internal: `/v1/traces`
    Traces,
    /// Internal: `/v1/settings`
    Settings,
    /// Internal: `/v1/watch`
    Watch,
    /// Internal: `/v1/happenings`
    Happenings,
    /// Internal: `/v1/topics/{topic}`
    Topic(&'a str),
    /// Internal: `/v1/internal/{what}`, for nodes of this data center.
    Neighbour(&'a str),
    /// Internal: `/v1/internal/peer/{what}`, for those of others.
    Peer(&'a str),
}

/// What all nodes are to do, with the part of the path that names for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// `/v1/members/{member}/disconnect`
    Disconnect(&'a str),
    /// `/v1/members/{member}/revoke`
    Revoke(&'a str),
    /// `/v1/members/{member}/topics`
    Topics(&'a str),
    /// `/v1/tokens/{jti}/revoke`
    RevokeToken(&'a str),
}

/// What a description is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Described {
    /// `/openapi.json`
    Requests,
    /// `/asyncapi.json`
    Stream,
}

/// A method that a resource takes, and the query parameters that it knows then.
pub type Takes = (Method, &'static [Parameter]);

/// Parts of the longest path, and one more to tell longer ones.
const PARTS_MAX: usize = 6;

/// Makes of the rows below how a path is found, and the list of all paths. A row is the parts of a path, whether it is the
/// internal listener's, and of which roles.
macro_rules! routes {
    ($roles:pat => $(([$($part:tt),*], $internal:literal) $(if $served:expr)? => $resource:expr,)*) => {
        /// Every path of a table row, as a template such as `/v1/videos/{video}/likes`, and whether it is the internal
        /// listener's.
        pub const PATHS: &[(&str, bool)] = &[$((concat!($("/", routes!(@ $part)),*), $internal)),*];

        /// The resource whose path has these parts.
        fn named<'a>($roles: Roles, parts: &[&'a str], internal: bool) -> Option<Resource<'a>> {
            Some(match (parts, internal) {
                $(([$($part),*], $internal) $(if $served)? => $resource,)*
                _ => return None,
            })
        }
    };
    (@ $part:literal) => { $part };
    (@ $part:ident) => { concat!("{", stringify!($part), "}") };
}

// What each is for stands in `description/openapi.json`; a test holds the two against each other.
routes! {
    Roles { frontend, dispatcher, backend, demo: _ } =>
    (["v1", "topics", topic, "events"], false) => Resource::TopicEvents(topic),
    (["v1", "topics", topic, "events"], true) if dispatcher => Resource::TopicEvents(topic),
    (["v1", "topics", topic, "members"], false) => Resource::TopicMembers(topic),
    (["v1", "events"], false) if frontend || dispatcher => Resource::Events,
    (["v1", "events"], true) if dispatcher => Resource::Events,
    (["v1", "poll"], false) if frontend => Resource::Poll,
    (["v1", "connections", connection, "topics"], false) if frontend => Resource::StreamTopics(connection),
    (["v1", "connections", connection, "token"], false) if frontend => Resource::StreamToken(connection),
    (["v1", "received"], false) if frontend => Resource::Received,
    (["v1", "time"], false) if frontend => Resource::Time,
    (["v1", "videos", video, "likes"], false) if backend => Resource::Likes(video),
    (["v1", "videos", video, "taps"], false) if backend => Resource::Taps(video),
    (["v1", "videos", video, "comments"], false) if backend => Resource::Posts(PostKind::Comment, video),
    (["v1", "videos", video, "comments", id], false) if backend => Resource::Post(PostKind::Comment, video, id),
    (["v1", "videos", video, "rules"], false) if backend => Resource::Rules(video),
    (["v1", "videos", video, "timeouts"], false) if backend => Resource::Timeouts(video),
    (["v1", "conversations", conversation, "messages"], false) if backend => Resource::Posts(PostKind::Message, conversation),
    (["v1", "conversations", conversation, "messages", id], false) if backend => Resource::Post(PostKind::Message, conversation, id),
    (["v1", "conversations", conversation, "receipts"], false) if backend => Resource::Receipts(conversation),
    (["v1", "conversations", conversation, "typing"], false) if backend => Resource::Typing(conversation),
    (["v1", "presence"], false) if backend => Resource::Presence,
    (["v1", "members", member, "disconnect"], false) => Resource::Order(Order::Disconnect(member)),
    (["v1", "members", member, "revoke"], false) => Resource::Order(Order::Revoke(member)),
    (["v1", "members", member, "topics"], false) => Resource::Order(Order::Topics(member)),
    (["v1", "tokens", jti, "revoke"], false) => Resource::Order(Order::RevokeToken(jti)),
    ([".well-known", "mercure"], false) => Resource::Mercure,
    (["openapi.json"], false) => Resource::Description(Described::Requests),
    (["asyncapi.json"], false) => Resource::Description(Described::Stream),
    (["metrics"], true) => Resource::Metrics,
    (["health", "live"], true) => Resource::Live,
    (["health", "ready"], true) => Resource::Ready,
    (["v1", "node"], true) => Resource::Node,
    (["v1", "connections"], true) => Resource::Connections,
    (["v1", "traces"], true) => Resource::Traces,
    (["v1", "happenings"], true) => Resource::Happenings,
    (["v1", "settings"], true) => Resource::Settings,
    (["v1", "watch"], true) => Resource::Watch,
    (["v1", "topics", topic], true) => Resource::Topic(topic),
    (["v1", "internal", "peer", what], true) => Resource::Peer(what),
    (["v1", "internal", what], true) => Resource::Neighbour(what),
}

impl<'a> Resource<'a> {
    /// The resource at a path, if a listener of a node with these roles serves one there.
    pub fn find(roles: Roles, internal: bool, path: &'a str) -> Option<Resource<'a>> {
        let mut parts = [""; PARTS_MAX];
        let mut count = 0;
        let mut rest = Some(path.strip_prefix('/')?);
        // By hand: the standard library's search for a character costs more than such short parts repay.
        while let Some(text) = rest.filter(|_| count < PARTS_MAX) {
            let end = text.bytes().position(|byte| byte == b'/');
            parts[count] = &text[..end.unwrap_or(text.len())];
            rest = end.map(|end| &text[end + 1..]);
            count += 1;
        }
        let Roles { demo, .. } = roles;
        named(roles, &parts[..count], internal).or_else(|| match internal {
            true => Some(Resource::Asset(web::operators(path)?, false)),
            false if demo => Some(Resource::Asset(web::asset(path)?, matches!(path, "/" | "/index.html"))),
            false => None,
        })
    }

    /// The methods that it takes, each with the parameters that it knows. HEAD goes with GET.
    pub fn takes(self, roles: Roles, internal: bool) -> &'static [Takes] {
        const GET: Takes = (Method::Get, &[AccessToken]);
        const POST: Takes = (Method::Post, &[AccessToken]);
        const PUT: Takes = (Method::Put, &[AccessToken]);
        const DELETE: Takes = (Method::Delete, &[AccessToken]);
        const STREAM: Takes = (Method::Get, &[Parameter::Topic, Member, All, From, LastEventId, AccessToken]);
        const PAGE: Takes = (Method::Get, &[After, Before, Limit, AccessToken]);
        const UPDATE: Takes = (Method::Post, &[Authorization]);
        // Nodes and operators show a secret instead of a token.
        const LOOK: Takes = (Method::Get, &[]);
        const GIVE: Takes = (Method::Post, &[]);
        match self {
            Resource::Events | Resource::TopicEvents(_) if internal => &[GIVE],
            Resource::Events if roles.frontend && roles.dispatcher => &[STREAM, POST],
            Resource::Events if roles.frontend => &[STREAM],
            Resource::Poll => &[STREAM],
            Resource::Events => &[POST],
            Resource::TopicEvents(_) if roles.dispatcher => &[PAGE, POST],
            Resource::TopicEvents(_) => &[PAGE],
            Resource::TopicMembers(_) => &[(Method::Get, &[Limit, Of, AccessToken])],
            Resource::StreamTopics(_) | Resource::StreamToken(_) | Resource::Received => &[POST],
            Resource::Typing(_) | Resource::Taps(_) | Resource::Timeouts(_) | Resource::Order(_) => &[POST],
            Resource::Rules(_) => &[GET, PUT],
            Resource::Time | Resource::Description(_) => &[GET],
            Resource::Likes(_) => &[GET, POST, DELETE],
            Resource::Posts(..) => &[PAGE, POST],
            Resource::Post(..) => &[DELETE],
            Resource::Receipts(_) => &[(Method::Get, &[After, AccessToken]), POST],
            Resource::Presence => &[(Method::Get, &[Member, AccessToken])],
            Resource::Mercure if roles.frontend => {
                &[(Method::Get, &[Parameter::Topic, LastEventId, Authorization]), UPDATE]
            }
            Resource::Mercure => &[UPDATE],
            // The page reads them by itself.
            Resource::Asset(_, true) => &[(Method::Get, &[Video, Chat, Member, Members])],
            Resource::Asset(_, false) => &[LOOK],
            Resource::Metrics | Resource::Live | Resource::Ready | Resource::Node | Resource::Topic(_) => &[LOOK],
            Resource::Settings | Resource::Watch => &[LOOK],
            Resource::Connections => &[(Method::Get, &[Sort, Topic, Member, Address, Limit])],
            Resource::Traces => &[(Method::Get, &[Parameter::Id, Limit])],
            Resource::Happenings => &[(Method::Get, &[Parameter::Level, Limit])],
            Resource::Neighbour(_) | Resource::Peer(_) => &[GIVE],
        }
    }

    /// Its methods, as `Allow` lists them.
    fn allow(self, roles: Roles, internal: bool) -> String {
        let mut names: Vec<&str> = Vec::new();
        for (method, _) in self.takes(roles, internal) {
            names.push(method.name());
            names.extend((*method == Method::Get).then_some(Method::Head.name()));
        }
        if !internal {
            names.push("OPTIONS");
        }
        names.join(", ")
    }

    /// The query of a request to this resource.
    ///
    /// # Errors
    /// 405 for a method that it does not take, 400 for a parameter that it does not know.
    pub fn query<'q>(self, roles: Roles, internal: bool, request: &Request<'q>) -> Result<Query<'q>, HttpError> {
        let method = if request.method == Method::Head { Method::Get } else { request.method };
        match self.takes(roles, internal).iter().find(|(taken, _)| *taken == method) {
            Some((_, known)) => Query::read(request.query, known),
            None => Err(HttpError::method(self.allow(roles, internal))),
        }
    }
}

/// The headers that requests here may carry, where a preflight does not say which it asks for.
const HEADERS: &str = "Content-Type, Authorization, Last-Event-ID";

/// Whether a text is a list of headers' names. An origin that may send requests may send any header with them: what this
/// node does not know it ignores.
fn is_list(names: &str) -> bool {
    names.bytes().all(|byte| is_token_byte(byte) || matches!(byte, b',' | b' ' | b'\t')) && !names.is_empty()
}

impl Ground {
    /// OPTIONS, whatever its query: what is wrong with that is for the request's own answer.
    pub(crate) fn options(
        &mut self,
        request: &Request<'_>,
        to: AnswerTo,
        internal: bool,
        resource: Option<Resource<'_>>,
    ) -> Result<Handled, HttpError> {
        let allow = match request.path {
            // Of the server as a whole (RFC 9110 section 9.3.7).
            "*" => "GET, HEAD, POST, PUT, DELETE, OPTIONS".to_owned(),
            _ => resource.ok_or_else(HttpError::not_found)?.allow(self.node.roles, internal),
        };
        let mut headers = format!("Allow: {allow}\r\n");
        if request.preflight && to.cors != Cors::None {
            headers += &format!(
                "Access-Control-Allow-Methods: {allow}\r\n\
                 Access-Control-Allow-Headers: {}\r\n\
                 Access-Control-Max-Age: 86400\r\n\
                 Vary: Access-Control-Request-Headers\r\n",
                request.preflight_headers.filter(|names| is_list(names)).unwrap_or(HEADERS)
            );
        }
        Ok(Handled::Answered(self.answers().whole(to, Status::NoContent, "", &headers, b"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request;

    const ALL: Roles = Roles { frontend: true, dispatcher: true, backend: true, demo: true };

    fn query(internal: bool, line: &str) -> Result<u16, HttpError> {
        let head = format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n");
        let request = request::parse(head.as_bytes()).unwrap();
        let resource = Resource::find(ALL, internal, request.path).ok_or_else(HttpError::not_found)?;
        resource.query(ALL, internal, &request).map(|_| 200)
    }

    #[test]
    fn no_resource_ignores_a_parameter() {
        let public = [
            "GET /v1/events",
            "POST /v1/events",
            "GET /v1/poll",
            "GET /v1/topics/a:b/events",
            "POST /v1/topics/a:b/events",
            "POST /v1/connections/x/topics",
            "POST /v1/connections/x/token",
            "POST /v1/received",
            "GET /v1/time",
            "GET /openapi.json",
            "GET /asyncapi.json",
            "GET /v1/videos/1/likes",
            "POST /v1/videos/1/likes",
            "DELETE /v1/videos/1/likes",
            "HEAD /v1/videos/1/comments",
            "POST /v1/videos/1/comments",
            "DELETE /v1/videos/1/comments/x",
            "GET /v1/videos/1/rules",
            "PUT /v1/videos/1/rules",
            "POST /v1/videos/1/timeouts",
            "GET /v1/conversations/1/messages",
            "POST /v1/conversations/1/messages",
            "DELETE /v1/conversations/1/messages/x",
            "POST /v1/conversations/1/typing",
            "GET /v1/conversations/1/receipts",
            "POST /v1/conversations/1/receipts",
            "GET /v1/presence",
            "POST /v1/members/ana/disconnect",
            "POST /v1/members/ana/revoke",
            "POST /v1/members/ana/topics",
            "POST /v1/tokens/x/revoke",
            "GET /.well-known/mercure",
            "POST /.well-known/mercure",
            "GET /",
            "GET /index.html",
            "GET /fanfare.js",
        ];
        let internal = [
            "GET /metrics",
            "GET /health/live",
            "GET /health/ready",
            "GET /v1/node",
            "GET /v1/connections",
            "GET /v1/traces",
            "GET /v1/happenings",
            "GET /v1/topics/a:b",
            "POST /v1/topics/a:b/events",
            "POST /v1/events",
            "POST /v1/internal/frames",
            "POST /v1/internal/peer/frames",
        ];
        for (listener, line) in public.iter().map(|line| (false, line)).chain(internal.iter().map(|line| (true, line)))
        {
            assert_eq!(query(listener, line), Ok(200), "{line}");
            let error = query(listener, &format!("{line}?offset=3")).unwrap_err();
            assert!(error.status == Status::BadRequest && error.detail.contains("\"offset\""), "{line}: {error:?}");
        }
    }

    #[test]
    fn what_is_taken_where() {
        assert_eq!(query(false, "GET /v1/events?topic=a:b&lastEventID=x&member=ana&access_token=t"), Ok(200));
        assert_eq!(query(false, "GET /?video=7&chat=7&member=ana&members=9"), Ok(200));
        assert_eq!(query(true, "GET /v1/connections?sort=pending&limit=3"), Ok(200));
        assert_eq!(query(true, "GET /v1/node?access_token=t").unwrap_err().status.code(), 400);
        let error = query(false, "PUT /v1/videos/1/likes").unwrap_err();
        assert_eq!((error.status.code(), error.allow.as_deref()), (405, Some("GET, HEAD, POST, DELETE, OPTIONS")));
        let error = query(true, "POST /metrics").unwrap_err();
        assert_eq!((error.status.code(), error.allow.as_deref()), (405, Some("GET, HEAD")));
        for line in ["GET /v1/node", "GET /metrics", "GET /v1/events/", "GET /v1", "GET /./demo.js"] {
            assert_eq!(query(false, line).unwrap_err().status.code(), 404, "{line}");
        }
        for line in ["GET /", "GET /page.js", "GET /v1/watch", "GET /v1/settings"] {
            assert_eq!(query(true, line), Ok(200), "{line}");
        }
        for line in ["GET /demo.js", "GET /v1/time", "POST /v1/videos/1/likes"] {
            assert_eq!(query(true, line).unwrap_err().status.code(), 404, "{line}");
        }
    }
}
