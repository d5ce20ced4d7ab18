//! Tests of `explain_mismatches`: the log names the cause of some rejections, and the response never does.
#![cfg(all(feature = "diagnose", feature = "tracing"))]

use tower_klikit_test_support::log;
mod search;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::Full;
use tokio::time::advance;
use tower_klikit::{
    Keyring, KlikitVerifyLayer, WebhookSecret,
    header::{EVENT_ID, SIGNATURE},
    testing::SignedDelivery,
};
use tower_klikit_test_support::log::Log;
use tracing_subscriber::{filter::LevelFilter, fmt::format::FmtSpan};

use crate::support::{
    BODY, SECRET,
    body::{Script, Step},
    send,
};

/// Returns the lines of the log with level `WARN`.
fn warnings(log: &Log) -> Vec<String> {
    log.text().lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
}

/// Runs a test on a paused clock. The log that the test gets records all levels.
fn logging<F: Future<Output = ()>>(run: impl FnOnce(Log) -> F) {
    let log = Log::default();
    log.capture_while(LevelFilter::TRACE, FmtSpan::NONE, || log::paused(run(log.clone())));
}

/// Returns a delivery whose body an outer layer parsed and encoded again.
fn reencoded() -> Request<Full<Bytes>> {
    let spaced = BODY.replace(':', ": ").replace(',', ", ");
    SignedDelivery::new(SECRET, BODY).request_with(|_| Full::from(spaced))
}

/// Returns a delivery that is signed with another secret.
fn forged() -> Request<Full<Bytes>> {
    SignedDelivery::new("a forger's own", BODY).request()
}

