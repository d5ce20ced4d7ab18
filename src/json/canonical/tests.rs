use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value as Json, json, value::RawValue};

use super::*;

/// The example of klikit's documentation.
const BODY: &str = r#"{"brand_id":1,"branch_id":2,"orders":[{"id":42}]}"#;

fn same(one: &str, other: &str) -> bool {
    is_same(one.as_bytes(), other.as_bytes())
}

fn has_form(text: &str) -> bool {
    canonical_digest(text.as_bytes()).is_some()
}

#[test]
fn recognizes_rewritten_body() {
    let rewritten = include_str!("../../../tests/reports/written-anew.json");
    assert_ne!(rewritten, BODY);
    assert!(same(rewritten, BODY));
    assert!(!same(rewritten, &BODY.replace("42", "43")));
}

#[test]
fn white_space_and_member_order_do_not_matter() {
    assert!(same(r#"{"a":1,"b":{"c":[],"d":2}}"#, " {\n\"b\" : {\"d\":2\t,\"c\":[ ]}, \"a\":1\r\n}"));
}

#[test]
fn escapes_do_not_matter() {
    assert!(same(r#"{"A":"/\n😀"}"#, r#"{"\u0041":"\/\u000a\ud83d\uDE00"}"#));
    // Names are sorted by value, not by how they are escaped.
    assert!(same(r#"{"\u0061":1,"B":2}"#, r#"{"B":2,"a":1}"#));
}

#[test]
fn different_documents_differ() {
    let documents = [
        "1",
        "1.0",
        "1e0",
        "1E0",
        "10e-1",
        "-0",
        "0",
        "null",
        "true",
        "false",
        r#""1""#,
        r#""null""#,
        r#""""#,
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "[1]",
        "[1,2]",
        "[2,1]",
        "[12]",
        r#"["1"]"#,
        r#"["1,2"]"#,
        r#"["1","2"]"#,
        r#"["12",""]"#,
        r#"["","12"]"#,
        "[[1],2]",
        "[1,[2]]",
        "[[1,2]]",
        "[[1],[2]]",
        r#"{"":1}"#,
        r#"{"1":""}"#,
        r#"{"a":1}"#,
        r#"{"a":"1"}"#,
        r#"{"a":[1]}"#,
        r#"{"a":{"a":1}}"#,
        r#"{"a":{},"b":1}"#,
        r#"{"a":{"b":1}}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"a":2,"b":1}"#,
        r#"["a",1]"#,
        r#"[["a",1]]"#,
        r#"[{"a":1},{"b":2}]"#,
        r#"[{"a":1,"b":2}]"#,
        r#"{"a":null}"#,
        r#""é""#,
        r#""e\u0301""#,
        r#""\u0000""#,
        r#""\\u0000""#,
        r#"["1\"2"]"#,
        r#"{"1\"2":1}"#,
        r#"{"1":"2","":1}"#,
    ];
    for (n, one) in documents.iter().enumerate() {
        for (m, other) in documents.iter().enumerate() {
            assert_eq!(same(one, other), n == m, "{one} and {other}");
        }
    }
}

#[test]
fn ambiguous_texts_have_no_form() {
    for text in [
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"[{"b":{"a":1,"b":2,"a":3}}]"#,
        r#"{"a":"\ud83d"}"#,
        r#"["\ude00\ud83d"]"#,
        r#"{"\ud83d":1}"#,
        "",
        "{",
        "{}}",
        "not JSON",
        "\u{feff}{}",
        "{\"a\":1,}",
    ] {
        assert!(!has_form(text), "{text}");
        assert!(!same(text, text), "{text}");
    }
    assert_eq!(canonical_digest(b"{\"a\":\"\xff\"}"), None);
    // A name may occur in two objects.
    assert!(has_form(r#"{"a":{"a":1},"b":[{"a":1},{"a":1}]}"#));
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(has_form(&nested(MAX_DEPTH)) && !has_form(&nested(MAX_DEPTH + 1)) && !has_form(&nested(1 << 20)));
    let objects = |depth| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert!(has_form(&objects(MAX_DEPTH)) && !has_form(&objects(MAX_DEPTH + 1)));
    let long = |len| format!("\"{}\"", "x".repeat(len - 2));
    assert!(has_form(&long(MAX_LEN)) && !has_form(&long(MAX_LEN + 1)));
}

/// Tests the bodies that take the most memory: many members, names or containers in few bytes.
#[test]
fn memory_is_nine_times_the_body_at_most() {
    let joined = |count: usize, part: &dyn Fn(usize) -> String| (0..count).map(part).collect::<Vec<_>>().join(",");
    let letter = |n: usize| format!("\"{}\":0", ('a'..='z').nth(n).unwrap());
    let bodies = [
        format!("{{{}}}", joined(30_000, &|n| format!("\"{n:x}\":1"))),
        format!("{{{}}}", joined(30_000, &|n| format!("\"{n:x}\":[]"))),
        format!("{{{}}}", joined(10_000, &|n| format!("\"\\u0061{n:x}\":1"))),
        format!("[{}]", joined(30_000, &|_| r#"{"":0,"a":0}"#.into())),
        // Many names of one letter in nested objects, all of which are open at the end
        format!("{}{{}}{}", format!("{{{},\"\":", joined(26, &letter)).repeat(100), "}".repeat(100)),
        format!("[{}]", joined(30_000, &|_| "[]".into())),
        format!("{{\"{}\":\"{}\"}}", r"\n".repeat(50_000), r"\u0000".repeat(50_000)),
        format!("\"{}\"", "é".repeat(50_000)),
    ];
    let repeated = format!("{{{}}}", joined(30_000, &|_| "\"\":0".into()));
    for (body, is_canonical) in bodies.into_iter().map(|body| (body, true)).chain([(repeated, false)]) {
        let used = allocation_counter::measure(|| assert_eq!(has_form(&body), is_canonical));
        // The stacks have a fixed size.
        let most = 9 * body.len() + MAX_DEPTH * size_of::<(PartialContainer, TextSpan, usize)>();
        assert!(used.bytes_max <= most as u64, "{} for {} bytes of {}", used.bytes_max, body.len(), &body[..20]);
    }
}

/// An independent implementation: serde_json parses the document, and maps compare objects.
#[derive(PartialEq, Debug)]
enum Oracle {
    Object(BTreeMap<String, Self>),
    Array(Vec<Self>),
    String(String),
    Scalar(String),
}

/// The members of an object, with repeated names.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

impl Oracle {
    fn read(text: &str) -> Option<Self> {
        let text = serde_json::from_str::<&RawValue>(text).ok()?.get();
        Some(match text.as_bytes()[0] {
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let count = members.len();
                let read = members.into_iter().map(|(name, value)| Some((name, Self::read(value.get())?)));
                let read: BTreeMap<_, _> = read.collect::<Option<_>>()?;
                Self::Object(Some(read).filter(|read| read.len() == count)?)
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                Self::Array(elements.into_iter().map(|value| Self::read(value.get())).collect::<Option<_>>()?)
            }
            b'"' => Self::String(serde_json::from_str(text).ok()?),
            _ => Self::Scalar(text.into()),
        })
    }
}

/// A pseudo-random writer of JSON: chooses white space, escapes and the order of members.
struct RandomWriter(u64);

impl RandomWriter {
    /// Returns a number below `count`.
    fn next(&mut self, count: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % count
    }

    fn white_space(&mut self, out: &mut String) {
        for _ in 0..self.next(3) {
            out.push([' ', '\n', '\t', '\r'][self.next(4)]);
        }
    }

    fn string(&mut self, string: &str, out: &mut String) {
        out.push('"');
        for char in string.chars() {
            let short = "\"\"\\\\//\u{8}b\u{c}f\nn\rr\tt".chars().collect::<Vec<_>>();
            let short = short.chunks(2).find(|pair| pair[0] == char).map(|pair| pair[1]);
            match (self.next(3), short) {
                (0, Some(letter)) => out.extend(['\\', letter]),
                (1, _) if char >= ' ' && char != '"' && char != '\\' => out.push(char),
                (digits, _) => {
                    for half in char.encode_utf16(&mut [0; 2]) {
                        out.push_str(&if digits == 2 { format!("\\u{half:04x}") } else { format!("\\u{half:04X}") });
                    }
                }
            }
        }
        out.push('"');
    }

    fn write(&mut self, json: &Json, out: &mut String) {
        self.white_space(out);
        match json {
            Json::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                for n in (1..members.len()).rev() {
                    members.swap(n, self.next(n + 1));
                }
                out.push('{');
                for (n, (name, value)) in members.into_iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    self.white_space(out);
                    self.string(name, out);
                    self.white_space(out);
                    out.push(':');
                    self.write(value, out);
                }
                self.white_space(out);
                out.push('}');
            }
            Json::Array(elements) => {
                out.push('[');
                for (n, value) in elements.iter().enumerate() {
                    out.push_str(if n == 0 { "" } else { "," });
                    self.write(value, out);
                }
                self.white_space(out);
                out.push(']');
            }
            Json::String(string) => self.string(string, out),
            scalar => out.push_str(&scalar.to_string()),
        }
        self.white_space(out);
    }
}

fn written(json: &Json, seed: u64) -> String {
    let mut text = String::new();
    RandomWriter(seed | 1).write(json, &mut text);
    text
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        any::<String>().prop_map(Json::from),
        "[/\"\\\\\u{0}-\u{20}]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Json::from),
            vec((any::<String>(), inner), 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

/// Generates texts that are often equal documents, or have no canonical form.
fn any_text() -> impl Strategy<Value = String> {
    let string = || {
        prop::sample::select(vec![r#""""#, r#""a""#, r#""\u0061""#, r#""b""#, r#""\/""#, r#""/""#, r#""\ud83d""#])
            .prop_map(str::to_owned)
    };
    let leaf =
        prop_oneof![prop::sample::select(vec!["1", "1.0", "null", "{}", "[]"]).prop_map(str::to_owned), string()];
    leaf.prop_recursive(3, 8, 3, move |inner| {
        let member = (string(), inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
        prop_oneof![
            vec(inner, 0..3).prop_map(|values| format!("[{}]", values.join(" ,"))),
            vec(member, 0..3).prop_map(|members| format!("{{{}}}", members.join(", "))),
        ]
    })
}

/// Removes the first member.
fn pop(members: &mut serde_json::Map<String, Json>) -> Option<(String, Json)> {
    let name = members.keys().next()?.clone();
    members.remove_entry(&name)
}

/// Counts the values in the document, including the document itself.
fn count(json: &Json) -> usize {
    1 + match json {
        Json::Object(members) => members.values().map(count).sum(),
        Json::Array(elements) => elements.iter().map(count).sum(),
        _ => 0,
    }
}

/// Skips `skipped` values and changes the next one in one of six ways. Returns whether there was such a value.
fn change(json: &mut Json, skipped: &mut usize, way: usize) -> bool {
    if let Some(left) = skipped.checked_sub(1) {
        *skipped = left;
        return match json {
            Json::Object(members) => members.values_mut().any(|value| change(value, skipped, way)),
            Json::Array(elements) => elements.iter_mut().any(|value| change(value, skipped, way)),
            _ => false,
        };
    }
    match (way, &mut *json) {
        (0, Json::Array(elements)) if elements.len() > 1 => elements.swap(0, 1),
        (1, Json::Array(elements)) => drop(elements.pop()),
        (1, Json::Object(members)) => drop(pop(members)),
        (2, Json::Array(elements)) => elements.push(Json::Null),
        (2, Json::Object(members)) => drop(members.insert("new".into(), Json::Null)),
        (3, Json::Object(members)) => {
            if let Some((name, value)) = pop(members) {
                members.insert(name + "x", value);
            }
        }
        (4, Json::String(string)) => string.push('x'),
        _ => *json = json!([json]),
    }
    true
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn document_written_twice_is_the_same(json in any_json(), one: u64, other: u64) {
        let (one, other) = (written(&json, one), written(&json, other));
        prop_assert_eq!(Oracle::read(&one), Oracle::read(&other));
        prop_assert!(same(&one, &other), "{one} and {other}");
    }

    #[test]
    fn one_change_makes_another_document(json in any_json(), at: prop::sample::Index, way in 0..6usize, one: u64, other: u64) {
        let mut changed = json.clone();
        change(&mut changed, &mut at.index(count(&json)), way);
        prop_assume!(changed != json);
        let (one, other) = (written(&json, one), written(&changed, other));
        prop_assert_ne!(Oracle::read(&one), Oracle::read(&other));
        prop_assert!(!same(&one, &other), "{one} and {other}");
    }

    #[test]
    fn agrees_with_the_oracle(one in any_text(), other in any_text()) {
        let (read, read_other) = (Oracle::read(&one), Oracle::read(&other));
        prop_assert_eq!(has_form(&one), read.is_some(), "{}", one);
        prop_assert_eq!(same(&one, &other), read.is_some() && read == read_other, "{} and {}", one, other);
    }
}
