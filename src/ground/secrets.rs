//! Secrets that requests of nodes and operators show.

use tracing::warn;

use crate::auth::credentials::after_bearer;
use crate::auth::watch::Shared;
use crate::ground::Ground;
use crate::settings::Secret;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::status::Status;

impl Ground {
    /// Refuses requests without the cluster's secret, where there is one.
    pub(crate) fn check_secret(&self, request: &Request<'_>) -> Result<(), HttpError> {
        let Some(secret) = &self.node.cluster_secret else { return Ok(()) };
        self.check_shown(request, secret, None, "this needs the cluster's secret")
    }

    /// Refuses requests that do not show this secret, which is a peer's or the cluster's. One line a minute says that another one
    /// was shown: somebody has to set something right, here or there.
    pub(crate) fn check_shown(
        &self,
        request: &Request<'_>,
        secret: &Shared<Secret>,
        peer: Option<&str>,
        detail: &'static str,
    ) -> Result<(), HttpError> {
        if shows(request, secret) {
            return Ok(());
        }
        if request.authorization.is_some() && self.cluster.refused.borrow_mut().fails(self.clock.instant) {
            match peer {
                Some(peer) => {
                    warn!(peer, "refused a request from a peer: its secret is not that of --peer-secret-file here")
                }
                None => warn!(
                    path = request.path,
                    "refused a request to the internal listener: its secret is not that of --cluster-secret-file here"
                ),
            }
        }
        let challenge = Some("Bearer realm=\"fanfare\"".into());
        Err(HttpError { www_authenticate: challenge, ..HttpError::new(Status::Unauthorized, detail) })
    }
}

/// Whether a request shows this secret, or the one before it. Whoever has two of them shows both, since the other side may
/// know only one of them yet.
pub(crate) fn shows(request: &Request<'_>, secret: &Shared<Secret>) -> bool {
    let bearer = request.authorization.and_then(after_bearer);
    let secret = secret.load();
    [bearer, request.fanfare_previous].into_iter().flatten().any(|given| secret.is(given))
}
