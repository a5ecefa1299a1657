//! How long the certificates of the TLS listener hold, as a metric.

use std::fmt::Error;
use std::time::SystemTime;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::auth::certificates::Certificates;
use crate::auth::watch::Shared;

/// Tells it of those that are shown now.
#[derive(Debug)]
pub struct Expiry(pub Shared<Certificates>);

#[expect(clippy::disallowed_methods, reason = "certificates go by the machine's date")]
impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "Whole days until the first certificate of the TLS listener expires.";
        let name = "fanfare_tls_certificate_days_left";
        let days = self.0.load().days_left(SystemTime::now());
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&days)
    }
}
