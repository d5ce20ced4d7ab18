//! Tests of `klikit send` with faulty input and without a receiver.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use tokio::net::TcpSocket;

use crate::{
    receiver::{Receiver, Reply},
    support::{klikit, shell},
};

fn refused() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Starts a server that closes each connection at once.
fn closing() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    address.to_string()
}

#[test]
fn refused_connection_is_found_at_once() {
    let address = refused();
    let ended = klikit(["send", &format!("http://{address}/"), "--speed", "1"]).run();
    ended.assert_error(&format!(
        "cannot connect to {address}: Connection refused (os error 111): start the receiver, or correct the URL"
    ));
}

#[test]
fn limit_on_open_files_is_no_fault_of_the_receiver() {
    // The first responses wait for more requests than the limit permits.
    let receiver = Receiver::start(|_, _| Reply::After(200));
    let line = format!("ulimit -n 40; klikit send {} --count 200 --concurrency 200", receiver.url);
    let ended = shell(&line, Path::new("/")).run();
    ended.assert_error(&format!(
        "{}: no response: this process has too many open files: lower --concurrency, or raise the limit with `ulimit -n`",
        receiver.url
    ));
}

#[test]
fn ctrl_c_ends_a_connection_attempt() {
    // Linux does not answer to a connection for which the queue has no place.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(200));
    let _queue: Vec<_> = std::iter::from_fn(|| connect().ok()).take(10).collect();

    let running = klikit(["send", &format!("http://{address}/")]).start();
    let started = Instant::now();
    // The end of the connection as the kernel writes it, in the state SYN_SENT.
    let connecting = format!(" 0100007F:{:04X} 02 ", address.port());
    while !fs::read_to_string("/proc/net/tcp").unwrap().contains(&connecting) {
        assert!(started.elapsed() < Duration::from_secs(60), "the command does not connect");
        thread::sleep(Duration::from_millis(5));
    }
    running.interrupt();
    let ended = running.wait();
    assert_eq!((ended.code, &*ended.stdout, &*ended.stderr), (Some(130), "", ""));
}

#[test]
fn receiver_that_never_responds_is_an_error() {
    let url = format!("http://{}/", closing());
    let ended = klikit(["send", &url, "--retries", "1"]).run();
    let start = format!("error: no delivery reached {url}: ");
    assert!(
        ended.stderr.starts_with(&start) && ended.stderr.ends_with(": check the URL and the receiver\n"),
        "{ended}"
    );
    assert_eq!((ended.code, ended.stderr.lines().count(), &*ended.stdout), (Some(2), 1, ""));
}

#[test]
fn first_response_without_an_end_is_an_error() {
    for options in [&[][..], &["--count", "20", "--concurrency", "4"], &["--corrupt", "100%"]] {
        let receiver = Receiver::start(|_, _| Reply::Endless);
        let ended = klikit(["send", &receiver.url].into_iter().chain(options.iter().copied())).run();
        ended.assert_error(&format!(
            "{}: the response began with 200 and did not end within 10 s: name the URL of a webhook endpoint, not of a \
             stream",
            receiver.url
        ));
        let attempts = if options.contains(&"4") { 4 } else { 1 };
        assert_eq!(receiver.received().len(), attempts, "{options:?}");
    }
}

#[test]
fn tls_to_a_plain_port_is_an_error() {
    let receiver = Receiver::verifying();
    let url = receiver.url.replace("http", "https");
    let ended = klikit(["send", &url, "--retries", "0"]).run();
    assert_eq!((ended.code, ended.stderr.lines().count(), &*ended.stdout), (Some(2), 1, ""), "{ended}");
    assert!(ended.stderr.starts_with(&format!("error: no delivery reached {url}: ")), "{ended}");
}

#[test]
fn public_addresses_need_permission() {
    // TCP cannot connect to a broadcast or multicast address, so nothing leaves this machine if the check is broken.
    for host in ["255.255.255.255", "224.0.0.1", "[ff02::1]", "[::ffff:255.255.255.255]"] {
        let bare = host.trim_matches(['[', ']']);
        let ended = klikit(["send", &format!("http://{host}/")]).run();
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""));
        let end = "is neither on this machine nor in a private network: pass --allow-public if the receiver is yours\n";
        assert!(ended.stderr.starts_with("error: the address of ") && ended.stderr.ends_with(end), "{bare}: {ended}");
    }
}

