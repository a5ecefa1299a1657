//! The description against the route table, types and settings that it is made from.

use super::*;
use crate::ground::resources::PATHS;
use crate::wire::types::BUILT_IN;
use std::collections::BTreeMap;

const ALL: Roles = Roles { frontend: true, dispatcher: true, backend: true, demo: true };

fn served(roles: Roles, tokens: bool) -> Served {
    Served {
        roles,
        tokens,
        cookie: tokens.then(|| "fanfare".to_owned()),
        types: BUILT_IN.map(|(name, class)| (name.to_owned(), class)).into(),
        reactions: vec!["love".to_owned()],
        topics_max: 7,
    }
}

fn all_served() -> Vec<Served> {
    let roles = [crate::settings::Role::All, crate::settings::Role::Frontend, crate::settings::Role::Dispatcher];
    let roles = roles.into_iter().chain([crate::settings::Role::Backend]).map(Roles::of);
    roles.flat_map(|roles| [served(roles, false), served(roles, true)]).collect()
}

/// Each text in a document, and the name of the field that it stands in.
fn texts(value: &Value, field: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| texts(value, name, found)),
        Value::Array(list) => list.iter().for_each(|value| texts(value, field, found)),
        Value::String(text) => found.push((field.to_owned(), text.clone())),
        _ => {}
    }
}

#[test]
fn what_a_route_takes_is_described_and_nothing_else() {
    let mut written = BTreeSet::new();
    for (path, item) in fields(&OPENAPI["paths"]) {
        written.extend(fields(item).keys().map(|method| (path.as_str(), method.to_uppercase())));
    }
    let of_the_page = ["/", "/{file}", "/fanfare/{module}"].map(|path| (path, false));
    let mut taken = BTreeSet::new();
    for (path, _) in PATHS.iter().copied().chain(of_the_page).filter(|(_, internal)| !internal) {
        let concrete = concrete(path);
        let resource = Resource::find(ALL, false, &concrete).expect(path);
        taken.extend(resource.takes(ALL, false).iter().map(|(method, _)| (path, method.name().to_owned())));
    }
    assert_eq!(written, taken, "left: described, right: in the route table");
}

#[test]
fn a_parameter_that_is_written_with_its_request_is_one_that_its_route_knows() {
    for (path, item) in fields(&OPENAPI["paths"]) {
        let concrete = concrete(path);
        for (method, known) in Resource::find(ALL, false, &concrete).expect(path).takes(ALL, false) {
            let given = item[method.name().to_lowercase()]["parameters"].as_array().cloned().unwrap_or_default();
            for parameter in given.iter().filter(|parameter| parameter["in"] == "query") {
                assert!(known.iter().any(|known| parameter["name"] == known.name()), "{path} {parameter}");
            }
        }
    }
}

#[test]
fn every_type_of_the_platform_has_a_payload() {
    let written: BTreeSet<&str> = fields(&ASYNCAPI["types"]).keys().map(String::as_str).collect();
    let shown = BUILT_IN.map(|(name, _)| name).into_iter().filter(|name| *name != mercure::TYPE);
    assert_eq!(written, shown.collect());
}

#[test]
fn documents_name_nothing_that_is_not_there() {
    for served in all_served() {
        for document in [served.openapi(), served.asyncapi()] {
            let (mut found, mut ids) = (Vec::new(), BTreeMap::<_, usize>::new());
            texts(&document, "", &mut found);
            for (field, text) in &found {
                if field == "$ref" {
                    let place = text.strip_prefix('#').expect("it is in the same document");
                    assert!(document.pointer(place).is_some(), "{text} of {served:?}");
                }
                if field == "operationId" {
                    *ids.entry(text).or_default() += 1;
                }
                assert!(!["_MAX", "_MIN", "_DEFAULT"].iter().any(|end| text.contains(end)), "no bound: {text}");
            }
            assert!(ids.values().all(|count| *count == 1), "{ids:?}");
        }
    }
}

#[test]
fn a_role_describes_what_it_serves() {
    let [all, frontend, dispatcher, backend] = ["all", "frontend", "dispatcher", "backend"].map(|name| {
        let role = |roles: &Roles| roles.names().len() == 3 || roles.names() == [name];
        let mut served = all_served().into_iter().filter(|served| role(&served.roles));
        let served = if name == "all" { served.next() } else { served.nth(2) }.expect(name);
        (served.openapi(), served.asyncapi())
    });
    let takes = |document: &Value, path: &str, method: &str| document["paths"][path].get(method).is_some();
    assert!(takes(&all.0, "/v1/events", "get") && takes(&all.0, "/v1/events", "post") && takes(&all.0, "/", "get"));
    assert!(takes(&frontend.0, "/v1/events", "get") && !takes(&frontend.0, "/v1/events", "post"));
    assert!(!takes(&dispatcher.0, "/v1/events", "get") && takes(&dispatcher.0, "/v1/events", "post"));
    assert!(takes(&backend.0, "/v1/videos/{video}/likes", "post") && !takes(&backend.0, "/v1/events", "post"));
    assert!(!takes(&frontend.0, "/v1/videos/{video}/likes", "post") && !takes(&frontend.0, "/", "get"));
    for (requests, _) in [&all, &frontend, &dispatcher, &backend] {
        assert!(takes(requests, "/openapi.json", "get") && takes(requests, "/asyncapi.json", "get"));
    }
    assert!(frontend.1["channels"]["events"]["messages"].get("event.like").is_some());
    assert!(backend.1.get("channels").is_none() && dispatcher.1.get("channels").is_none());
    assert!(backend.0["components"]["schemas"].get("Poll").is_none(), "only what it serves");
}

#[test]
fn settings_show() {
    let (open, tokens) = (served(ALL, false), served(ALL, true));
    let types = vec![("score".to_owned(), Class::Every), ("like".to_owned(), Class::Latest)];
    let stream = Served { types, ..open.clone() }.asyncapi();
    let messages = &stream["components"]["messages"];
    assert_eq!(messages["event.score"]["headers"]["required"], json!(["id"]));
    assert_eq!(messages["event.like"]["payload"]["allOf"][1]["required"], json!([]));
    let (open, tokens) = (open.openapi(), tokens.openapi());
    assert_eq!(open["components"]["schemas"]["ReactionName"]["enum"], json!(["love"]));
    assert!(open["components"]["schemas"]["ReactionName"].get("default").is_none());
    assert_eq!(open["components"]["parameters"]["query.topic"]["schema"]["maxItems"], 7);
    let member = |document: &Value| document["components"]["schemas"]["NewPost"]["required"].clone();
    assert_eq!((member(&open), member(&tokens)), (json!(["text", "member"]), json!(["text"])));
    assert!(open.get("security").is_none() && open["paths"]["/v1/poll"]["get"]["responses"].get("401").is_none());
    assert_eq!(tokens["components"]["securitySchemes"]["cookie"]["name"], "fanfare");
    assert!(tokens["paths"]["/v1/poll"]["get"]["responses"].get("401").is_some());
    for path in ["/v1/time", "/openapi.json", "/"] {
        assert_eq!(tokens["paths"][path]["get"]["security"], json!([]), "{path}");
        assert!(tokens["paths"][path]["get"]["responses"].get("401").is_none(), "{path}");
    }
}
