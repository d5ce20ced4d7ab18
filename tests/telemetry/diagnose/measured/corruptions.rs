//! Random corruptions that no cause describes.

use base64ct::{Base64, Encoding};
use serde_json::Value;
use tower_klikit::diagnose::Cause;

use super::{Change, outside_of_strings};
use crate::diagnose::{
    kit::{signature, with_signature},
    random::Random,
};

/// Changes that must get no cause, unless a random change happens to be what a cause describes.
pub(super) const CORRUPTIONS: [(&str, Change); 18] = [
    ("a bit of the body flipped", |random, case| {
        let at = random.below(case.body.len());
        case.body[at] ^= 1 << random.below(8);
    }),
    ("several bits flipped", |random, case| {
        for _ in 0..=random.below(20) {
            let at = random.below(case.body.len());
            case.body[at] ^= 1 << random.below(8);
        }
    }),
    ("bytes inserted", |random, case| {
        for _ in 0..=random.below(3) {
            let at = random.below(case.body.len() + 1);
            case.body.insert(at, byte(random));
        }
    }),
    ("bytes deleted", |random, case| {
        for _ in 0..=random.below(3) {
            case.body.remove(random.below(case.body.len()));
        }
    }),
    ("bytes swapped", |random, case| {
        let at = random.below(case.body.len() - 1);
        let other = if random.below(2) == 0 { at + 1 } else { random.below(case.body.len()) };
        case.body.swap(at, other);
    }),
    ("bytes replaced", |random, case| {
        let at = random.below(case.body.len());
        case.body[at] = byte(random);
    }),
    ("the body's end cut off", |random, case| case.body.truncate(random.below(case.body.len()))),
    ("the body's start cut off", |random, case| drop(case.body.drain(..random.below(case.body.len())))),
    ("a number changed", |random, case| {
        let digits: Vec<usize> = (1..case.body.len() - 1)
            .filter(|&at| {
                case.body[at].is_ascii_digit() && matches!(case.body[at + 1], b',' | b'}') && case.body[at - 1] != b'"'
            })
            .collect();
        let at = random.of(&digits) + 1;
        let more: &[u8] = random.of(&[&b".0"[..], b"0", b"e0", b".50"]);
        case.body.splice(at..at, more.iter().copied());
    }),
    ("white space changed", |random, case| {
        let places: Vec<usize> = outside_of_strings(&case.body).collect();
        for _ in 0..=random.below(4) {
            let at = random.of(&places);
            case.body.insert(at, random.of(b" \t\n\r"));
            if random.below(2) == 0 {
                break;
            }
        }
    }),
    ("keys shuffled", |random, case| {
        let mut value: Value = serde_json::from_slice(&case.body).unwrap();
        let mut text = String::new();
        write_shuffled(&mut value, random, &mut text);
        case.body = text.into_bytes();
    }),
    ("a value changed, and reencoded", |random, case| {
        let mut value: Value = serde_json::from_slice(&case.body).unwrap();
        value["branch_id"] = random.below(1000).into();
        case.body =
            if random.below(2) == 0 { value.to_string() } else { serde_json::to_string_pretty(&value).unwrap() }.into();
    }),
    ("a value dropped, and reencoded", |random, case| {
        let mut value: Value = serde_json::from_slice(&case.body).unwrap();
        let order = value["orders"][0].as_object_mut().unwrap();
        let key = order.keys().nth(random.below(order.len())).unwrap().clone();
        order.remove(&key);
        case.body = value.to_string().into();
    }),
    ("wrapped, and a byte changed", |random, case| {
        case.body = wrapped(random, &case.body);
        let at = random.below(case.body.len());
        case.body[at] = byte(random);
        case.expected = vec![Cause::BodyWrapped];
    }),
    ("a byte changed, and wrapped", |random, case| {
        let at = random.below(case.body.len());
        case.body[at] = byte(random);
        case.body = wrapped(random, &case.body);
        case.expected = vec![Cause::BodyWrapped];
    }),
    ("a header's character changed", |random, case| {
        let mut value = signature(&case.headers).into_bytes();
        let at = random.below(value.len());
        match random.below(4) {
            0 => value[at] = u8::try_from(b' ' as usize + random.below(95)).unwrap(),
            1 => value[at] = random.of(b"0123456789abcdef"),
            2 => drop(value.remove(at)),
            _ => value.insert(at, u8::try_from(b' ' as usize + random.below(95)).unwrap()),
        }
        case.headers = with_signature(case.headers.clone(), value);
    }),
    ("a header's characters swapped", |random, case| {
        let mut value = signature(&case.headers).into_bytes();
        let (one, other) = (random.below(value.len()), random.below(value.len()));
        value.swap(one, other);
        case.headers = with_signature(case.headers.clone(), value);
    }),
    ("a secret's character changed", |random, case| {
        let at = random.below(case.configured.len());
        match random.below(3) {
            0 => case.configured[at] = byte(random),
            1 => drop(case.configured.remove(at)),
            _ => case.configured.insert(at, byte(random)),
        }
    }),
];

/// Wraps a body in a random encoding.
fn wrapped(random: &mut Random, body: &[u8]) -> Vec<u8> {
    let hex = |separator: &str| body.iter().map(|byte| format!("{separator}{byte:02x}")).collect::<String>();
    match random.below(4) {
        0 => Base64::encode_string(body),
        1 => hex(""),
        2 => hex("%"),
        _ => Value::from(String::from_utf8_lossy(body)).to_string(),
    }
    .into_bytes()
}

/// Returns a random byte, in half of the cases one that is common in deliveries.
fn byte(random: &mut Random) -> u8 {
    let all = u8::try_from(random.below(256)).unwrap();
    if random.below(2) == 0 { all } else { random.of(b" \n\t\r\"'\\/=,:{}[]0123456789abcdefABC.") }
}

/// Writes a value with the keys of each object in random order.
fn write_shuffled(value: &mut Value, random: &mut Random, out: &mut String) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut fields: Vec<(&String, &mut Value)> = fields.iter_mut().collect();
            for at in (1..fields.len()).rev() {
                fields.swap(at, random.below(at + 1));
            }
            for (n, (key, value)) in fields.into_iter().enumerate() {
                out.push(if n == 0 { '{' } else { ',' });
                out.push_str(&Value::from(&**key).to_string());
                out.push(':');
                write_shuffled(value, random, out);
            }
            out.push('}');
        }
        Value::Array(items) if !items.is_empty() => {
            for (n, item) in items.iter_mut().enumerate() {
                out.push(if n == 0 { '[' } else { ',' });
                write_shuffled(item, random, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}
