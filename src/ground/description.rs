//! What a node says of its own interface, for people and for tools: its requests as OpenAPI 3.1, its stream as AsyncAPI 3.
//!
//! What each request is for stands in `description/openapi.json`, what requests share in `components.json`, and what streams
//! carry in `asyncapi.json`, as those formats have it. All that follows from the route table, from event types and from settings
//! is added here, so that nobody writes it twice: which of the requests the node serves, with which parameters; who may be
//! refused; the statuses that any request may get; bounds, which are written there by their names in `limits`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::ground::node::Roles;
use crate::ground::resources::{Resource, Takes};
use crate::limits::*;
use crate::settings::{Auth, Settings};
use crate::web;
use crate::wire::event::{Class, is_type};
use crate::wire::mercure;
use crate::wire::query::Parameter;
use crate::wire::status::Status;

static OPENAPI: LazyLock<Value> = LazyLock::new(|| read(include_str!("description/openapi.json")));
static COMPONENTS: LazyLock<Value> = LazyLock::new(|| read(include_str!("description/components.json")));
static ASYNCAPI: LazyLock<Value> = LazyLock::new(|| read(include_str!("description/asyncapi.json")));

/// Both descriptions, which are made when somebody asks first: few nodes are asked, and it takes memory.
pub type Descriptions = LazyLock<[Text; 2], Box<dyn FnOnce() -> [Text; 2] + Send>>;

/// What any request may get, beside its own answers and, with tokens, 401.
const COMMON: [Status; 12] = [
    Status::BadRequest,
    Status::Forbidden,
    Status::MethodNotAllowed,
    Status::RequestTimeout,
    Status::ContentTooLarge,
    Status::UnsupportedMediaType,
    Status::ExpectationFailed,
    Status::TooManyRequests,
    Status::RequestHeaderFieldsTooLarge,
    Status::NotImplemented,
    Status::ServiceUnavailable,
    Status::HttpVersionNotSupported,
];

macro_rules! bounds {
    ($($name:ident)*) => { [$((stringify!($name), $name as u64)),*] };
}

/// What stands in the texts by its name.
const BOUNDS: [(&str, u64); 34] = bounds! {
    BODY_BYTES_MAX EVENT_BYTES_MAX HEAD_BYTES_MAX HEADERS_MAX ID_BYTES_MAX JSON_DEPTH_MAX JTI_BYTES_MAX KEY_BYTES_MAX NAME_BYTES_MAX
    ONCE_KEY_BYTES_MAX PAST_DEFAULT PAST_MAX POSTS_PAGE_DEFAULT POSTS_PAGE_MAX PRESENCE_NAMES_MAX PRESENT_DEFAULT PRESENT_MAX
    PRESENT_NAMES_MAX RECEIVED_SAMPLES_MAX REJECTED_LISTED_MAX REQUEST_ID_BYTES_MAX SLOW_SECONDS_MAX SUM_MEMBERS_MAX TAPS_MAX
    PREFIXES_PER_CONNECTION_MAX PREFIX_LEVELS_MAX TEXT_BYTES_MAX TIMEOUT_SECONDS_MAX TOPICS_PER_CONNECTION_MAX TOPIC_BYTES_MAX TOPIC_BYTES_MIN TYPE_BYTES_MAX
    UPDATE_TOPIC_BYTES_MAX UPDATE_TOPICS_MAX
};

/// A description, as it is served.
#[derive(Debug)]
pub struct Text {
    /// JSON, of some 50 KiB.
    pub body: Vec<u8>,
    /// A strong entity tag in its quotes.
    pub etag: String,
}

impl Text {
    fn of(document: &Value) -> Text {
        let body = document.to_string().into_bytes();
        Text { etag: String::from_utf8_lossy(&web::etag(&body)).into_owned(), body }
    }
}

