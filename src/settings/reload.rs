//! Settings read again while a node runs: what of the new ones can hold at once, and what waits for a restart.

use super::layers::{Layers, Raw};
use super::listing::LISTING;
use super::{Flags, Settings, SettingsError, validate};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

/// What reading the settings again came to.
#[derive(Debug)]
pub struct Reloaded {
    /// What holds from now on: of what needs a restart still the old.
    pub settings: Settings,
    /// What changed and holds, by name, such as `max_topics` or `events.wave`.
    pub taken: Vec<String>,
    /// What changed and waits for a restart.
    pub waiting: Vec<&'static str>,
}

impl Settings {
    /// Reads them again, from where they came from.
    ///
    /// # Errors
    /// The first setting that will not do: of the new ones, or of those that can hold at once beside the old ones that cannot
    /// change. Then nothing of them holds.
    pub fn reload(
        &self,
        flags: &Flags,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Reloaded, SettingsError> {
        let found = Settings::resolve(self.role, flags, environment)?;
        let (mut taken, mut waiting) = (Vec::new(), Vec::new());
        let mut layers = self.layers.clone();
        for setting in LISTING {
            if self.layers.texts(setting.name).ne(found.layers.texts(setting.name)) {
                if setting.live { taken.push(setting.name.to_owned()) } else { waiting.push(setting.name) }
            }
            if setting.live {
                layers.given.remove(setting.name);
                let new = found.layers.given.get(setting.name);
                layers.given.extend(new.map(|given| (setting.name, given.clone())));
            }
        }
        let texts = |layers: &Layers| {
            let texts = |hook: &BTreeMap<_, Raw>| hook.iter().map(|(name, raw)| (*name, raw.values.clone())).collect();
            layers.hooks.iter().map(texts).collect::<Vec<Vec<_>>>()
        };
        if texts(&found.layers) != texts(&self.layers) {
            waiting.push("hooks");
        }
        let names = found.events.keys().chain(self.events.keys()).collect::<std::collections::BTreeSet<_>>();
        let differ = names.into_iter().filter(|name| found.event(name) != self.event(name));
        let differ: Vec<String> = differ.map(|name| format!("events.{name}")).collect();
        // The key-value store was told how long history is kept, and says by that what may be missing from it.
        if self.history_ages() == found.history_ages() {
            taken.extend(differ);
            layers.events = found.layers.events;
        } else if !differ.is_empty() {
            waiting.push("events (with the shortest or longest max_age)");
        }
        let mut settings = Settings::typed(self.role, layers)?;
        settings.warnings = found.warnings.into_iter().filter(|warning| !self.warnings.contains(warning)).collect();
        // Old and new together may be what neither is alone, such as a cookie beside pages of every origin.
        let told = settings.warnings.len();
        validate::check(&mut settings)?;
        settings.warnings.truncate(told);
        Ok(Reloaded { settings, taken, waiting })
    }

    /// The shortest and the longest time for which any event type is kept in history.
    fn history_ages(&self) -> (Option<Duration>, Option<Duration>) {
        let ages = || self.events.values().filter_map(|event| event.max_age);
        (ages().min(), ages().max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Class, CorsOrigins, Role};

    struct File(tempfile::TempDir);

    impl File {
        fn new(text: &str) -> File {
            let file = File(tempfile::tempdir().unwrap());
            file.write(text);
            file
        }

        fn write(&self, text: &str) {
            std::fs::write(self.0.path().join("fanfare.toml"), text).unwrap();
        }

        fn flags(&self) -> Flags {
            Flags { config: Some(self.0.path().join("fanfare.toml")), ..Flags::default() }
        }

        fn settings(&self) -> Settings {
            Settings::resolve(Role::All, &self.flags(), []).unwrap()
        }
    }

    #[test]
    fn what_can_change_does_and_the_rest_waits() {
        let file = File::new("max_topics = 5\nlisten = \"127.0.0.1:1\"\nevents.wave.class = \"every\"");
        let settings = file.settings();
        file.write(
            "max_topics = 6\nlisten = \"127.0.0.1:2\"\nidle_timeout = \"75s\"\nevents.gift.class = \"sum\"\ndc = \"eu\"",
        );
        let Reloaded { settings, taken, waiting } = settings.reload(&file.flags(), []).unwrap();
        assert_eq!(taken, ["max_topics", "events.gift", "events.wave"]);
        assert_eq!(waiting, ["listen", "dc"]);
        assert_eq!((settings.most.topics, settings.listen.port(), &*settings.dc), (6, 1, "local"));
        assert_eq!((settings.event("gift").class, settings.event("wave").class), (Class::Sum, Class::Ephemeral));
        let again = settings.reload(&file.flags(), []).unwrap();
        assert!(again.taken.is_empty() && again.waiting == ["listen", "dc"], "{again:?}");
        file.write("events.gift.class = \"every\"\nevents.gift.max_age = \"5s\"\nlisten = \"127.0.0.1:1\"");
        let Reloaded { settings, taken, waiting } = settings.reload(&file.flags(), []).unwrap();
        assert_eq!((taken, waiting.len()), (vec!["max_topics".to_owned()], 1), "{waiting:?}");
        assert_eq!(settings.event("gift").class, Class::Sum);
    }

    #[test]
    fn a_bad_one_changes_nothing() {
        let file = File::new("max_topics = 5");
        let settings = file.settings();
        for bad in ["max_topics = 6\ndrain = \"soon\"", "max_topics =", "max_topic = 6", "peer.x = \"no url\""] {
            file.write(bad);
            assert!(settings.reload(&file.flags(), []).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_only_holds_together_after_a_restart_is_refused() {
        let file =
            File::new("auth = \"jwt\"\njwt_cookie = \"c\"\ncors_origin = [\"https://a.example\"]\njwt_key_file = \"");
        let key = file.0.path().join("key");
        std::fs::write(&key, "a secret that has more than 32 bytes, for tests").unwrap();
        let with = |cookie: &str, origin: &str| {
            file.write(&format!("auth = \"jwt\"\njwt_key_file = {key:?}\n{cookie}\ncors_origin = [\"{origin}\"]"));
        };
        with("jwt_cookie = \"c\"", "https://a.example");
        let settings = file.settings();
        // By itself it is good, but the running node still takes the cookie.
        with("", "*");
        let error = settings.reload(&file.flags(), []).unwrap_err().to_string();
        assert!(error.contains("--cors-origin") && error.contains("every page"), "{error}");
        with("", "https://b.example");
        let reloaded = settings.reload(&file.flags(), []).unwrap();
        assert_eq!(reloaded.settings.cors_origin, CorsOrigins::Listed(vec!["https://b.example".to_owned()]));
        assert_eq!(reloaded.waiting, ["jwt_cookie"]);
    }

    #[test]
    fn hooks_wait_for_a_restart() {
        let file = File::new("");
        let secret = file.0.path().join("secret");
        std::fs::write(&secret, format!("whsec_{}", "A".repeat(32))).unwrap();
        let with = |events: &str| {
            let hook = format!("url = \"https://a.example\"\nevents = [\"{events}\"]\nsecret_file = {secret:?}");
            file.write(&format!("max_topics = 5\n[[hooks]]\n{hook}"));
        };
        with("member.online");
        let settings = file.settings();
        assert!(settings.reload(&file.flags(), []).unwrap().waiting.is_empty());
        with("member.offline");
        let Reloaded { settings, waiting, .. } = settings.reload(&file.flags(), []).unwrap();
        assert_eq!((waiting, settings.hooks[0].events[0].name()), (vec!["hooks"], "member.online"));
    }
}
