//! Who asks: a request's token becomes what it may do, before anything else of it is looked at.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use crate::auth::{Keys, Refetch, Rights, SharedKeys, Terms, Token, TokenError, credentials};
use crate::ground::Ground;
use crate::ground::mercure::By;
use crate::ground::token_cache::TokenCache;
use crate::observe::happenings::subject::Subject;
use crate::wire::authority::Authority;
use crate::wire::canary;
use crate::wire::event::{CONTROL_KIND, Draft, EventError, Owner, giver, owner};
use crate::wire::frame::Withdrawn;
use crate::wire::hops::Parent;
use crate::wire::http::HttpError;
use crate::wire::mercure::{self, Update};
use crate::wire::prefix::{ANY, WANTED};
use crate::wire::query::Query;
use crate::wire::request::Request;
use crate::wire::response::{Cors, Origins};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// What tokens are checked by, with `--auth jwt`.
#[derive(Debug)]
pub struct Tokens {
    /// The keys that hold now.
    pub keys: SharedKeys,
    /// The cookie that may carry a token.
    pub cookie: Option<String>,
    /// What is asked of them beside.
    pub terms: Terms,
    /// How keys are asked for that are not known, where an issuer serves them.
    pub refetch: Option<Refetch>,
}

/// What a request may do.
#[derive(Debug)]
pub enum Access {
    /// Another node asks, by the internal listener.
    Node,
    /// Everything, as whomever it says: there are no tokens.
    Open,
    /// What its token allows.
    Token(Arc<Rights>),
}

/// An event that may be published: [`Access::allow`] let it pass, or it is a node's own. Nothing else is published, so that no
/// way in goes round the checks.
#[derive(Debug)]
pub struct Allowed<'a>(Draft<'a>);

impl<'a> Allowed<'a> {
    /// An event of this node's own.
    pub fn own(draft: Draft<'a>) -> Allowed<'a> {
        Allowed(draft)
    }

    /// It is a part of this trace of its publisher's, which is sampled or not.
    pub fn of_trace(&mut self, parent: Option<(Parent, bool)>) {
        self.0.begun.parent = parent;
    }
}

impl<'a> Deref for Allowed<'a> {
    type Target = Draft<'a>;

    fn deref(&self) -> &Draft<'a> {
        &self.0
    }
}

impl Tokens {
    /// What a request may do, by the one token that it carries, if it carries one; true beside it if the token's signature had to
    /// be checked.
    ///
    /// # Errors
    /// 400 for several tokens, 401 for a bad one, 403 for a cookie without an allowed `Origin`.
    pub fn access(
        &self,
        by: By,
        seen: &mut TokenCache,
        request: &Request<'_>,
        query: Query<'_>,
        (origins, own_port): (&Origins, u16),
        now_ms: u64,
    ) -> Result<Option<(Access, bool)>, HttpError> {
        let mut in_query = None;
        for token in query.all(by.parameter()) {
            if in_query.replace(token).is_some() {
                return Err(TokenError::Several.into());
            }
        }
        let cookie = match by {
            By::Api => self.cookie.as_deref().zip(request.cookie),
            // What a client says outright counts there, whatever a browser adds.
            By::Mercure if request.authorization.is_some() || in_query.is_some() => None,
            By::Mercure => Some(self.cookie.as_deref().unwrap_or(mercure::COOKIE)).zip(request.cookie),
        };
        let credential = credentials(request.authorization, cookie, in_query.as_deref())?;
        let Some(credential) = credential else { return Ok(None) };
        if credential.needs_origin() && !has_allowed_origin(request, origins, own_port) {
            return Err(TokenError::Origin.into());
        }
        self.verify(seen, credential.token, now_ms).map(Some)
    }

