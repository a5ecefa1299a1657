//! Every exchange of the tests' own clients with a public listener is held against what nodes say of their interface: an answer
//! of a status, header or body that is not described, or a request that is taken and should not be, fails its test.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use fanfare::ground::description::Served;
use fanfare::ground::node::Roles;
use fanfare::settings::Role;
use fanfare::wire::chunked::{Chunked, Piece};
use fanfare::wire::http::percent_decode;
use fanfare::wire::request::{BodyLength, head_end, parse};
use fanfare::wire::types::BUILT_IN;
use jsonschema::Validator;
use serde_json::{Value, json};

use super::http::Answer;

/// What HTTP itself and CORS give an answer, which no description names.
const HEADERS_OF_HTTP: [&str; 9] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "connection",
    "date",
    "vary",
];

/// What says how a body is framed.
const HEADERS_OF_BODIES: [&str; 4] = ["content-length", "content-type", "keep-alive", "transfer-encoding"];

/// Listeners that are described.
static PUBLIC: LazyLock<Mutex<HashSet<SocketAddr>>> = LazyLock::new(Mutex::default);

/// Types of the platform's own that a test publishes itself, with data of its own.
static OWN: LazyLock<Mutex<HashSet<&str>>> = LazyLock::new(Mutex::default);

/// A node has these listeners. A port may have been another one's of a node that ended.
pub fn note_listeners(public: SocketAddr, internal: SocketAddr) {
    let mut known = PUBLIC.lock().unwrap_or_else(PoisonError::into_inner);
    known.remove(&internal);
    known.insert(public);
}

/// Whether it is the public listener of a node of this test's.
pub fn is_public(address: SocketAddr) -> bool {
    PUBLIC.lock().unwrap_or_else(PoisonError::into_inner).contains(&address)
}

/// A description, and what checks values by its schemas.
struct Document {
    text: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// What a node with every role and tokens says: a node of fewer says a part of it.
fn served() -> Served {
    Served {
        roles: Roles::of(Role::All),
        tokens: true,
        cookie: Some("session".to_owned()),
        types: BUILT_IN.map(|(name, class)| (name.to_owned(), class)).into(),
        reactions: Vec::new(),
        topics_max: 100,
    }
}

static REQUESTS: LazyLock<Document> = LazyLock::new(|| {
    let mut text = served().openapi();
    // Which there are is up to each test's settings.
    text["components"]["schemas"]["ReactionName"].as_object_mut().expect("an object").remove("enum");
    Document::of(text)
});
static STREAM: LazyLock<Document> = LazyLock::new(|| Document::of(served().asyncapi()));

impl Document {
    fn of(text: Value) -> Document {
        Document { text, validators: Mutex::default() }
    }

    /// What a value is, if it names another place.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|place| place.strip_prefix('#')) {
            Some(place) => self.text.pointer(place).expect("a unit test resolves all"),
            None => value,
        }
    }

    /// Why a value does not fit a schema of the document.
    fn fault(&self, schema: &Value, value: &Value) -> Option<String> {
        let key = schema.to_string();
        let mut known = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = known.entry(key).or_insert_with(|| {
            let whole = json!({"allOf": [schema], "components": self.text["components"]});
            let draft = jsonschema::Draft::Draft202012;
            Arc::new(jsonschema::options().with_draft(draft).build(&whole).expect("a schema"))
        });
        let validator = Arc::clone(validator);
        drop(known);
        let faults: Vec<String> = validator
            .iter_errors(value)
            .map(|fault| format!("{fault} at {:?}", fault.instance_path().as_str()))
            .collect();
        (!faults.is_empty()).then(|| faults.join("; "))
    }

    /// The item of a path, with the parts that its parameters stand for.
    fn find<'a>(&'a self, path: &'a str) -> Option<(&'a Value, HashMap<&'a str, &'a str>)> {
        let fits = |template: &'a str| {
            let (mut named, mut literal) = (HashMap::new(), 0);
            let mut parts = path.split('/');
            for wanted in template.split('/') {
                let part = parts.next()?;
                match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) => drop(named.insert(name, part)),
                    None if wanted == part => literal += 1,
                    None => return None,
                }
            }
            parts.next().is_none().then_some((literal, named))
        };
        let paths = self.text["paths"].as_object().expect("paths");
        let found = paths.iter().filter_map(|(path, item)| fits(path).map(|(literal, named)| (literal, item, named)));
        found.max_by_key(|(literal, ..)| *literal).map(|(_, item, named)| (item, named))
    }
}

