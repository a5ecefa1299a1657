//! What clients say of when events reached them: the last hop, which no server can see.

use serde::Deserialize;

use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming};
use crate::limits::{RECEIVED_AGE, RECEIVED_LATENCY_MAX, RECEIVED_SAMPLES_MAX};
use crate::wire::http::HttpError;
use crate::wire::json;
use crate::wire::status::Status;

#[derive(Debug, Deserialize)]
struct Report {
    samples: Vec<Sample>,
}

/// One event's times, Unix ms by this node's clock.
#[derive(Debug, Deserialize)]
struct Sample {
    /// What the event says.
    at: f64,
    /// When the client had it.
    received: f64,
}

impl Sample {
    /// How long it took, in microseconds; none if it cannot be so.
    fn latency_us(&self, now_ms: u64) -> Option<u64> {
        let (latency, age) = (self.received - self.at, now_ms as f64 - self.received);
        let long = RECEIVED_AGE.as_millis() as f64;
        let sane = (0.0..=RECEIVED_LATENCY_MAX.as_millis() as f64).contains(&latency) && (-long..=long).contains(&age);
        sane.then_some((latency * 1000.0) as u64)
    }
}

impl Ground {
    /// `POST /v1/received`
    pub(crate) fn received(&mut self, incoming: Incoming<'_>) -> Result<Handled, HttpError> {
        let Incoming { to, body, .. } = incoming;
        let Report { samples } = json::object(body).map_err(|error| {
            HttpError::bad(format!("the body must be {{\"samples\":[{{\"at\":…,\"received\":…}}]}}: {error}"))
        })?;
        let now_ms = self.clock.unix_ms;
        let counters = self.counters();
        for (place, sample) in samples.iter().enumerate() {
            match sample.latency_us(now_ms).filter(|_| place < RECEIVED_SAMPLES_MAX) {
                Some(us) => counters.received.observe(us),
                None => counters.samples_ignored.add(1),
            }
        }
        Ok(Handled::Answered(self.answers().whole(to, Status::NoContent, "", "", b"")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_times_are_not_believed() {
        const NOW: u64 = 1_000_000_000;
        let at = |at: f64, received: f64| Sample { at, received }.latency_us(NOW);
        let now = NOW as f64;
        assert_eq!(at(now - 75.0, now), Some(75_000));
        assert_eq!(at(now, now + 0.5), Some(500));
        for (at_ms, received) in [
            (now, now - 1.0),
            (now - 1e6, now),
            (0.0, 10.0),
            (now + 1e9, now + 1e9),
            (f64::NAN, now),
            (now, f64::INFINITY),
            (f64::NEG_INFINITY, f64::NEG_INFINITY),
        ] {
            assert_eq!(at(at_ms, received), None, "{at_ms} {received}");
        }
    }
}