    /// What a token allows; true beside it if its signature had to be checked.
    ///
    /// # Errors
    /// 401 for a bad one; 503 while keys are fetched among which its own may be.
    pub fn verify(&self, seen: &mut TokenCache, token: Token<'_>, now_ms: u64) -> Result<(Access, bool), HttpError> {
        let keys = self.keys.load();
        match seen.verify(token, &keys, &self.terms, now_ms) {
            Ok((rights, is_new)) => Ok((Access::Token(rights), is_new)),
            Err(TokenError::UnknownKey | TokenError::WrongAlgorithm(_)) if self.may_have_new_keys(&keys, now_ms) => {
                Err(HttpError::unavailable("no key of this token is known yet; the issuer is being asked for new ones"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether keys that are not known now may be known soon. They are asked for.
    fn may_have_new_keys(&self, keys: &Keys, now_ms: u64) -> bool {
        self.refetch.as_ref().is_some_and(|refetch| refetch.may_help(now_ms) || keys.count() == 0)
    }

    /// Whether keys are known.
    pub fn has_keys(&self) -> bool {
        self.keys.load().count() > 0
    }
}

/// Whether a browser sent this for a page that may use its visitor's cookies: one of this node's own, or of a listed
/// origin. A page's own requests by GET have no `Origin`; browsers then tell by `Sec-Fetch-Site`, which no page can
/// set, that they are its own.
fn has_allowed_origin(request: &Request<'_>, origins: &Origins, own_port: u16) -> bool {
    match request.origin {
        // Any origin (`*`) is without credentials.
        Some(origin) => {
            matches!(origins.check(Some(origin)), Cors::Origin(_))
                || (!request.is_foreign && request.host.is_some_and(|host| is_origin_of(origin, host, own_port)))
        }
        None => request.is_same_origin,
    }
}

/// Whether `origin` has the authority of `Host`, whichever scheme it has.
pub(crate) fn is_same_authority(origin: &str, host: Authority<'_>) -> bool {
    shares_plainly(origin, host).is_some()
}

/// Whether it is plain HTTP by which `origin` shares the authority of `Host`; none if they are different ones. A port that goes
/// without saying is the scheme's.
fn shares_plainly(origin: &str, host: Authority<'_>) -> Option<bool> {
    let shares = |scheme, port: u16| {
        Authority::of_origin(origin, scheme)
            .is_some_and(|own| own.host == host.host && own.port.unwrap_or(port) == host.port.unwrap_or(port))
    };
    if shares("https", 443) { Some(false) } else { shares("http", 80).then_some(true) }
}

/// Whether `origin` is that of `Host`. What the visitor speaks is not known here, since a proxy in front may speak TLS. Whoever
/// is on the visitor's way could make up a page of the same name in plain HTTP, so such a page counts as the node's own
/// only where it surely is: on this box, or where `Host` names `own_port`, on which this node itself speaks plain HTTP.
fn is_origin_of(origin: &str, host: Authority<'_>, own_port: u16) -> bool {
    let is_sure = || host.port.unwrap_or(80) == own_port || host.host.is_here();
    shares_plainly(origin, host).is_some_and(|is_plain| !is_plain || is_sure())
}

impl Access {
    /// The topic that its streams get without asking.
    pub fn own_topic(&self) -> Option<Topic> {
        match self {
            Access::Open | Access::Node => None,
            Access::Token(rights) => rights.own_topic(),
        }
    }

    /// Whose request it is; `client` finds the address where there are no tokens.
    pub(crate) fn subject(&self, client: impl FnOnce() -> Option<IpAddr>) -> Subject<'_> {
        match self {
            Access::Token(rights) => Subject { member: rights.sub.as_deref(), ..Subject::default() },
            Access::Open => Subject { address: client(), ..Subject::default() },
            Access::Node => Subject::default(),
        }
    }

    /// Refuses a topic whose events no client gets, whatever it may.
    ///
    /// # Errors
    /// 403; 400 for a topic of another protocol.
    pub fn require_watchable(topic: &Topic) -> Result<(), HttpError> {
        match topic.kind() {
            mercure::KIND => Err(HttpError::bad(
                "topics mercure: are subscribed to by GET /.well-known/mercure?topic=…, whose streams have another form",
            )),
            canary::KIND => Err(HttpError::new(
                Status::Forbidden,
                "canary: topics are what nodes watch each other by; nobody else may watch them",
            )),
            CONTROL_KIND if is_of_prefixes(topic) => Err(HttpError::new(
                Status::Forbidden,
                "control: topics are watched by their own names, and by no prefix",
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a topic whose events it may not get.
    ///
    /// # Errors
    /// 403, naming the right and the topic; 400 for one of another protocol.
    pub fn require_subscribe(&self, topic: &Topic) -> Result<(), HttpError> {
        if !matches!(self, Access::Node) || topic.kind() == mercure::KIND {
            Access::require_watchable(topic)?;
        }
        match self {
            Access::Open if topic.kind() == CONTROL_KIND => {
                Err(HttpError::new(Status::Forbidden, "control: topics are for who has a token for them"))
            }
            Access::Open | Access::Node => Ok(()),
            Access::Token(rights) => Ok(rights.require_subscribe(topic)?),
        }
    }

    /// Refuses a topic that it may not send events to. `topic` is a valid one.
    ///
    /// # Errors
    /// 403, naming the right and the topic.
    pub fn require_publish(&self, topic: &str) -> Result<(), HttpError> {
        let Access::Token(rights) = self else { return Ok(()) };
        let topic = Topic::subscribed(topic).map_err(|error| HttpError::bad(error.to_string()))?;
        Ok(rights.require_publish(&topic)?)
    }

    /// Lets an event pass that may be published: to its topic, of its type, under its id. What only nodes know of an event
    /// is taken off one that comes from elsewhere.
    ///
    /// # Errors
    /// 403, naming the right and the topic, the type, or the id; 400 for data that may be read in two ways, and for a topic of
    /// another protocol.
    pub fn allow<'a>(&self, draft: Draft<'a>) -> Result<Allowed<'a>, HttpError> {
        if Withdrawn::is_named_twice(&draft.kind, draft.data) {
            return Err(HttpError::bad(EventError::Twice("id of data").to_string()));
        }
        if mercure::is_of_kind(&draft.topic) {
            return match self {
                Access::Node if draft.kind == mercure::TYPE && Update::read(draft.data).is_some() => Ok(Allowed(draft)),
                _ => Err(HttpError::bad(
                    "topics mercure: get updates by POST /.well-known/mercure, from whom they have another form",
                )),
            };
        }
        if matches!(self, Access::Node) {
            return Ok(Allowed(draft));
        }
        self.require_publish(&draft.topic)?;
        if let Some((kind @ (CONTROL_KIND | canary::KIND), _)) = draft.topic.split_once(':') {
            return Err(HttpError::new(Status::Forbidden, format!("events of {kind}: topics come only from nodes")));
        }
        self.require_type(&draft.kind)?;
        if let Some(id) = draft.id.as_deref().filter(|id| giver(id).is_some()) {
            return Err(HttpError::new(
                Status::Forbidden,
                format!("ids such as {id} are given by nodes; give another one, or none"),
            ));
        }
        Ok(Allowed(draft.of_client()))
    }

    /// Refuses a type of events that belongs to others.
    fn require_type(&self, kind: &str) -> Result<(), HttpError> {
        match (self, owner(kind)) {
            (Access::Node, _) | (_, Owner::Anyone) | (Access::Open, Owner::Named) => Ok(()),
            (_, Owner::Nodes) => Err(HttpError::new(
                Status::Forbidden,
                format!("events of type {kind} come only from nodes, not from clients"),
            )),
            (Access::Token(rights), Owner::Named) => Ok(rights.require_type(kind)?),
        }
    }

    /// Refuses a token that ran out since it was checked, while a long body came.
    ///
    /// # Errors
    /// 401.
    pub fn require_unexpired(&self, now_ms: u64) -> Result<(), HttpError> {
        match self {
            Access::Token(rights) if rights.is_expired(now_ms) => {
                let expires_at_ms = rights.expires_at_ms.unwrap_or(now_ms);
                Err(TokenError::Expired(now_ms.saturating_sub(expires_at_ms) / 1000).into())
            }
            _ => Ok(()),
        }
    }

    /// The member that the request acts for, given the one that it names. `None` only without tokens.
    ///
    /// # Errors
    /// 403 for a member other than the token's, or if the token names none.
    pub fn member(&self, named: Option<String>) -> Result<Option<String>, HttpError> {
        let Access::Token(rights) = self else { return Ok(named) };
        let member = rights.member(named.as_deref())?.ok_or(TokenError::NoMember)?;
        Ok(Some(member.to_owned()))
    }

    /// Whether its token lets it moderate a topic. Without tokens nobody is told from others.
    pub fn is_moderator(&self, topic: &Topic) -> bool {
        matches!(self, Access::Token(_)) && self.require_publish(&moderated(topic)).is_ok()
    }

    /// Refuses a topic that it may not moderate.
    ///
    /// # Errors
    /// 403, naming the right.
    pub fn require_moderator(&self, topic: &Topic) -> Result<(), HttpError> {
        if !matches!(self, Access::Token(_)) || self.is_moderator(topic) {
            return Ok(());
        }
        let right = moderated(topic);
        Err(HttpError::new(Status::Forbidden, format!("all of a type is for those who may publish to {right}")))
    }

    /// Refuses to watch as a member other than the token's. Nobody in particular may watch too.
    ///
    /// # Errors
    /// 403.
    pub fn require_member(&self, named: Option<&str>) -> Result<(), HttpError> {
        match self {
            Access::Open | Access::Node => Ok(()),
            Access::Token(rights) => Ok(rights.member(named).map(|_| ())?),
        }
    }
}

impl Ground {
    /// [`Access::allow`], and whether the event is shown whatever its type's pace.
    ///
    /// # Errors
    /// As [`Access::allow`].
    pub(crate) fn allow<'a>(&self, access: &Access, draft: Draft<'a>) -> Result<Allowed<'a>, HttpError> {
        let Allowed(mut draft) = access.allow(draft)?;
        if !draft.always && self.live.types.get(&draft.kind).pace.is_some() {
            draft.always = Topic::parse(&draft.topic).is_ok_and(|topic| access.is_moderator(&topic));
        }
        Ok(Allowed(draft))
    }

    /// What a request to the public listener may do.
    ///
    /// # Errors
    /// As [`Tokens::access`], and as [`Ground::require_unrevoked`].
    pub(crate) fn access(&mut self, request: &Request<'_>, query: Query<'_>) -> Result<Access, HttpError> {
        self.access_by(By::Api, request, query)
    }

    /// What a token allows that did not come as a request's own.
    ///
    /// # Errors
    /// 401 for a bad one.
    pub(crate) fn verify(&mut self, token: Token<'_>) -> Result<Access, HttpError> {
        let Some(tokens) = &self.node.tokens else { return Ok(Access::Open) };
        let checked = tokens.verify(&mut self.tokens_seen, token, self.clock.unix_ms);
        self.count_checked(checked)
    }

    pub(crate) fn count_checked(&self, checked: Result<(Access, bool), HttpError>) -> Result<Access, HttpError> {
        let (access, is_new) = checked?;
        self.counters().tokens_verified.add(u64::from(is_new));
        self.require_unrevoked(&access)?;
        Ok(access)
    }
}

/// Whether it is a prefix, or what nodes tell each other of prefixes.
fn is_of_prefixes(topic: &Topic) -> bool {
    topic.is_prefix() || topic.as_str() == ANY || topic.as_str().starts_with(WANTED)
}

/// What one must be allowed to publish to for moderating a topic: deleting others' posts there, saying who posts, being shown whatever the
/// pace. It names the whole topic, since a video and a
/// conversation may have the same name. It is longer than a topic where that is as long as can be; then nobody has it.
pub(crate) fn moderated(topic: &Topic) -> String {
    format!("moderate:{topic}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request;

    fn allows(headers: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\nHost: app.example\r\n{headers}\r\n");
        let origins = Origins(vec!["https://page.example".to_owned()]);
        has_allowed_origin(&request::parse(head.as_bytes()).unwrap(), &origins, 8080)
    }

    #[test]
    fn cookies_count_from_own_and_listed_pages() {
        for headers in [
            "Origin: https://app.example\r\n",
            "Origin: https://app.example\r\nSec-Fetch-Site: same-origin\r\n",
            "Origin: https://page.example\r\n",
            "Origin: https://page.example\r\nSec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-origin\r\n",
        ] {
            assert!(allows(headers), "{headers}");
        }
        for headers in [
            "",
            "Origin: null\r\n",
            "Origin: http://app.example\r\n",
            "Origin: http://app.example:443\r\n",
            "Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n",
            "Origin: https://app.example.evil\r\n",
            "Origin: https://evil.app.example\r\n",
            "Origin: https://app.example:8443\r\n",
            "Origin: http://page.example\r\n",
            "Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n",
            "Origin: app.example\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: none\r\n",
        ] {
            assert!(!allows(headers), "{headers}");
        }
        let any = Origins(vec!["*".to_owned()]);
        let head = b"GET / HTTP/1.1\r\nHost: app.example\r\nOrigin: https://evil.example\r\n\r\n";
        assert!(!has_allowed_origin(&request::parse(head).unwrap(), &any, 8080));
    }

    fn is_own(origin: &str, host: &str, port: u16) -> bool {
        is_origin_of(origin, Authority::parse(host).unwrap(), port)
    }

    #[test]
    fn a_host_with_its_schemes_port_is_the_same_origin() {
        let own = |origin, host| is_own(origin, host, 8080);
        assert!(own("https://a.example", "A.example:443") && own("http://[::1]:8080", "[::1]:8080"));
        assert!(!own("https://a.example", "a.example:80") && !own("https://", ""));
        assert!(!own("ftp://a.example", "a.example"));
    }

    #[test]
    fn a_plain_page_of_the_same_name_is_its_own_only_where_that_is_sure() {
        for (origin, host) in [
            ("http://a.example:8080", "a.example:8080"),
            ("http://127.0.0.1", "127.0.0.1"),
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("http://[::1]:3000", "[::1]:3000"),
            ("http://[::1]", "[::1]:80"),
            ("http://localhost:3000", "localhost:3000"),
        ] {
            assert!(is_own(origin, host, 8080), "{origin} {host}");
        }
        for (origin, host) in [
            ("http://a.example", "a.example"),
            ("http://a.example", "a.example:80"),
            ("http://a.example:443", "a.example:443"),
            ("http://a.example:8443", "a.example:8443"),
            ("http://localhost.a.example", "localhost.a.example"),
            ("http://[2001:db8::1]", "[2001:db8::1]"),
            ("http://[::1]:8080", "[::1]"),
        ] {
            assert!(!is_own(origin, host, 8080), "{origin} {host}");
        }
        assert!(is_own("http://a.example", "a.example:80", 80) && is_own("http://a.example", "a.example", 80));
    }

    #[test]
    fn a_long_body_goes_on_no_longer_than_its_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let secret = "a secret of more than 32 bytes, for tests";
        std::fs::write(&file, secret).unwrap();
        let watcher = crate::auth::Watcher::start(&file).unwrap();
        let tokens = Tokens { keys: watcher.keys(), cookie: None, terms: Terms::default(), refetch: None };
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        let claims = serde_json::json!({"exp": 100});
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        let access = tokens.verify(&mut TokenCache::default(), Token(&token), 90_000).unwrap().0;
        assert_eq!(access.require_unexpired(104_999), Ok(()));
        assert_eq!(access.require_unexpired(105_000), Err(TokenError::Expired(5).into()));
        assert_eq!(Access::Open.require_unexpired(u64::MAX), Ok(()));
    }
}