/// What a node serves, as far as that is up to its role and settings.
#[derive(Debug, Clone)]
pub struct Served {
    /// What it does.
    pub roles: Roles,
    /// Whether requests need tokens.
    pub tokens: bool,
    /// The cookie that may carry one.
    pub cookie: Option<String>,
    /// Event types that have a class of their own.
    pub types: Vec<(String, Class)>,
    /// Reactions that can be stored.
    pub reactions: Vec<String>,
    /// Topics of one stream.
    pub topics_max: usize,
}

impl Served {
    /// By these settings.
    pub fn of(settings: &Settings) -> Served {
        let (tokens, cookie) = match &settings.auth {
            Auth::None => (false, None),
            Auth::Jwt { cookie, .. } => (true, cookie.clone()),
        };
        Served {
            roles: Roles::of(settings.role),
            tokens,
            cookie,
            // Of other names no event can be published.
            types: settings
                .events
                .iter()
                .filter(|(name, _)| is_type(name))
                .map(|(name, event)| (name.clone(), event.class))
                .collect(),
            reactions: settings.reactions.clone(),
            topics_max: settings.most.topics,
        }
    }

    /// Both descriptions: `/openapi.json`, `/asyncapi.json`.
    pub fn descriptions(self) -> Descriptions {
        LazyLock::new(Box::new(move || [Text::of(&self.openapi()), Text::of(&self.asyncapi())]))
    }

    /// The requests of the public listener.
    pub fn openapi(&self) -> Value {
        let mut document = OPENAPI.clone();
        document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
        let mut paths = Map::new();
        for (path, item) in fields(&OPENAPI["paths"]) {
            let concrete = concrete(path);
            let Some(resource) = Resource::find(self.roles, false, &concrete) else { continue };
            let taken = resource.takes(self.roles, false).iter();
            let operations: Map<_, _> = taken
                .filter_map(|takes| Some((takes.0.name().to_lowercase(), self.operation(path, takes, item)?)))
                .collect();
            paths.insert(path.clone(), operations.into());
        }
        document["paths"] = paths.into();
        document["components"] = self.components();
        if self.tokens {
            let mut schemes = json!({
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "query": {"type": "apiKey", "in": "query", "name": "access_token", "description": "For where no header can be sent."},
            });
            if let Some(name) = &self.cookie {
                let description = "Only with an allowed `Origin`.";
                schemes["cookie"] = json!({"type": "apiKey", "in": "cookie", "name": name, "description": description});
            }
            document["security"] = fields(&schemes).keys().map(|name| json!({name: []})).collect();
            document["components"]["securitySchemes"] = schemes;
        }
        if !self.tokens {
            document["components"]["schemas"]["Member"]["type"] = "string".into();
            require_members(&mut document);
        }
        keep_used(&mut document);
        document
    }

    /// A request, by what is written of it and what its route knows; none if nothing is written.
    fn operation(&self, path: &str, (method, known): &Takes, item: &Value) -> Option<Value> {
        let mut operation = item.get(method.name().to_lowercase())?.clone();
        let given: Vec<Value> = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = path.split('/').filter_map(name_in_path).map(|name| format!("path.{name}"));
        let is_given = |name: &str| given.iter().any(|given| given["name"] == name);
        let in_query = known.iter().filter(|parameter| **parameter != Parameter::AccessToken).map(|known| known.name());
        let in_query = in_query.filter(|name| !is_given(name)).map(|name| format!("query.{name}"));
        let named = in_path.chain(in_query).chain(["header.X-Request-Id".to_owned()]);
        let named = named.map(|name| json!({"$ref": format!("#/components/parameters/{name}")}));
        operation["parameters"] = named.chain(given.iter().cloned()).collect();
        let is_open = !known.contains(&Parameter::AccessToken) || operation.get("security").is_some();
        if is_open {
            operation["security"] = json!([]);
        }
        let responses = operation["responses"].as_object_mut().expect("each has some");
        responses.iter_mut().for_each(|(status, response)| add_headers(status, response));
        let refused = (self.tokens && !is_open).then_some(Status::Unauthorized);
        for status in COMMON.into_iter().chain(refused) {
            let status = status.code().to_string();
            responses.entry(&status).or_insert_with(|| json!({"$ref": format!("#/components/responses/{status}")}));
        }
        Some(operation)
    }

