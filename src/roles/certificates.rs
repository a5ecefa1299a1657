//! The certificates of the listener that speaks TLS, kept up to date.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::auth::Watcher;
use crate::auth::certificates::{self, Certificates};
use crate::settings::Settings;
use crate::settings::SettingsError;

/// Begins to watch their files, where there is such a listener. The watcher is to live as long as the node.
pub(crate) fn watch(settings: &Settings) -> Result<Option<Watcher<Certificates>>, SettingsError> {
    let Some(tls) = &settings.tls else { return Ok(None) };
    Watcher::start_all(&tls.files).map(Some).map_err(|error| {
        // Of a file that is both it is the certificate that is looked at first.
        let is_certificate = tls.files.iter().position(|path| *path == error.path).is_none_or(|place| place % 2 == 0);
        let name = if is_certificate { "tls_cert" } else { "tls_key" };
        settings.refuse(name, &format!("{}: {}", error.path.display(), error.problem), error.remedy)
    })
}

/// What the listener offers with them.
pub(crate) fn offer(settings: &Settings, watcher: &Watcher<Certificates>) -> Result<Arc<ServerConfig>, SettingsError> {
    certificates::offer(watcher.keys())
        .map_err(|error| settings.refuse("tls_listen", &error.to_string(), "give this process the kernel's randomness"))
}
