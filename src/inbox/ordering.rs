//! Ordering keys: deliveries that share a key are handled one after the other.

use std::{borrow::Cow, fmt, sync::Arc};

use crate::{
    dedupe::short_hash,
    event::Delivery,
    json::{Decimal, JsonToken as Token, PathStep as Step, each_value},
    visible::Escaped,
};

/// The path to the ids of the orders.
pub(super) const ORDER_IDS: &[Step] = &[Step::Member("orders"), Step::Element, Step::Member("id")];

/// The path to the id of the branch.
pub(super) const BRANCH_ID: &[Step] = &[Step::Member("branch_id")];

/// The same two paths in the envelope of a delivery with a timestamped signature.
pub(super) const DATA_ORDER_IDS: &[Step] =
    &[Step::Member("data"), Step::Member("orders"), Step::Element, Step::Member("id")];
pub(super) const DATA_BRANCH_ID: &[Step] = &[Step::Member("data"), Step::Member("branch_id")];

/// The rule by which an inbox derives ordering keys.
///
/// Deliveries that share an ordering key are handled one after the other, in the order in which they were accepted. A
/// delivery that fails blocks the later ones that share a key with it, and no others, until it is handled or
/// dead-lettered.
///
/// klikit itself does not guarantee any order. Deliveries that it sends out of order are handled out of order.
///
/// Ids are read from the body even if other parts of the body are malformed, so that one unreadable order does not cost
/// a batch its ordering:
///
/// - An order without a readable id, such as `null`, adds no key. The other orders of the batch add theirs.
/// - If a member is repeated, each of its values adds a key.
/// - Numbers are compared by value, and a string that holds a plain decimal number is compared as one: 42, 42.0, 4.2e1
///   and "42" are one id. Other strings are compared as they are.
/// - If no id can be read, the delivery is handled without ordering, and a warning is logged.
#[derive(Clone, Default)]
pub struct OrderBy(Rule);

#[derive(Clone, Default)]
enum Rule {
    #[default]
    Nothing,
    Branch,
    Order,
    Custom(Arc<Custom>),
}

type Custom = dyn Fn(&Delivery, &[u8]) -> Vec<String> + Send + Sync;

/// A key that is shared by deliveries that must be leased one after the other. The text consists of the kind of the
/// key, the id and the tenant, such as `order:42@warung`.
///
/// In the id and the tenant, control characters, `@`, `%` and bytes that are not UTF-8 are percent-encoded. A text of
/// more than 200 bytes is replaced with a hash, such as `order:%5f3c…`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrderingKey(Arc<str>);

/// The longest ordering key, in bytes. Postgres limits an index entry to about 2,700 bytes.
const LONGEST_KEY: usize = 200;

/// The ordering keys of one delivery.
pub(super) struct OrderingKeys {
    /// The keys, ascending and without duplicates.
    pub(super) keys: Vec<OrderingKey>,
    /// The name of the id that the rule needs, if no such id could be read. Then there are no keys.
    pub(super) missing: Option<&'static str>,
}

impl OrderBy {
    /// Handles deliveries in any order. The default.
    pub fn nothing() -> Self {
        Self(Rule::Nothing)
    }

    /// Orders by the body's `branch_id`.
    pub fn branch() -> Self {
        Self(Rule::Branch)
    }

    /// Orders by the `id` of each order in the body. A delivery with several orders is blocked by each of them.
    pub fn order() -> Self {
        Self(Rule::Order)
    }

    /// Orders by custom keys, which `keys` derives from the delivery and its body. A delivery without keys is handled
    /// without ordering. Tenants do not share keys.
    ///
    /// The function is called while klikit waits for the response. If it panics, the delivery is not accepted.
    pub fn keys(keys: impl Fn(&Delivery, &[u8]) -> Vec<String> + Send + Sync + 'static) -> Self {
        Self(Rule::Custom(Arc::new(keys)))
    }

    /// Returns the keys of a delivery.
    pub(super) fn keys_of(&self, delivery: &Delivery, body: &[u8]) -> OrderingKeys {
        let key = |kind: &str, id: &[u8]| OrderingKey::of(kind, id, delivery.tenant());
        let ids = |kind: &str, paths: [&'static [Step]; 2]| {
            let paths = if delivery.signed_at().is_some() { &paths[..] } else { &paths[..1] };
            let mut keys = Vec::new();
            each_value(body, paths, |_, value| keys.extend(id_of(value).map(|id| key(kind, &id))));
            keys
        };
        let (mut keys, wanted) = match &self.0 {
            Rule::Nothing => (Vec::new(), None),
            Rule::Branch => (ids("branch", [BRANCH_ID, DATA_BRANCH_ID]), Some("branch id")),
            Rule::Order => (ids("order", [ORDER_IDS, DATA_ORDER_IDS]), Some("order id")),
            Rule::Custom(keys) => {
                (keys(delivery, body).iter().map(|name| key("custom", name.as_bytes())).collect(), None)
            }
        };
        keys.sort_unstable();
        keys.dedup();
        let missing = wanted.filter(|_| keys.is_empty());
        OrderingKeys { keys, missing }
    }
}

