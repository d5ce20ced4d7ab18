//! Tests that no output contains the password of a store's URL.

use crate::Example;

/// A password, and the name of its user.
const PASSWORD: &str = "hunter2";

#[test]
fn errors_show_no_password() {
    for (arguments, code, shown) in [
        (
            &["--store", "postgres://klikit:hunter2@127.0.0.1:1/orders"][..],
            1,
            "could not connect to Postgres at 127.0.0.1:1",
        ),
        (
            &["--inbox", "postgres://klikit:hunter2@127.0.0.1:1/orders"],
            1,
            "could not connect to Postgres at 127.0.0.1:1",
        ),
        (
            &["--store", "postgres://klikit:hunter2@127.0.0.1:http/orders"],
            1,
            "the URL of the Postgres database is invalid",
        ),
        (&["--store", "postgres://klikit:hunter2@@127.0.0.1/orders"], 1, "the URL of the Postgres database is invalid"),
        (&["--store", "redis://klikit:hunter2@127.0.0.1:1/"], 1, "Redis cannot be reached, at 127.0.0.1:1"),
        (&["--store", "redis://klikit:hunter2@127.0.0.1:http/"], 1, "the Redis URL or the certificates are invalid"),
        (&["--store", "mysql://klikit:hunter2@127.0.0.1/orders"], 1, "--store takes memory"),
        (&["--inbox", "redis://klikit:hunter2@127.0.0.1/"], 1, "--inbox takes sqlite:PATH"),
        (&["--store=postgres://klikit:hunter2@127.0.0.1/orders"], 2, "unexpected argument: --store…"),
        (&["postgres://klikit:hunter2@127.0.0.1/orders"], 2, "unexpected argument: postgres…"),
        (&["klikit:hunter2@127.0.0.1/orders"], 2, "unexpected argument: klikit…"),
    ] {
        let ended = Example::new("receiver", arguments).run();
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended}");
        assert!(ended.stderr.contains(shown), "{arguments:?}: {ended}");
        assert!(!ended.to_string().contains(PASSWORD), "{arguments:?}: {ended}");
    }
}
