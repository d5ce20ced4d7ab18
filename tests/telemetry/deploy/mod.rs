//! Tests of the files in `deploy/`: metrics in queries, alerts, the systemd unit, and nginx's site.
#![cfg(all(feature = "inbox", feature = "metrics", unix))]

mod scrape;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tower_klikit_test_support::servers::{nginx::Nginx, skipped};

use self::scrape::Scrape;

const ALERTS: &str = include_str!("../../../deploy/alerts.yml");

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

/// Runs a program that must succeed and write nothing to stderr. Returns what it has printed.
///
/// Skips this test and returns `None` if the program is not installed. `package` is the Debian package that contains it.
#[track_caller]
fn succeed(program: &str, package: &str, args: &[&str], file: &Path) -> Option<String> {
    if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        return skipped(&format!("there is no {program} here: install the package `{package}`"));
    }
    let output = Command::new(program).args(args).arg(file).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success() && stderr.is_empty(), "{program} on {}:\n{stdout}{stderr}", file.display());
    Some(stdout)
}

#[track_caller]
fn promtool(args: &[&str], file: &Path) -> Option<String> {
    succeed("promtool", "prometheus", args, file)
}

/// Returns the queries of the dashboard.
fn queries() -> Vec<String> {
    let dashboard = fs::read(deploy("dashboard.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().replace("$__rate_interval", "5m")).collect()
}

#[test]
fn alert_rules_pass_promtool() {
    let Some(checked) = promtool(&["check", "rules"], &deploy("alerts.yml")) else { return };
    assert!(checked.contains(&format!("{} rules found", ALERTS.matches("- alert: ").count())), "{checked}");
    promtool(&["test", "rules"], &deploy("alerts_test.yml")).unwrap();
}

#[test]
fn every_alert_is_tested() {
    let tests = fs::read_to_string(deploy("alerts_test.yml")).unwrap();
    for line in ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{line}\"")), "no test raises {line}");
    }
}

#[test]
fn docs_recommend_the_alerts_of_the_file() {
    let docs = include_str!("../../../src/telemetry/metrics.rs");
    let (_, docs) = docs.split_once("//! ```text\n").unwrap();
    let (docs, _) = docs.split_once("//! ```").unwrap();
    let docs: Vec<_> = docs.lines().map(|line| line.trim_start_matches("//!").trim()).collect();
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let recommended: BTreeSet<_> = docs
        .split(|line| line.starts_with('#'))
        .map(|lines| words(&lines.join(" ")))
        .filter(|it| !it.is_empty())
        .collect();
    let expressions = ALERTS.split("expr: ").skip(1).map(|rest| {
        let (expression, _) = [" for:", " annotations:"].iter().filter_map(|end| rest.split_once(end)).min().unwrap();
        words(expression.trim_start_matches(">-"))
    });
    assert_eq!(expressions.collect::<BTreeSet<_>>(), recommended);
}

#[test]
fn dashboard_queries_pass_promtool() {
    // A string of JSON is a string of YAML too.
    let rule = |(n, expr)| serde_json::json!({ "record": format!("query_{n}"), "expr": expr });
    let rules: Vec<_> = queries().into_iter().enumerate().map(rule).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&file, groups.to_string()).unwrap();
    promtool(&["check", "rules"], &file);
}

#[test]
fn alerts_and_dashboard_use_metrics_of_a_scrape() {
    let scrape = Scrape::take();
    let alerts = ALERTS.lines().map(|line| line.split_once("summary:").map_or(line, |(before, _)| before).to_owned());
    let alerts: String = alerts.filter(|line| !line.trim_start().starts_with('#')).map(|line| line + "\n").collect();
    let queries = queries();
    assert!(queries.len() > 10);
    for query in queries.iter().map(String::as_str).chain([&*alerts]) {
        scrape.check(query);
    }
}

#[test]
fn dashboard_shows_every_metric() {
    let shown = queries().concat();
    let docs = include_str!("../../../src/telemetry/metrics.rs");
    let names: Vec<_> = docs.lines().filter_map(|line| line.strip_prefix("//! | [`")?.split_once('`')).collect();
    assert!(names.len() > 10);
    for (name, _) in names {
        assert!(shown.contains(name), "no panel shows {name}");
    }
}

#[test]
fn systemd_accepts_the_unit() {
    let unit = fs::read_to_string(deploy("klikit.service")).unwrap();
    let program = "/usr/local/bin/receiver";
    assert!(unit.contains(program));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("klikit.service");
    // The program must exist.
    fs::write(&file, unit.replace(program, "/bin/sh")).unwrap();
    succeed("systemd-analyze", "systemd", &["verify"], &file);
}

/// `examples/tests/serve/proxy.rs` sends deliveries through the guide's configuration.
#[test]
fn nginx_site_is_the_one_of_the_guide() {
    let site = fs::read_to_string(deploy("nginx.conf")).unwrap();
    let (_, site) = site.split_once('\n').unwrap();
    assert!(include_str!("../../../docs/in-front-of-it.md").contains(&format!("```nginx\n{site}```\n")));
    let upstream: SocketAddr = ([127, 0, 0, 1], 9).into();
    let plain: String =
        site.lines().filter(|line| !line.trim_start().starts_with("ssl_")).map(|line| line.to_owned() + "\n").collect();
    let plain = plain.replace("127.0.0.1:8080", &upstream.to_string());
    // Panics if nginx does not start.
    let _nginx = Nginx::with_http(|port| plain.replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};")));
}