    /// What requests share.
    fn components(&self) -> Value {
        let mut components = COMPONENTS.clone();
        let responses = components["responses"].as_object_mut().expect("an object");
        for (name, response) in responses {
            if name.parse().is_ok_and(|status: u16| status >= 400) {
                response["content"] =
                    json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
            }
            add_headers(name, response);
        }
        let reaction = &mut components["schemas"]["ReactionName"];
        reaction["enum"] = json!(self.reactions);
        if !self.reactions.iter().any(|name| *name == reaction["default"]) {
            reaction.as_object_mut().expect("an object").remove("default");
        }
        components["parameters"]["query.topic"]["schema"]["maxItems"] = self.topics_max.into();
        components
    }

    /// The stream of the public listener.
    pub fn asyncapi(&self) -> Value {
        let mut document = ASYNCAPI.clone();
        document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
        let types = document["types"].take();
        let root = document.as_object_mut().expect("an object");
        root.remove("types");
        if !self.roles.frontend {
            for part in ["channels", "operations", "components"] {
                root.remove(part);
            }
            return document;
        }
        let messages = &mut document["components"]["messages"];
        // Updates of Mercure's protocol have streams of their own.
        let shown = || self.types.iter().filter(|(name, _)| name != mercure::TYPE);
        for (name, class) in shown() {
            messages[format!("event.{name}")] = message(name, *class, types.get(name));
        }
        let known: Vec<&str> = shown().map(|(name, _)| name.as_str()).collect();
        messages["event"] = json!({
            "summary": "An event of any other type, of class `ephemeral`.",
            "payload": {"allOf": [{"$ref": "#/components/schemas/Event"}, {"properties": {"type": {"not": {"enum": known}}}}]},
        });
        let named = fields(messages)
            .keys()
            .map(|name| (name.clone(), json!({"$ref": format!("#/components/messages/{name}")})));
        document["channels"]["events"]["messages"] = named.collect();
        let mut shared = self.components();
        let (_, known) = Resource::Poll.takes(self.roles, false)[0];
        let query = known.iter().filter_map(|known| {
            Some((known.name().to_owned(), shared["parameters"].get(format!("query.{}", known.name()))?))
        });
        let query = query.map(|(name, parameter)| {
            (name, json!({"allOf": [parameter["schema"]], "description": parameter["description"]}))
        });
        let operation = &mut document["operations"]["stream"];
        operation["bindings"]["http"]["query"]["properties"] = query.collect();
        if self.tokens {
            let key = |place, name| json!({"type": "httpApiKey", "in": place, "name": name});
            let mut schemes = json!({
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "query": key("query", "access_token"),
            });
            if let Some(name) = &self.cookie {
                schemes["cookie"] = key("cookie", name);
            }
            let named =
                fields(&schemes).keys().map(|name| json!({"$ref": format!("#/components/securitySchemes/{name}")}));
            operation["security"] = named.collect();
            document["components"]["securitySchemes"] = schemes;
        }
        let schemas = shared["schemas"].as_object_mut().expect("an object");
        document["components"]["schemas"].as_object_mut().expect("an object").append(schemas);
        keep_used(&mut document);
        document
    }
}