impl fmt::Debug for OrderBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Nothing => "nothing",
            Rule::Branch => "branch",
            Rule::Order => "order",
            Rule::Custom(_) => "keys",
        })
    }
}

/// Returns a normal form of an id, equal for equal ids. `None` if the value is neither a number nor a string.
pub(super) fn id_of(value: Token<'_>) -> Option<Cow<'_, [u8]>> {
    match value {
        Token::Number(number) => Decimal::from_number(number).as_ref().map(normal_form),
        Token::String(text) => Some(id_of_text(text.to_bytes())),
        _ => None,
    }
}

/// Returns the normal form of an id that is a text.
pub(super) fn id_of_text(text: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    Decimal::from_plain(&text).as_ref().map_or(text, normal_form)
}

fn normal_form<'a>(number: &Decimal) -> Cow<'a, [u8]> {
    number.to_string().into_bytes().into()
}

impl OrderingKey {
    /// Creates a key. `kind` is a fixed word, so it needs no encoding.
    fn of(kind: &str, id: &[u8], tenant: &str) -> Self {
        let mut key = format!("{kind}:");
        encode(id, &mut key);
        key.push('@');
        encode(tenant.as_bytes(), &mut key);
        if key.len() > LONGEST_KEY {
            // Cannot equal another key, because all keys that are not hashed contain an "@".
            key = format!("{kind}:%{}", hex::encode(short_hash(&[tenant.as_bytes(), b"\0", id])));
        }
        Self(key.into())
    }

    /// Creates a key from its stored [text](Self::as_str).
    pub fn from_text(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Percent-encodes characters that would make keys ambiguous, and bytes that some stores do not accept as text.
pub(super) fn encode(bytes: &[u8], key: &mut String) {
    let escape = |bytes: &[u8], key: &mut String| {
        bytes.iter().for_each(|byte| key.extend(["%", &hex::encode_upper([*byte])]));
    };
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if matches!(character, '%' | '@') || character.is_control() {
                escape(character.encode_utf8(&mut [0; 4]).as_bytes(), key);
            } else {
                key.push(character);
            }
        }
        escape(chunk.invalid(), key);
    }
}

impl fmt::Debug for OrderingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Escaped, because the sender chooses the id.
        write!(f, "{}", Escaped(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::keyring::Signer;

    fn delivery(signed_at: Option<SystemTime>) -> Delivery {
        Delivery {
            event_id: None,
            event_type: None,
            signer: Arc::new(Signer { tenant: "warung".into(), secret_id: "1".into() }),
            received_at: SystemTime::UNIX_EPOCH,
            signed_at,
            is_copy: false,
        }
    }

    fn keys(order_by: &OrderBy, body: &str) -> Vec<OrderingKey> {
        order_by.keys_of(&delivery(None), body.as_bytes()).keys
    }

    /// Returns the keys of a batch with these orders, given as JSON.
    fn batch(orders: &[&str]) -> Vec<OrderingKey> {
        keys(&OrderBy::order(), &format!(r#"{{"brand_id":1,"branch_id":2,"orders":[{}]}}"#, orders.join(",")))
    }

    /// Returns the keys of orders with these ids.
    fn of(ids: &[i64]) -> Vec<OrderingKey> {
        let mut keys: Vec<_> =
            ids.iter().map(|id| OrderingKey::of("order", id.to_string().as_bytes(), "warung")).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn keys_are_readable_text() {
        let custom = |id: &'static str| OrderBy::keys(move |_, _| vec![id.into()]);
        let text =
            |order_by: &OrderBy| keys(order_by, r#"{"branch_id":2,"orders":[{"id":42.0}]}"#)[0].as_str().to_owned();
        assert_eq!(text(&OrderBy::order()), "order:42@warung");
        assert_eq!(text(&OrderBy::branch()), "branch:2@warung");
        assert_eq!(text(&custom("meja 7/é")), "custom:meja 7/é@warung");
        assert_eq!(text(&custom("a@b%40\n\0\u{85}")), "custom:a%40b%2540%0A%00%C2%85@warung");
        assert_eq!(OrderingKey::of("order", b"\xff\xed\xa0\xbd", "w@").as_str(), "order:%FF%ED%A0%BD@w%40");
    }

    #[test]
    fn debug_of_keys_escapes_hidden_characters() {
        let key = &keys(&OrderBy::keys(|_, _| vec!["a\u{202e}b".into()]), "{}")[0];
        assert_eq!(key.as_str(), "custom:a\u{202e}b@warung");
        assert_eq!(format!("{key:?}"), r"custom:a\u{202e}b@warung");
    }

    #[test]
    fn long_keys_are_hashed() {
        let of = |id: &str, tenant: &str| OrderingKey::of("order", id.as_bytes(), tenant);
        let (short, long) = ("x".repeat(LONGEST_KEY - "order:@warung".len()), "x".repeat(LONGEST_KEY));
        assert_eq!(of(&short, "warung").as_str().len(), LONGEST_KEY);
        let hashed = of(&long, "warung");
        assert!(hashed.as_str().starts_with("order:%") && hashed.as_str().len() == "order:%".len() + 32, "{hashed:?}");
        assert_ne!(hashed, of(&long, "kedai"));
        assert_ne!(hashed, of(&format!("{long}x"), "warung"));
        assert_eq!(hashed, of(&long, "warung"));
    }

    #[test]
    fn reported_bodies_keep_their_keys() {
        for (body, ids) in [
            (include_str!("../../tests/reports/null-beside-an-order.json"), &[42][..]),
            (include_str!("../../tests/reports/id-twice-beside-an-order.json"), &[42, 43]),
            (include_str!("../../tests/reports/one-order-three-spellings.json"), &[42]),
            (include_str!("../../tests/reports/id-as-text.json"), &[202]),
            (include_str!("../../tests/reports/half-a-portion.json"), &[203]),
            (include_str!("../../tests/reports/lone-surrogate-in-key.json"), &[1]),
            (include_str!("../../tests/reports/lone-surrogate-in-note.json"), &[1]),
        ] {
            assert_eq!(keys(&OrderBy::order(), body), of(ids), "{body}");
        }
        let too_large = keys(&OrderBy::order(), include_str!("../../tests/reports/number-too-large-for-f64.json"));
        assert!(too_large.len() == 2 && too_large.contains(&of(&[42])[0]));
        let beyond = keys(&OrderBy::order(), include_str!("../../tests/reports/beyond-i64.json"));
        assert!(beyond.len() == 2 && beyond.contains(&of(&[9_007_199_254_740_993])[0]));
    }

    #[test]
    fn malformed_order_keeps_other_keys() {
        let nested = format!(r#"{{"id":7,"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let objects = format!(r#"{{"x":{}1{},"id":7}}"#, r#"{"id":"#.repeat(1000), "}".repeat(1000));
        for (odd, ids) in [
            ("null", &[42][..]),
            ("7", &[42]),
            ("[]", &[42]),
            (r#"[{"id":7}]"#, &[42]),
            ("{}", &[42]),
            (r#"{"id":null}"#, &[42]),
            (r#"{"id":[7]}"#, &[42]),
            (r#"{"id":{"id":7}}"#, &[42]),
            (r#"{"id":7,"id":8}"#, &[7, 8, 42]),
            (r#"{"id":7,"id":null}"#, &[7, 42]),
            (r#"{"id":7,"total":1e400}"#, &[7, 42]),
            (r#"{"id":7,"\ud83d":"\ude00"}"#, &[7, 42]),
            (r#"{"\u0069d":7}"#, &[7, 42]),
            (&nested, &[7, 42]),
            (&objects, &[7, 42]),
        ] {
            let what = &odd[..odd.len().min(40)];
            assert_eq!(batch(&[r#"{"id":42}"#, odd]), of(ids), "{what}");
            assert_eq!(batch(&[odd, r#"{"id":42}"#]), of(ids), "{what}");
        }
    }

    #[test]
    fn repeated_members_give_all_their_keys() {
        let body = r#"{"orders":[{"id":1}],"branch_id":7,"orders":[{"id":2}],"orders":null,"branch_id":8}"#;
        assert_eq!(keys(&OrderBy::order(), body), of(&[1, 2]));
        assert_eq!(keys(&OrderBy::branch(), body).len(), 2);
    }

    #[test]
    fn equal_ids_are_one_key() {
        let same = ["42", "42.0", "4.2e1", "420E-1", r#""42""#, r#""42.0""#, r#""042""#, r#""\u00342""#];
        let orders = same.map(|id| format!(r#"{{"id":{id}}}"#));
        assert_eq!(batch(&orders.each_ref().map(String::as_str)), of(&[42]));
        assert_eq!(batch(&[r#"{"id":-0}"#, r#"{"id":0}"#, r#"{"id":"0.0"}"#, r#"{"id":0e99}"#]), of(&[0]));
        let branches = same.map(|id| keys(&OrderBy::branch(), &format!(r#"{{"branch_id":{id}}}"#)));
        assert!(branches.iter().all(|keys| keys.len() == 1 && *keys == branches[0]), "{branches:?}");
    }

    #[test]
    fn different_ids_are_different_keys() {
        let ids = [
            "42",
            "-42",
            "4.2",
            "421",
            r#""42 ""#,
            r#""+42""#,
            r#""4.2e1""#,
            r#""GF-42""#,
            r#""gf-42""#,
            r#""""#,
            r#""\ud83d""#,
            r#""\ud83e""#,
            "9007199254740992",
            "9007199254740993",
            "18446744073709551616",
            "18446744073709551617",
            "1e400",
            "1e401",
            "1e999999999999",
        ];
        let orders = ids.map(|id| format!(r#"{{"id":{id}}}"#));
        assert_eq!(batch(&orders.each_ref().map(String::as_str)).len(), ids.len());
    }

    #[test]
    fn orders_elsewhere_have_no_key() {
        for body in [
            r#"{"data":{"orders":[{"id":1}]}}"#,
            r#"[{"orders":[{"id":1}]}]"#,
            r#"{"x":[{"orders":[{"id":1}]}]}"#,
            r#"{"x":{"orders":[{"id":1}]}}"#,
            r#"{"x":[{"id":1}],"orders":[{}],"y":[{"id":1}]}"#,
            r#"{"orders":{"id":1}}"#,
            r#"{"orders":[[{"id":1}]]}"#,
            r#"{"orders":"[{\"id\":1}]"}"#,
            r#"{"id":1,"orders":[]}"#,
        ] {
            assert_eq!(keys(&OrderBy::order(), body), [], "{body}");
        }
    }

    #[test]
    fn truncated_body_keeps_keys_read_so_far() {
        assert_eq!(keys(&OrderBy::order(), r#"{"orders":[{"id":1},{"id":2},{"id"}]}"#), of(&[1, 2]));
        assert_eq!(keys(&OrderBy::order(), r#"{"orders":[{"id":1},{"id"#), of(&[1]));
        let no_text = OrderBy::order().keys_of(&delivery(None), b"{\"orders\":[{\"id\":1,\"note\":\"\xff\"}]}").keys;
        assert_eq!(no_text, of(&[1]));
    }

    #[test]
    fn reads_ids_from_timestamped_envelope() {
        let body = r#"{"event_id":"evt-1","data":{"brand_id":1,"branch_id":7,"orders":[{"id":1},{"id":2}]}}"#;
        let timestamped = delivery(Some(SystemTime::UNIX_EPOCH));
        assert_eq!(OrderBy::order().keys_of(&timestamped, body.as_bytes()).keys, of(&[1, 2]));
        let branch = OrderBy::branch().keys_of(&timestamped, body.as_bytes()).keys;
        assert_eq!(branch, keys(&OrderBy::branch(), r#"{"branch_id":7}"#));
        assert_eq!(OrderBy::branch().keys_of(&delivery(None), body.as_bytes()).keys, []);
    }

    #[test]
    fn missing_ids_are_reported() {
        let missing = |order_by: OrderBy, body: &str| order_by.keys_of(&delivery(None), body.as_bytes()).missing;
        for body in ["", "not JSON", "null", "[]", r#"{"orders":null}"#, r#"{"orders":[null,{}],"branch_id":null}"#] {
            assert_eq!(missing(OrderBy::order(), body), Some("order id"), "{body}");
            assert_eq!(missing(OrderBy::branch(), body), Some("branch id"), "{body}");
            assert_eq!(missing(OrderBy::nothing(), body), None);
            assert_eq!(missing(OrderBy::keys(|_, _| Vec::new()), body), None);
        }
        let body = r#"{"branch_id":1,"orders":[null,{"id":1}]}"#;
        assert_eq!((missing(OrderBy::order(), body), missing(OrderBy::branch(), body)), (None, None));
    }

    #[cfg(feature = "tracing")]
    #[test]
    fn missing_id_is_a_warning() {
        #[derive(Clone, Default)]
        struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

        impl std::io::Write for Log {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }

        let log = Log::default();
        let written = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            crate::telemetry::unordered((&delivery(None)).into(), "order id");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let expected = "WARN tower_klikit::inbox: cannot read the order id of a delivery: handling the delivery without ordering tenant=\"warung\"";
        assert!(text.contains(expected), "{text}");
    }
}
