//! Hooks: URLs of the operator's own that are told of what happens, each in a table `[[hooks]]` of the file.

use super::layers::{Fault, Layers, Raw, fault};
use super::values::{is_loopback_url, secret};
use super::{Secret, SettingsError, Url};
use crate::limits::{HOOK_URL_BYTES_MAX, HOOKS_MAX};
use crate::wire::hooks::{HookEvent, SigningKey, UnknownHookEvent};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The keys of a table `[[hooks]]`, and what each is to be given.
pub(super) const HOOK_KEYS: [(&str, &str); 3] = [
    ("url", "give a URL such as \"https://app.example/fanfare\""),
    ("events", "give an array such as [\"member.online\", \"member.offline\"]"),
    ("secret_file", "give the path of a file that holds a secret, whsec_ and base64"),
];

/// The setting by which plain HTTP is allowed beyond this box.
const INSECURE: &str = "hook_insecure";

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What is sent goes here.
    pub url: Url,
    /// What it is told of, at least one.
    pub events: Vec<HookEvent>,
    /// What is sent is signed by this, and by the one before it while there is one.
    pub secret: Secret,
}

impl Hook {
    /// By which databases know it: a hook with another URL is another hook.
    pub fn key(&self) -> Arc<str> {
        let digest = Sha256::digest(self.url.as_str());
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
    }
}

/// All hooks, in the order of the file.
pub(super) fn resolve(layers: &Layers, insecure: bool) -> Result<Vec<Hook>, SettingsError> {
    let mut hooks: Vec<Hook> = Vec::new();
    for (at, given) in layers.hooks.iter().enumerate() {
        let hook = one(given, insecure)?;
        let refuse = |problem: &str, remedy: &str| {
            let fault = Fault { problem: problem.to_owned(), remedy: remedy.to_owned() };
            given["url"].origin.refuse("hooks.url", hook.url.as_str(), fault)
        };
        if hooks.iter().any(|other| other.url == hook.url) {
            return Err(refuse("given twice", "give each URL once, with all its events"));
        }
        if at >= HOOKS_MAX {
            return Err(refuse("too many hooks", &format!("give at most {HOOKS_MAX}")));
        }
        hooks.push(hook);
    }
    Ok(hooks)
}

fn one(given: &BTreeMap<&'static str, Raw>, insecure: bool) -> Result<Hook, SettingsError> {
    let get = |key: &'static str| {
        given.get(key).ok_or_else(|| {
            let remedy = HOOK_KEYS.iter().find(|(name, _)| *name == key).map_or("", |(_, remedy)| remedy);
            let line = given.values().next().map_or(String::new(), |raw| format!(" ({})", raw.origin));
            SettingsError::missing(&format!("hooks.{key}"), &format!("a table [[hooks]]{line} needs it"), remedy)
        })
    };
    let invalid = |key: &str, raw: &Raw, text: &str, fault| raw.origin.refuse(format!("hooks.{key}"), text, fault);
    let raw = get("url")?;
    let text = raw.values.concat();
    let url = url(&text, insecure).map_err(|fault| invalid("url", raw, &text, fault))?;
    let raw = get("events")?;
    let mut events = Vec::new();
    for text in &raw.values {
        let event = event(text, &events).map_err(|fault| invalid("events", raw, text, fault))?;
        events.push(event);
    }
    if events.is_empty() {
        let remedy = format!("give one or more of {}", names());
        return Err(invalid("events", raw, "", Fault { problem: "no event".to_owned(), remedy }));
    }
    let raw = get("secret_file")?;
    let text = raw.values.concat();
    let secret = signing_secret(&text).map_err(|fault| invalid("secret_file", raw, &text, fault))?;
    Ok(Hook { url, events, secret })
}

/// A file with a secret that is good for signing.
pub(super) fn signing_secret(path: &str) -> Result<Secret, Fault> {
    const REMEDY: &str =
        "give a file with whsec_ and what `openssl rand -base64 32` prints, and perhaps the previous one below";
    let secret = secret(path)?;
    keys(&secret).map(|_| secret).or_else(|problem| fault(problem, REMEDY))
}

/// The server that is asked who may do what.
pub(super) fn authorize(text: &str) -> Result<Url, Fault> {
    url(text, true).map_err(|fault| Fault {
        remedy: fault.remedy.replace(HOOK_KEYS[0].1, "give a URL such as https://app.example/fanfare/authorize"),
        ..fault
    })
}

/// The keys that a secret and the one before it stand for.
///
/// # Errors
/// What is wrong with one, without showing it.
pub fn keys(secret: &Secret) -> Result<Vec<SigningKey>, String> {
    [Some(secret.expose()), secret.previous()].into_iter().flatten().map(SigningKey::parse).collect()
}

fn names() -> String {
    HookEvent::ALL.map(HookEvent::name).join(", ")
}

fn event(text: &str, before: &[HookEvent]) -> Result<HookEvent, Fault> {
    match text.parse() {
        Ok(event) if before.contains(&event) => fault("given twice", "give it once"),
        Ok(event) => Ok(event),
        Err(UnknownHookEvent) => fault("nothing that a hook is told of", format!("give one or more of {}", names())),
    }
}

fn url(text: &str, insecure: bool) -> Result<Url, Fault> {
    let remedy = HOOK_KEYS[0].1;
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => url,
        Ok(_) => return fault("no http:// or https:// URL", remedy),
        Err(error) => return fault(error.to_string(), remedy),
    };
    if url.as_str().len() > HOOK_URL_BYTES_MAX {
        return fault("too long", format!("give at most {HOOK_URL_BYTES_MAX} bytes"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return fault("it names a user", "leave that out; the receiver knows who sends by the signature");
    }
    if url.fragment().is_some() {
        return fault("it has a fragment, which no receiver sees", "leave out what follows #");
    }
    if url.scheme() == "http" && !is_loopback_url(&url) && !insecure {
        return fault(
            "it would send who is online, and what is written, in the clear",
            format!("give an https:// URL, or {INSECURE} = true if the way there is safe"),
        );
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_rules() {
        for (text, says) in [
            ("ftp://a", "no http://"),
            ("/hooks", "relative"),
            ("http://10.0.0.5/x", "in the clear"),
            ("https://ana:pw@a.example/", "names a user"),
            ("https://a.example/#x", "fragment"),
            (&format!("https://a.example/{}", "x".repeat(HOOK_URL_BYTES_MAX)), "too long"),
        ] {
            let fault = url(text, false).unwrap_err();
            assert!(fault.problem.contains(says), "{text}: {fault:?}");
        }
        for text in ["http://127.0.0.1:1/x?y", "http://localhost/", "http://[::1]/", "https://a.example/x"] {
            assert!(url(text, false).is_ok(), "{text}");
        }
        assert!(url("http://10.0.0.5/x", true).is_ok());
    }
}