/// An event type's message.
fn message(name: &str, class: Class, written: Option<&Value>) -> Value {
    let (mut properties, mut example) = (json!({"type": {"const": name}}), json!({"topic": "live:42", "data": {}}));
    let mut summary = "A type of this node's settings.";
    if let Some(written) = written {
        properties["data"] = written["data"].clone();
        example = written["example"].clone();
        summary = written["summary"].as_str().expect("a text");
    }
    (example["id"], example["type"], example["at"]) = ("1-0123abcd".into(), name.into(), 1_795_409_586_731_u64.into());
    let (mut headers, mut fields_of_class) = (json!({}), json!([]));
    match class {
        Class::Sum => {
            fields_of_class = json!(["count"]);
            example["count"] = 1.into();
        }
        Class::Every => headers = json!({"id": "local:1795409586602-1"}),
        Class::Latest | Class::Ephemeral => {}
    }
    let places: Vec<_> = fields(&headers).keys().collect();
    json!({
        "name": name,
        "title": name,
        "summary": format!("{summary} Class `{}`.", class.name()),
        "headers": {"type": "object", "required": places, "properties": {"id": {"description": "The event's place in history: where to go on.", "type": "string"}}},
        "payload": {"allOf": [{"$ref": "#/components/schemas/Event"}, {"type": "object", "required": fields_of_class, "properties": properties}]},
        "examples": [{"headers": headers, "payload": example}],
    })
}

/// A text with all bounds that it names.
fn read(text: &str) -> Value {
    fn fill(value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some((_, bound)) = BOUNDS.iter().find(|(name, _)| text == name) {
                    *value = (*bound).into();
                } else if text.contains("_MAX") {
                    // A name may end as another one does.
                    let mut words: Vec<_> = BOUNDS.to_vec();
                    words.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
                    for (name, bound) in words {
                        *text = text.replace(name, &bound.to_string());
                    }
                }
            }
            Value::Array(list) => list.iter_mut().for_each(fill),
            Value::Object(fields) => fields.values_mut().for_each(fill),
            _ => {}
        }
    }
    let mut document = serde_json::from_str(text).expect("a test reads it");
    fill(&mut document);
    document
}

/// The fields of what is an object.
fn fields(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

/// The name of a parameter that is a part of a path.
fn name_in_path(part: &str) -> Option<&str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

/// A path that a template stands for, by its parameters' examples.
fn concrete(path: &str) -> String {
    let example = |name| COMPONENTS["parameters"][format!("path.{name}")]["example"].as_str();
    let parts = path.split('/').map(|part| name_in_path(part).map_or(part, |name| example(name).unwrap_or(part)));
    parts.collect::<Vec<_>>().join("/")
}

/// The headers that each answer has.
fn add_headers(status: &str, response: &mut Value) {
    if response.get("$ref").is_none() {
        response["headers"]["X-Request-Id"] = json!({"$ref": "#/components/headers/X-Request-Id"});
        if status != "204" {
            response["headers"]["Cache-Control"] = json!({"$ref": "#/components/headers/Cache-Control"});
        }
    }
}

/// Where no token says who does something, whoever asks must.
fn require_members(value: &mut Value) {
    if value["properties"]["member"]["$ref"] == "#/components/schemas/Member" {
        let mut required = value["required"].as_array().cloned().unwrap_or_default();
        required.push("member".into());
        value["required"] = required.into();
    }
    match value {
        Value::Object(fields) => fields.values_mut().for_each(require_members),
        Value::Array(list) => list.iter_mut().for_each(require_members),
        _ => {}
    }
}

/// Leaves out components that nothing names.
fn keep_used(document: &mut Value) {
    fn refs<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
                Value::String(text) if name == "$ref" => found.push(text),
                value => refs(value, found),
            }),
            Value::Array(list) => list.iter().for_each(|value| refs(value, found)),
            _ => {}
        }
    }
    let mut components = document["components"].take();
    let (mut used, mut left) = (BTreeSet::new(), Vec::new());
    refs(document, &mut left);
    while let Some(name) = left.pop() {
        if used.insert(name.to_owned()) {
            let place = name.strip_prefix("#/components").and_then(|place| components.pointer(place));
            place.into_iter().for_each(|component| refs(component, &mut left));
        }
    }
    for (kind, components) in components.as_object_mut().expect("an object") {
        if kind != "securitySchemes" {
            let components = components.as_object_mut().expect("an object");
            components.retain(|name, _| used.contains(&format!("#/components/{kind}/{name}")));
        }
    }
    document["components"] = components;
}

#[cfg(test)]
mod tests;