#[test]
fn warning_names_cause_and_fix() {
    logging(async |log| {
        send(&KlikitVerifyLayer::new(SECRET).explain_mismatches(), reencoded()).await;
        let [line] = &warnings(&log)[..] else { panic!("{:?}", warnings(&log)) };
        for part in [
            "WARN",
            r#"reason="signature_mismatch""#,
            r#"cause="body_reencoded""#,
            r#"certainty="proven""#,
            "put KlikitVerifyLayer outside of any layer that reads JSON",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    });
}

#[test]
fn explains_nothing_by_default() {
    logging(async |log| {
        send(&KlikitVerifyLayer::new(SECRET), reencoded()).await;
        let [line] = &warnings(&log)[..] else { panic!("{:?}", warnings(&log)) };
        assert!(!line.contains("cause="), "{line}");
    });
}

#[test]
fn forgery_has_unknown_cause() {
    logging(async |log| {
        send(&KlikitVerifyLayer::new(SECRET).explain_mismatches(), forged()).await;
        assert!(warnings(&log)[0].contains(r#"cause="unknown""#), "{:?}", warnings(&log));
    });
}

#[test]
fn response_does_not_depend_on_explanation() {
    logging(async |log| {
        let (with, without) = (KlikitVerifyLayer::new(SECRET).explain_mismatches(), KlikitVerifyLayer::new(SECRET));
        for request in [reencoded, forged] {
            let (explained, plain) = (send(&with, request()).await.0, send(&without, request()).await.0);
            assert_eq!((explained.status, &explained.text), (plain.status, &plain.text));
            assert_eq!(explained.headers, plain.headers);
            advance(Duration::from_secs(1)).await;
        }
        let lines = warnings(&log);
        let causes: Vec<_> = lines.iter().map(|line| line.split_once("cause=").map(|(_, rest)| rest)).collect();
        let [Some(reencoded), None, Some(forged), None] = causes[..] else { panic!("{lines:?}") };
        assert!(reencoded.starts_with(r#""body_reencoded""#) && forged.starts_with(r#""unknown""#), "{lines:?}");
    });
}

#[test]
fn services_of_a_layer_explain_one_mismatch_a_second() {
    logging(async |log| {
        let layer = KlikitVerifyLayer::new(SECRET).explain_mismatches();
        let explained = || warnings(&log).iter().filter(|line| line.contains("cause=")).count();
        for _ in 0..10 {
            send(&layer, forged()).await;
        }
        assert_eq!((explained(), warnings(&log).len()), (1, 10));
        advance(Duration::from_millis(999)).await;
        send(&layer.clone(), forged()).await;
        assert_eq!(explained(), 1);
        advance(Duration::from_millis(1)).await;
        send(&layer.clone(), forged()).await;
        send(&layer, forged()).await;
        assert_eq!(explained(), 2);
    });
}

#[test]
fn unsigned_requests_do_not_use_up_explanations() {
    logging(async |log| {
        let layer = KlikitVerifyLayer::new(SECRET).explain_mismatches();
        for _ in 0..2 {
            let unsigned = SignedDelivery::new(SECRET, BODY).without_header(&SIGNATURE);
            send(&layer, unsigned.request::<Full<Bytes>>()).await;
        }
        send(&layer, reencoded()).await;
        let causes = ["signature_missing", "body_reencoded"];
        let lines = warnings(&log);
        let counts = causes.map(|cause| lines.iter().filter(|line| line.contains(cause)).count());
        assert_eq!(counts, [1, 1], "{lines:?}");
    });
}

#[test]
fn explains_incomplete_body_with_its_content_length() {
    for (steps, cause, detail) in [
        (vec![Step::Hang], "body_incomplete", "0 bytes of 49"),
        (vec![Step::Data(BODY[..20].into()), Step::Hang], "body_incomplete", "20 bytes of 49"),
        (vec![Step::Data(BODY[..20].into()), Step::Fail], "body_incomplete", "20 bytes of 49"),
    ] {
        logging(async |log| {
            let mut request = SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new(steps));
            request.headers_mut().insert(http::header::CONTENT_LENGTH, BODY.len().into());
            send(&KlikitVerifyLayer::new(SECRET).explain_mismatches(), request).await;
            let lines = warnings(&log);
            assert!(lines[0].contains(&format!(r#"cause="{cause}""#)) && lines[0].contains(detail), "{lines:?}");
        });
    }
}

#[test]
fn logs_support_report_at_debug_level() {
    logging(async |log| {
        let layer = KlikitVerifyLayer::new(SECRET).explain_mismatches().on_rejection(|rejection| {
            let mut response = rejection.to_response();
            *response.status_mut() = http::StatusCode::UNAUTHORIZED;
            response
        });
        send(&layer, reencoded()).await;
        let text = log.text();
        let report = text.split_once("DEBUG").expect("the log has a report").1;
        for part in ["for klikit's support", "answered: 401", "cause: body_reencoded", "sha256sum body.bin"] {
            assert!(report.contains(part), "{part}: {report}");
        }
    });
}

#[test]
fn verified_delivery_uses_up_no_explanation() {
    logging(async |log| {
        let layer = KlikitVerifyLayer::new(SECRET).explain_mismatches();
        send(&layer, SignedDelivery::new(SECRET, BODY).request::<Full<Bytes>>()).await;
        assert!(warnings(&log).is_empty());
        send(&layer, reencoded()).await;
        assert!(warnings(&log)[0].contains("body_reencoded"), "{:?}", warnings(&log));
    });
}

#[test]
fn does_not_diagnose_body_over_64_kib() {
    logging(async |log| {
        let layer = KlikitVerifyLayer::new(SECRET).explain_mismatches();
        let padded = |bytes: usize| format!("{BODY}{}", " ".repeat(bytes - BODY.len()));
        send(&layer, SignedDelivery::new("another", padded(64 * 1024 + 1)).request::<Full<Bytes>>()).await;
        send(&layer, SignedDelivery::new("another", padded(64 * 1024)).request::<Full<Bytes>>()).await;
        let lines = warnings(&log);
        assert!(!lines[0].contains("cause=") && lines[1].contains("cause="), "{lines:?}");
    });
}

/// The diagnosis knows no cause for these rejections, because neither signature nor body is at fault.
#[test]
fn other_rejections_use_up_no_explanation() {
    let layer = || KlikitVerifyLayer::new(SECRET).explain_mismatches();
    let signed = |step: Step| SignedDelivery::new(SECRET, BODY).request_with(|_| Script::new([step]));
    let too_large = || Step::Data(vec![b' '; 200].into());
    let by_path = || {
        KlikitVerifyLayer::with_resolver(|head| {
            (head.uri.path() != "/nobody").then(|| WebhookSecret::new(SECRET).unwrap().into())
        })
    };
    let to_nobody = || SignedDelivery::new(SECRET, BODY).uri("/nobody").request_with(|_| Script::default());
    let unauthorised = || signed(Step::Data(BODY.into()));
    let cases = [
        (layer().body_limit(150), signed(too_large()), "body_too_large"),
        (by_path().explain_mismatches(), to_nobody(), "unknown_tenant"),
        (layer().require_basic_auth("partner", "key"), unauthorised(), "invalid_credentials"),
    ];
    for (layer, request, reason) in cases {
        logging(async |log| {
            send(&layer, request).await;
            let lines = warnings(&log);
            assert!(lines[0].contains(&format!("reason=\"{reason}\"")) && !lines[0].contains("cause="), "{lines:?}");
            let spaced = BODY.replace(':', ": ");
            // The Basic credentials of user "partner" with the password "key".
            let delivery = SignedDelivery::new(SECRET, BODY).header(AUTHORIZATION, "Basic cGFydG5lcjprZXk=");
            send(&layer, delivery.request_with(|_| Full::<Bytes>::from(spaced))).await;
            assert!(warnings(&log)[1].contains(r#"cause="body_reencoded""#), "{reason}: {:?}", warnings(&log));
        });
    }
}

#[test]
fn tries_every_secret_of_the_keyring() {
    logging(async |log| {
        let secret = |text: &str| WebhookSecret::new(text).unwrap();
        let keyring = Keyring::new("bali-bites", "old", secret("the old one\n"));
        keyring.add("new", secret("the new one")).unwrap();
        let layer = KlikitVerifyLayer::with_keyring(keyring).explain_mismatches();
        send(&layer, SignedDelivery::new("the old one", BODY).request::<Full<Bytes>>()).await;
        let lines = warnings(&log);
        assert!(lines[0].contains(r#"cause="secret_white_space""#) && lines[0].contains("old"), "{lines:?}");
    });
}

#[test]
fn rejection_texts_do_not_depend_on_explanation() {
    logging(async |log| {
        let printing = |layer: KlikitVerifyLayer| {
            layer.on_rejection(|rejection| {
                let mut response = rejection.to_response();
                *response.body_mut() = format!("{rejection} {rejection:?}").into();
                response
            })
        };
        let plain = printing(KlikitVerifyLayer::new(SECRET));
        let explaining = plain.clone().explain_mismatches();
        let (plain, explained) = (send(&plain, reencoded()).await.0, send(&explaining, reencoded()).await.0);
        assert_eq!(explained.text, plain.text);
        assert!(warnings(&log)[1].contains("cause="), "{:?}", warnings(&log));
    });
}

#[test]
fn explains_body_in_several_frames() {
    logging(async |log| {
        let pieces = |body: Bytes| {
            [Step::Data(body.slice(..9)), Step::Yield, Step::Data(body.slice(9..)), Step::Data("\n".into())]
        };
        let request = SignedDelivery::new(SECRET, BODY).request_with(|body| Script::new(pieces(body)));
        send(&KlikitVerifyLayer::new(SECRET).explain_mismatches(), request).await;
        assert!(warnings(&log)[0].contains(r#"cause="body_final_newline""#), "{:?}", warnings(&log));
    });
}

#[test]
fn explains_rejected_headers_without_body() {
    let delivery = || SignedDelivery::new(SECRET, BODY);
    let cases = [
        (delivery().without_header(&SIGNATURE), "signature_missing"),
        (
            delivery().header(SIGNATURE, "sha256=cde212d9854ae482bb476487a187ee88c4b5f93eb2444de34fd7252b5ccb866d"),
            "signature_prefixed",
        ),
        (delivery().header(SIGNATURE, "none"), "signature_malformed"),
        (delivery().added_header(SIGNATURE, "00"), "signature_repeated"),
        (delivery().without_header(&EVENT_ID), "event_id_missing"),
    ];
    for (delivery, cause) in cases {
        logging(async |log| {
            let body = Script::new([Step::Hang]);
            send(&KlikitVerifyLayer::new(SECRET).explain_mismatches(), delivery.request_with(|_| body)).await;
            let [line] = &warnings(&log)[..] else { panic!("{:?}", warnings(&log)) };
            assert!(line.contains(&format!(r#"cause="{cause}""#)) && line.contains(r#"certainty="shown""#), "{line}");
        });
    }
}

#[cfg(feature = "payload")]
#[test]
fn accepted_timestamped_signature_is_no_cause() {
    let delivery = |secret| {
        let now = std::time::SystemTime::now();
        SignedDelivery::timestamped(secret, now, "evt-7", "klikit.order.created.v2", BODY)
    };
    let with_newline = || {
        let delivery = delivery(SECRET);
        let body = [&delivery.body()[..], b"\n"].concat();
        delivery.request_with(|_| Full::<Bytes>::from(body))
    };
    for (request, cause) in [(delivery("a forger's own").request(), "unknown"), (with_newline(), "body_final_newline")]
    {
        logging(async |log| {
            let layer =
                KlikitVerifyLayer::new(SECRET).accept_timestamped(Duration::from_secs(300)).explain_mismatches();
            send(&layer, request).await;
            let lines = warnings(&log);
            assert!(
                lines[0].contains(&format!(r#"cause="{cause}""#)) && !lines[0].contains("timestamped"),
                "{lines:?}"
            );
        });
    }
}

#[test]
fn names_candidate_and_still_rejects() {
    logging(async |log| {
        let candidates = Keyring::new("candidates", "partner-api", WebhookSecret::new("the partner API's").unwrap());
        let layer = KlikitVerifyLayer::new(SECRET).explain_mismatches_with(candidates);
        let request = SignedDelivery::new("the partner API's", BODY).request::<Full<Bytes>>();
        let (answer, seen) = send(&layer, request).await;
        assert!(answer.status == 403 && seen.is_none());
        let lines = warnings(&log);
        assert!(lines[0].contains(r#"cause="other_secret""#) && lines[0].contains("partner-api"), "{lines:?}");
    });
}

#[test]
fn tries_secrets_of_resolved_tenant() {
    logging(async |log| {
        let secret = |text: &str| WebhookSecret::new(text).unwrap();
        let layer = KlikitVerifyLayer::with_resolver(move |head| {
            let tenant = head.uri.path().strip_prefix("/webhooks/klikit/")?.to_owned();
            Some(Keyring::new(&*tenant, "2026-06", secret(&format!("the secret of {tenant}\n"))))
        })
        .explain_mismatches();
        let delivery = SignedDelivery::new("the secret of bali-bites", BODY).uri("/webhooks/klikit/bali-bites");
        send(&layer, delivery.request::<Full<Bytes>>()).await;
        let lines = warnings(&log);
        assert!(lines[0].contains(r#"cause="secret_white_space""#) && lines[0].contains("bali-bites"), "{lines:?}");
    });
}

/// The two setters keep the candidates in either order.
#[test]
fn setters_keep_candidates() {
    let layer = || KlikitVerifyLayer::new(SECRET);
    let candidates = || Keyring::new("candidates", "partner-api", WebhookSecret::new("the partner API's").unwrap());
    for layer in [
        layer().explain_mismatches_with(candidates()).explain_mismatches(),
        layer().explain_mismatches().explain_mismatches_with(candidates()),
    ] {
        logging(async |log| {
            send(&layer, SignedDelivery::new("the partner API's", BODY).request::<Full<Bytes>>()).await;
            assert!(warnings(&log)[0].contains(r#"cause="other_secret""#), "{:?}", warnings(&log));
        });
    }
}

/// In a layer that accepts timestamped signatures, a malformed one is a cause of its own and is not blamed on the clock.
#[cfg(feature = "payload")]
#[test]
fn only_stale_timestamp_is_blamed_on_the_clock() {
    let now = std::time::SystemTime::now();
    let stamped = |at| SignedDelivery::timestamped(SECRET, at, "evt-7", "klikit.order.created.v2", BODY);
    let malformed = |from: &str, to: &str| {
        let request = stamped(now).request::<Full<Bytes>>();
        let header = request.headers()[SIGNATURE].to_str().unwrap().replacen(from, to, 1);
        stamped(now).header(SIGNATURE, header)
    };
    for (delivery, cause, of_clock) in [
        (malformed(",", ", "), "signature_timestamp_malformed", false),
        (malformed(",", "000,"), "signature_timestamp_malformed", false),
        (stamped(now - Duration::from_secs(600)), "signature_stale", true),
        (malformed("v1=", "v2="), "signature_malformed", false),
        (SignedDelivery::new(SECRET, format!("1777777777.{BODY}")), "timestamp_in_body", false),
    ] {
        logging(async |log| {
            let layer =
                KlikitVerifyLayer::new(SECRET).accept_timestamped(Duration::from_secs(300)).explain_mismatches();
            send(&layer, delivery.request::<Full<Bytes>>()).await;
            let [line] = &warnings(&log)[..] else { panic!("{:?}", warnings(&log)) };
            assert!(line.contains(&format!(r#"cause="{cause}""#)), "{line}");
            assert_eq!(line.contains("clock"), of_clock, "{line}");
            assert!(!line.contains("accept timestamped signatures too"), "{line}");
        });
    }
}