#[test]
fn faulty_urls_are_errors_with_a_remedy() {
    let credentials = "the URL contains a user name or a password, which all users of this machine could see: remove \
                       it; `klikit send` and `klikit conform` have --basic for it";
    let example = "use a URL such as http://localhost:8080/webhooks/klikit";
    for (url, line) in [
        ("", format!("the URL is invalid: relative URL without a base: {example}")),
        ("http://", format!("the URL is invalid: empty host: {example}")),
        ("http://localhost:99999/", format!("the URL is invalid: invalid port number: {example}")),
        ("ftp://localhost/", format!("the URL begins with ftp: {example}")),
        ("http://user@localhost/", credentials.into()),
        ("http://user:hunter2@localhost/", credentials.into()),
        ("http://:hunter2@localhost/", credentials.into()),
    ] {
        klikit(["send", url]).run().assert_error(&line);
    }
    let ended = klikit(["send", "http://receiver.invalid/"]).run();
    assert!(ended.stderr.starts_with("error: cannot resolve receiver.invalid: "), "{ended}");
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(2), 1), "{ended}");
}

#[test]
fn faulty_bodies_are_errors_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let path = file.to_str().unwrap();
    for (body, options, line) in [
        (&b"\xff"[..], &[][..], "is not UTF-8: send it unchanged, with --same-body and without --set"),
        (b"{", &[], "is not JSON: send it unchanged, with --same-body"),
        (b"{}", &[], "has no value orders.0.id: send it unchanged, with --same-body"),
        (b"{", &["--same-body", "--set", "a=1"], "is not JSON: correct --set"),
        (b"{}", &["--set", "orders.0.status=3"], "has no value orders.0.status: correct --set"),
    ] {
        fs::write(&file, body).unwrap();
        let arguments = ["send", "http://127.0.0.1:9/", path].into_iter().chain(options.iter().copied());
        klikit(arguments).run().assert_error(&format!("{path} {line}"));
    }
    fs::remove_file(&file).unwrap();
    klikit(["send", "http://127.0.0.1:9/", path])
        .run()
        .assert_error(&format!("cannot read {path}: No such file or directory (os error 2): name a readable file"));
}

#[test]
fn faulty_options_are_errors_with_a_remedy() {
    for (options, line) in [
        (&["--count", "0"][..], "invalid value '0' for '--count <N>': 0 is not in 1..=1000000000; see --help"),
        (
            &["--rate", "0"],
            "invalid value '0' for '--rate <N>': a rate is 0.001 to 1000000 deliveries a second; see --help",
        ),
        (&["--speed", "0.5"], "invalid value '0.5' for '--speed <N>': must be at least 1; see --help"),
        (&["--retries", "7"], "invalid value '7' for '--retries <N>': 7 is not in 0..=6; see --help"),
        (
            &["--corrupt", "101%"],
            "invalid value '101%' for '--corrupt <PERCENT>': a part is 0% to 100%, such as 5% or 0.5%; see --help",
        ),
        (
            &["--set", "orders.0.status"],
            "invalid value 'orders.0.status' for '--set <PATH=JSON>': a setting is PATH=JSON, such as \
             orders.0.status=3; see --help",
        ),
        (
            &["--set", "orders.0.id=\"A\""],
            "--set orders.0.id is not a whole number, so that deliveries cannot have different ids: pass a whole number, or \
             add --same-body",
        ),
        (
            &["body.json", "--fixture", "status-ready"],
            "the argument '[FILE]...' cannot be used with '--fixture <NAME>'; see --help",
        ),
    ] {
        klikit(["send", "http://127.0.0.1:9/"].into_iter().chain(options.iter().copied())).run().assert_error(line);
    }
    let unknown = klikit(["send", "http://127.0.0.1:9/", "--fixture", "status-redy"]).run();
    assert!(unknown.stderr.contains("[possible values: batch-of-six-large-orders, "), "{unknown}");
    assert_eq!((unknown.code, unknown.stderr.lines().count()), (Some(2), 1), "{unknown}");
}

#[test]
fn missing_secret_is_an_error_with_a_remedy() {
    klikit(["send", "http://127.0.0.1:9/"])
        .without_secret()
        .run()
        .assert_error("no webhook secret was given: set KLIKIT_WEBHOOK_SECRET, or name a file with --secret-file");
}