/// A request that was sent, as far as it could be read.
#[derive(Debug)]
struct Asked {
    method: String,
    path: String,
    query: String,
    body: Vec<u8>,
}

/// What one connection sent.
#[derive(Default)]
pub struct Sent {
    bytes: Vec<u8>,
    /// What follows cannot be told apart into requests.
    is_lost: bool,
}

impl Sent {
    /// Takes what is sent.
    pub fn take(&mut self, bytes: &[u8]) {
        if !self.is_lost {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next request, which is being answered.
    fn next(&mut self) -> Option<Asked> {
        let asked = self.read();
        self.is_lost |= asked.is_none();
        asked
    }

    fn read(&mut self) -> Option<Asked> {
        if self.is_lost {
            return None;
        }
        while self.bytes.starts_with(b"\r\n") {
            self.bytes.drain(..2);
        }
        let end = head_end(&self.bytes, 0).ok()??;
        let head = self.bytes[..end].to_vec();
        let request = parse(&head).ok()?;
        let mut body = Vec::new();
        let mut at = end;
        match request.body {
            // An answer may come before all of the body was sent.
            BodyLength::Known(length) => {
                at = self.bytes.len().min(end + usize::try_from(length).ok()?);
                body.extend_from_slice(&self.bytes[end..at]);
            }
            BodyLength::Chunked => {
                let mut decoder = Chunked::default();
                loop {
                    match decoder.next(&self.bytes, at).ok()? {
                        Piece::Data(range) => {
                            at = range.end;
                            body.extend_from_slice(&self.bytes[range]);
                        }
                        Piece::More => return None,
                        Piece::End(end) => {
                            at = end;
                            break;
                        }
                    }
                }
            }
        }
        let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next()?).into_owned();
        let (method, target) = line.split_once(' ')?;
        let query = target.split(' ').next()?.split_once('?').map_or("", |(_, query)| query).to_owned();
        let (method, path) = (method.to_owned(), request.path.to_owned());
        self.bytes.drain(..at);
        Some(Asked { method, path, query, body })
    }

    /// Holds an answer, whose body was read unless it is a stream's or a HEAD's, against the description.
    #[track_caller]
    pub fn check(&mut self, answer: &Answer, has_body: bool) {
        if answer.status < 200 {
            return;
        }
        let asked = self.next();
        if let Err(why) = check(asked.as_ref(), answer, has_body) {
            panic!("not as described: {why}\n{asked:?}\n{answer:?} {:?}", String::from_utf8_lossy(&answer.body));
        }
    }
}

/// Notes types of the platform's own that are published with data of the test's own.
pub fn note_published(bytes: &[u8]) {
    // Heads alone, and what is no text.
    if !bytes.ends_with(b"}") && !bytes.ends_with(b"\n") {
        return;
    }
    let text = String::from_utf8_lossy(bytes);
    for (name, _) in BUILT_IN {
        if text.contains(&format!("\"type\":\"{name}\"")) || text.contains(&format!("\"type\": \"{name}\"")) {
            OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        }
    }
}

fn check(asked: Option<&Asked>, answer: &Answer, has_body: bool) -> Result<(), String> {
    let document = &*REQUESTS;
    let problem = json!({"$ref": "#/components/schemas/Problem"});
    // What is wrong is told, whatever was asked.
    if answer.status >= 400 && has_body {
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        let fault = serde_json::from_slice(&answer.body).map_err(|error| error.to_string());
        let fault = fault.map(|body| document.fault(&problem, &body))?;
        if !is_problem || fault.is_some() {
            return Err(format!("a problem: {fault:?}"));
        }
    }
    let Some(asked) = asked else { return Ok(()) };
    let Some((item, in_path)) = document.find(&asked.path) else {
        return if answer.status >= 400 || asked.method == "OPTIONS" { Ok(()) } else { Err("its path".to_owned()) };
    };
    let takes = |method: &str| item.get(method.to_lowercase()).is_some() || method == "OPTIONS";
    let allowed = answer.header("allow").map(|allow| allow.split(", ").collect::<Vec<_>>());
    if let Some(method) =
        allowed.iter().flatten().find(|method| !takes(if **method == "HEAD" { "GET" } else { method }))
    {
        return Err(format!("Allow names {method}"));
    }
    let method = if asked.method == "HEAD" { "GET" } else { &asked.method };
    if method == "OPTIONS" {
        return if allowed.is_some() || answer.status >= 400 { Ok(()) } else { Err("Allow is missing".to_owned()) };
    }
    let Some(operation) = item.get(method.to_lowercase()) else {
        return if answer.status >= 400 { Ok(()) } else { Err("its method".to_owned()) };
    };
    let Some(response) = operation["responses"].get(answer.status.to_string()) else {
        // What all roles take is looked at here, and this node may have another one.
        let is_elsewhere = answer.status == 404 && answer.text().contains("there is nothing at this path");
        return if is_elsewhere { Ok(()) } else { Err("its status".to_owned()) };
    };
    check_answer(document, document.resolve(response), answer, has_body)?;
    if answer.status < 300 { check_request(document, operation, asked, &in_path) } else { Ok(()) }
}

fn check_answer(document: &Document, response: &Value, answer: &Answer, has_body: bool) -> Result<(), String> {
    let headers = response["headers"].as_object();
    let named: BTreeSet<String> = headers.into_iter().flatten().map(|(name, _)| name.to_lowercase()).collect();
    for (name, _) in &answer.headers {
        let is_known = HEADERS_OF_HTTP.contains(&&**name) || HEADERS_OF_BODIES.contains(&&**name);
        if !is_known && !named.contains(name) {
            return Err(format!("its header {name}"));
        }
    }
    for (name, header) in headers.into_iter().flatten() {
        let header = document.resolve(header);
        let given = answer.headers.iter().find(|(given, _)| *given == name.to_lowercase()).map(|(_, value)| value);
        match given {
            None if header["required"] == true => return Err(format!("{name} is missing")),
            None => {}
            Some(text) => {
                if let Some(fault) = document.fault(&header["schema"], &typed(&header["schema"], text)) {
                    return Err(format!("{name}: {fault}"));
                }
            }
        }
    }
    let Some(content) = response["content"].as_object() else {
        return if answer.body.is_empty() { Ok(()) } else { Err("its body, where there is to be none".to_owned()) };
    };
    let content_type = answer.header("content-type").unwrap_or("none");
    let schema = &content.get(content_type).ok_or_else(|| format!("its content type {content_type}"))?["schema"];
    if !has_body || !content_type.ends_with("json") {
        return Ok(());
    }
    let body = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    document.fault(schema, &body).map_or(Ok(()), |fault| Err(format!("its body: {fault}")))?;
    // What a poll and a listing hold is what a stream carries.
    body["events"].as_array().into_iter().flatten().try_for_each(check_event)
}

/// A request that was taken: its parameters and its body.
fn check_request(
    document: &Document,
    operation: &Value,
    asked: &Asked,
    in_path: &HashMap<&str, &str>,
) -> Result<(), String> {
    let mut in_query: HashMap<String, Vec<String>> = HashMap::new();
    for pair in asked.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text| percent_decode(text, true).map(|text| text.into_owned()).map_err(|error| error.detail);
        let name = match &*decode(name)? {
            // As its description says.
            "lastEventId" | "lastEventID" | "Last-Event-ID" => "last_event_id".to_owned(),
            name => name.to_owned(),
        };
        // An empty one is as good as none.
        in_query.entry(name).or_default().extend((!value.is_empty()).then(|| decode(value)).transpose()?);
    }
    in_query.remove("access_token");
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let parameter = document.resolve(parameter);
        let (name, schema) = (parameter["name"].as_str().expect("a name"), document.resolve(&parameter["schema"]));
        let value = match parameter["in"].as_str() {
            Some("path") => {
                let part = in_path.get(name).ok_or("a parameter of its path")?;
                percent_decode(part, false).map(|text| json!(text)).map_err(|error| error.detail)?
            }
            Some("query") => match in_query.remove(name) {
                Some(values) if schema["type"] == "array" => {
                    let lists = parameter["explode"] == false;
                    json!(
                        values.iter().flat_map(|value| value.split(if lists { ',' } else { '\n' })).collect::<Vec<_>>()
                    )
                }
                Some(values) if !values.is_empty() => typed(schema, &values[values.len() - 1]),
                _ if parameter["required"] == true => return Err(format!("{name} is missing")),
                _ => continue,
            },
            _ => continue,
        };
        if let Some(fault) = document.fault(schema, &value) {
            return Err(format!("its parameter {name}: {fault}"));
        }
    }
    if let Some(name) = in_query.keys().next() {
        return Err(format!("its parameter {name}"));
    }
    let body = &operation["requestBody"];
    let Some(schema) = body["content"]["application/json"].get("schema") else { return Ok(()) };
    if asked.body.trim_ascii().is_empty() {
        return if body["required"] == true { Err("its body, which is missing".to_owned()) } else { Ok(()) };
    }
    let value = serde_json::from_slice(&asked.body).map_err(|error| error.to_string())?;
    document.fault(schema, &value).map_or(Ok(()), |fault| Err(format!("its body: {fault}")))
}

