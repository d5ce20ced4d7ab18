//! Detection of deliveries for which the handler has no route.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::{Method, StatusCode, Uri};
use tokio::time::Instant;

use crate::{inbox::DeliveryId, telemetry, visible::one_line};

/// The interval at which each route is reported.
const INTERVAL: Duration = Duration::from_secs(60);

/// The maximum number of routes that are remembered. klikit does not sign the path, so a sender can invent any number.
const ROUTES: usize = 64;

/// The routes for which the handler responded 404 or 405. Usually the worker's router lacks the acceptor's route.
#[derive(Default)]
pub(super) struct Misrouted {
    reported: Mutex<HashMap<String, Instant>>,
}

impl Misrouted {
    /// Logs a request for which the handler has no route, once a minute per route.
    pub(super) fn check(&self, status: StatusCode, method: &Method, uri: &Uri, delivery: DeliveryId) {
        if !matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            return;
        }
        // Keep it on one line: the path is unsigned, so a sender can choose it.
        let path = one_line(uri.path());
        if self.is_due(format!("{method} {path}")) {
            telemetry::misrouted(status, method, &path, delivery);
        }
    }

    fn is_due(&self, route: String) -> bool {
        let now = Instant::now();
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        reported.retain(|_, at| now.duration_since(*at) < INTERVAL);
        if reported.contains_key(&route) || reported.len() >= ROUTES {
            return false;
        }
        reported.insert(route, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reports_each_route_once_a_minute() {
        let misrouted = Misrouted::default();
        let is_due = |route: &str| misrouted.is_due(route.to_owned());
        assert_eq!([is_due("POST /a"), is_due("POST /a"), is_due("PUT /a")], [true, false, true]);
        advance(INTERVAL).await;
        assert_eq!([is_due("POST /a"), is_due("POST /a")], [true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn long_path_is_cut_between_characters() {
        let misrouted = Misrouted::default();
        let uri = Uri::try_from(format!("/{}", "é".repeat(1000)).into_bytes()).expect("a URI");
        misrouted.check(StatusCode::NOT_FOUND, &Method::POST, &uri, DeliveryId::new(1));
        assert_eq!(misrouted.reported.lock().unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn remembers_a_bounded_number_of_routes() {
        let misrouted = Misrouted::default();
        let reported = (0..1000).filter(|n| misrouted.is_due(format!("POST /{n}"))).count();
        assert_eq!(reported, ROUTES);
    }
}
