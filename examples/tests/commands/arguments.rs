//! Tests of the examples' arguments and environment.

use std::net::TcpListener;

use crate::Example;

const EXAMPLES: [&str; 4] = ["hyper", "metrics", "receiver", "tonic"];

#[test]
fn examples_print_help() {
    for name in EXAMPLES {
        let ended = Example::new(name, &["--help"]).run();
        assert!(ended.stdout.starts_with(&format!("Usage: cargo run --example {name} ")), "{ended}");
        assert_eq!((ended.code, &*ended.stderr), (Some(0), ""));
    }
}

#[test]
fn examples_name_unexpected_arguments() {
    for name in EXAMPLES {
        let ended = Example::new(name, &["--onec"]).run();
        assert!(ended.stderr.starts_with("error: unexpected argument: --onec\n\nUsage: "), "{ended}");
        assert_eq!((ended.code, &*ended.stdout), (Some(2), ""));
    }
}

#[test]
fn receiver_names_faulty_options() {
    for (arguments, message) in [
        (&["--store"][..], "--store needs a value"),
        (&["--store", "--once"], "--store needs a value"),
        (&["--store", "memory", "--inbox"], "use either --store or --inbox"),
        (&["--store", "memory", "--store", "memory"], "unexpected argument: --store"),
    ] {
        let ended = Example::new("receiver", arguments).run();
        assert!(ended.stderr.starts_with(&format!("error: {message}\n")), "{ended}");
        assert_eq!(ended.code, Some(2), "{ended}");
    }
}

#[test]
fn receiver_lists_its_stores() {
    for (arguments, message) in [
        (["--store", "mysql"], "--store takes memory, sqlite:PATH, redis://… or postgres://…"),
        (["--inbox", "memory"], "--inbox takes sqlite:PATH or postgres://…"),
    ] {
        let ended = Example::new("receiver", &arguments).run();
        assert_eq!((ended.code, ended.stderr), (Some(1), format!("error: {message}\n")));
    }
}

#[test]
fn faulty_port_is_an_error_with_a_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for name in EXAMPLES {
        let ended = Example::new(name, &[]).env("PORT", "http").run();
        assert!(ended.stderr.contains("rror: PORT is \"http\": set it to a port number"), "{ended}");
        assert_eq!(ended.code, Some(1), "{ended}");

        let ended = Example::new(name, &[]).env("PORT", &port.to_string()).run();
        let message = format!("rror: cannot listen on 127.0.0.1:{port}: Address already in use");
        assert!(ended.stderr.contains(&message) && ended.stderr.contains("set PORT to another port"), "{ended}");
        assert_eq!(ended.code, Some(1), "{ended}");
    }
}

#[test]
fn blank_secret_is_an_error_with_a_remedy() {
    for name in ["hyper", "receiver", "tonic"] {
        let ended = Example::new(name, &[]).env("KLIKIT_WEBHOOK_SECRET", " ").run();
        let message = "rror: the environment variable KLIKIT_WEBHOOK_SECRET is blank: set it to the webhook_secret_key";
        assert!(ended.stderr.contains(message), "{ended}");
        assert_eq!(ended.code, Some(1), "{ended}");

        let secret = Example::new(name, &[]).env("KLIKIT_WEBHOOK_SECRET", "your-webhook-secret");
        let ended = secret.env("KLIKIT_WEBHOOK_SECRET_OLD", " ").run();
        let message =
            "rror: the environment variable KLIKIT_WEBHOOK_SECRET_OLD is blank: set it to the webhook_secret_key";
        assert!(ended.stderr.contains(message), "{ended}");
        assert_eq!(ended.code, Some(1), "{ended}");
    }
}