/// A text as the value that its schema speaks of.
fn typed(schema: &Value, text: &str) -> Value {
    let number = || text.parse::<u64>().ok().map(Value::from);
    if schema["type"] == "integer" { number() } else { None }.unwrap_or_else(|| text.into())
}

/// Holds an event of a stream, a poll or a listing against the description.
fn check_event(event: &Value) -> Result<(), String> {
    let name = event["type"].as_str().unwrap_or("");
    let schema = match STREAM.text["components"]["messages"].get(name) {
        Some(control) if event.get("id").is_none() => &control["payload"],
        _ => &message_of(name)["payload"],
    };
    STREAM.fault(schema, event).map_or(Ok(()), |fault| Err(format!("{event}: {fault}")))
}

/// What the description says of an event type. Of one that the test publishes itself, with data of its own, only what holds of any.
fn message_of(name: &str) -> &'static Value {
    static ANY: LazyLock<Value> = LazyLock::new(|| json!({"payload": {"$ref": "#/components/schemas/Event"}}));
    let is_own = OWN.lock().unwrap_or_else(PoisonError::into_inner).contains(name);
    let messages = &STREAM.text["components"]["messages"];
    if is_own { &ANY } else { messages.get(format!("event.{name}")).unwrap_or(&messages["event"]) }
}

/// Holds a message of a stream against the description: its fields but `data`, and the JSON of that.
#[track_caller]
pub fn check_message(fields: &Value, data: &str) {
    // Updates of Mercure's protocol are any text, under ids that no other stream has; snapshots are the internal listener's.
    if fields["id"].as_str().is_some_and(|id| id.contains('#')) || fields["event"] == "snapshot" {
        return;
    }
    let payload: Value = serde_json::from_str(data).unwrap_or_else(|error| panic!("{error} in {data:?}"));
    let message = match fields["event"].as_str() {
        Some(name) => STREAM.text["components"]["messages"].get(name).expect("a control event that is described"),
        None => message_of(payload["type"].as_str().unwrap_or("")),
    };
    for (schema, value) in [(message.get("headers"), fields), (message.get("payload"), &payload)] {
        if let Some(fault) = schema.and_then(|schema| STREAM.fault(schema, value)) {
            panic!("not as described: {fault}\n{fields} {data}");
        }
    }
}
