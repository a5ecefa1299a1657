//! What receivers of hooks are sent: types, bodies, and the signature of Standard Webhooks, by which a receiver knows who sent it.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD as PADDED};
use ring::hmac;

use crate::limits::HOOK_KEY_BYTES;
use crate::wire::json::push_string;

/// What a hook may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookEvent {
    /// A member came online.
    MemberOnline,
    /// A member went offline.
    MemberOffline,
    /// A topic has its first viewer.
    TopicOccupied,
    /// A topic's last viewer left.
    TopicVacated,
    /// A comment was stored.
    CommentPosted,
    /// Somebody was refused since they are over a limit.
    LimitExceeded,
}

impl HookEvent {
    /// All of them, in the order of their numbers.
    pub const ALL: [HookEvent; 6] = [
        HookEvent::MemberOnline,
        HookEvent::MemberOffline,
        HookEvent::TopicOccupied,
        HookEvent::TopicVacated,
        HookEvent::CommentPosted,
        HookEvent::LimitExceeded,
    ];

    /// Its name in settings and bodies.
    pub fn name(self) -> &'static str {
        match self {
            HookEvent::MemberOnline => "member.online",
            HookEvent::MemberOffline => "member.offline",
            HookEvent::TopicOccupied => "topic.occupied",
            HookEvent::TopicVacated => "topic.vacated",
            HookEvent::CommentPosted => "comment.posted",
            HookEvent::LimitExceeded => "limit.exceeded",
        }
    }

    /// As databases hold it.
    pub fn number(self) -> i16 {
        self as i16
    }

    /// The one of this number.
    pub fn of(number: i16) -> Option<HookEvent> {
        HookEvent::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

impl fmt::Display for HookEvent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// The text names nothing that a hook may be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownHookEvent;

impl FromStr for HookEvent {
    type Err = UnknownHookEvent;

    fn from_str(text: &str) -> Result<HookEvent, UnknownHookEvent> {
        HookEvent::ALL.into_iter().find(|event| event.name() == text).ok_or(UnknownHookEvent)
    }
}

/// The body of a delivery. It is the same however often it is sent. `at` is in Unix ms, `data` is JSON.
pub fn body(event: HookEvent, sequence: u64, subject: &str, at: u64, data: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(data.len() + subject.len() + 128);
    body.extend_from_slice(b"{\"type\":");
    push_string(&mut body, event.name());
    body.extend_from_slice(b",\"timestamp\":");
    push_string(&mut body, &timestamp(at));
    body.extend_from_slice(format!(",\"sequence\":{sequence},\"subject\":").as_bytes());
    push_string(&mut body, subject);
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(data.as_bytes());
    body.push(b'}');
    body
}

/// A time as ISO 8601 has it, in UTC; the last that it can say for those beyond.
fn timestamp(ms: u64) -> String {
    const LAST: u64 = 253_402_300_799_999;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms.min(LAST));
    humantime::format_rfc3339_millis(time).to_string()
}

/// A key that bodies are signed by.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// How a secret of Standard Webhooks begins.
const PREFIX: &str = "whsec_";

/// As its own libraries read secrets: with padding or without.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl SigningKey {
    /// The key that a secret, `whsec_` and base64, stands for.
    ///
    /// # Errors
    /// Says what is wrong, without showing any of it.
    pub fn parse(secret: &str) -> Result<SigningKey, String> {
        let text = secret.strip_prefix(PREFIX).ok_or(format!("the secret does not begin with {PREFIX}"))?;
        let key = LENIENT.decode(text).map_err(|_| format!("what follows {PREFIX} is no base64"))?;
        if !HOOK_KEY_BYTES.contains(&key.len()) {
            let (least, most) = (HOOK_KEY_BYTES.start(), HOOK_KEY_BYTES.end());
            return Err(format!("its key has {} bytes, and not {least} to {most}", key.len()));
        }
        Ok(SigningKey(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The signature of a delivery: what the header `webhook-signature` holds, once for each key. `seconds` is the Unix time of
    /// this try.
    pub fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let mut signed = hmac::Context::with_key(&self.0);
        signed.update(format!("{id}.{seconds}.").as_bytes());
        signed.update(body);
        format!("v1,{}", PADDED.encode(signed.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_signs_as_the_published_example_does() {
        let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_will_not_do_says_why_and_not_what_it_is() {
        for (secret, says) in [
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begin with whsec_"),
            ("whsec_not base64!", "no base64"),
            ("whsec_c2hvcnQ=", "5 bytes, and not 24 to 64"),
        ] {
            let error = SigningKey::parse(secret).unwrap_err();
            assert!(error.contains(says) && !error.contains("LaSw") && !error.contains("c2hv"), "{error}");
        }
        assert!(SigningKey::parse(&format!("whsec_{}", "A".repeat(32))).is_ok());
        assert!(SigningKey::parse(&format!("whsec_{}", "A".repeat(43))).is_ok(), "without padding");
    }

    #[test]
    fn names_and_numbers_lead_back() {
        for (number, event) in HookEvent::ALL.into_iter().enumerate() {
            assert_eq!((event.name().parse(), HookEvent::of(number as i16)), (Ok(event), Some(event)));
            assert_eq!(usize::try_from(event.number()), Ok(number));
        }
        assert_eq!(("member.on".parse::<HookEvent>(), HookEvent::of(-1)), (Err(UnknownHookEvent), None));
    }

    proptest! {
        /// Whatever it is about, a body is JSON that says so; and whatever changes on its way, the signature is another.
        #[test]
        fn bodies_say_what_they_are_given_and_nothing_changes_unseen(
            subject in "\\PC{0,40}", sequence in any::<u64>(), at in any::<u64>(), text in "\\PC{0,40}", flip in any::<prop::sample::Index>(),
        ) {
            let data = serde_json::json!({"text": text}).to_string();
            let body = body(HookEvent::CommentPosted, sequence, &subject, at, &data);
            let said: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(said["sequence"].as_u64(), Some(sequence));
            prop_assert_eq!(said["subject"].as_str(), Some(&*subject));
            prop_assert_eq!(said["data"]["text"].as_str(), Some(&*text));
            prop_assert_eq!(said["type"].as_str(), Some("comment.posted"));
            let key = SigningKey::parse(&format!("whsec_{}", "b".repeat(32))).unwrap();
            let mut other = body.clone();
            other[flip.index(body.len())] ^= 1;
            prop_assert_ne!(key.sign("a", 1, &body), key.sign("a", 1, &other));
            prop_assert_ne!(key.sign("a", 1, &body), key.sign("a", 2, &body));
            prop_assert_ne!(key.sign("a", 1, &body), key.sign("b", 1, &body));
        }
    }
}
