//! How often the cause is right, wrong and unknown, over random corruptions and random faults. A wrong one is worse than none.

mod corruptions;
mod faults;

use std::{
    collections::BTreeMap,
    fmt::Display,
    io::{self, Write},
};

use http::{HeaderMap, header};
use serde_json::Value;
use tower_klikit::{
    Keyring, WebhookSecret,
    diagnose::{Cause, Certainty},
    header::SIGNATURE,
};

use self::{corruptions::CORRUPTIONS, faults::FAULTS};
use crate::diagnose::{
    deliveries,
    kit::{MIXED, diagnose_with, keyring, signature, signed, without_length},
    random::Random,
};

const RUNS: usize = 24_000;

const SECRET: &str = "klikit-fixture-secret";

/// A delivery on its way.
struct Case {
    original: Vec<u8>,
    configured: Vec<u8>,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The causes that name what was done. Unknown names nothing and is not among them.
    done: Vec<Cause>,
    /// The cause that has to be named besides, if two things were done.
    also: Vec<Cause>,
}

type Deed = fn(&mut Random, &mut Case);

/// Before which bytes no string is open.
fn outside_of_strings(body: &[u8]) -> impl Iterator<Item = usize> {
    let (mut inside, mut escaped) = (false, false);
    let places = body.iter().enumerate().filter(move |(_, byte)| {
        let free = !inside;
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            _ => {}
        }
        // Not inside of a number or a word either.
        free && matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"')
    });
    places.map(|(at, _)| at).collect::<Vec<_>>().into_iter()
}

/// What a corruption did, by other means than the crate's: for what random changes happen to be.
fn happened(case: &Case) -> Vec<Cause> {
    let mut causes = case.done.clone();
    let value = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
    let hex = signature(&signed(SECRET, &case.original));
    let header = case.headers.get(SIGNATURE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let sound = header.as_deref().is_some_and(|header| header.eq_ignore_ascii_case(&hex));
    let same = case.body == case.original && case.configured == SECRET.as_bytes();
    if sound && same {
        causes.push(if header.as_deref() == Some(&*hex) { Cause::Verifies } else { Cause::SignatureUpperCase });
    }
    if sound
        && case.configured == SECRET.as_bytes()
        && value(&case.body).is_some()
        && value(&case.body) == value(&case.original)
    {
        causes.push(Cause::BodyReencoded);
    }
    if sound && case.body.trim_ascii_end() == case.original.trim_ascii_end() {
        causes.push(Cause::BodyFinalNewline);
    }
    let does_not_show = |char: char| char.is_whitespace() || char.is_control();
    let shows = str::from_utf8(&case.configured).map(|text| text.trim_matches(does_not_show));
    if case.configured != SECRET.as_bytes() && shows == Ok(SECRET) {
        causes.push(Cause::SecretWhiteSpace);
    }
    if case.configured != SECRET.as_bytes()
        && str::from_utf8(&case.configured).map(|text| text.trim_matches(['"', '\'', '`'])) == Ok(SECRET)
    {
        causes.push(Cause::SecretQuoted);
    }
    if case.body.is_empty() {
        causes.push(Cause::BodyEmpty);
    }
    if let Some(header) = &header {
        let is_hex = header.len() == 64 && header.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex && case.done.is_empty() {
            causes.push(Cause::SignatureMalformed);
        }
        if header.len() < 64 && hex.starts_with(&header.to_lowercase()) {
            causes.push(Cause::SignatureTruncated);
        }
        // Something of this kind was put at an end, or in place of it.
        if header.starts_with([' ', '"', '\'', '`']) || header.ends_with([' ', '"', '\'', '`']) {
            causes.push(Cause::SignaturePadded);
        }
    }
    let announced =
        case.headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().unwrap().parse::<usize>().unwrap());
    if let Some(announced) = announced {
        causes.extend((case.body.len() < announced).then_some(Cause::BodyShorter));
        causes.extend((case.body.len() > announced).then_some(Cause::BodyLonger));
    }
    causes
}

/// Whether a cause that is true is why nothing verifies: without what it tells of, the delivery would.
fn is_why(case: &Case, cause: Cause) -> bool {
    let (original, body) = (&case.original, &case.body);
    match cause {
        Cause::BodyEmpty => !original.is_empty(),
        // Cut off, and not written anew in fewer bytes than were announced.
        Cause::BodyShorter => original.starts_with(body) || original.ends_with(body),
        Cause::BodyLonger => body.starts_with(original) || body.ends_with(original),
        // Of the signature: nothing else was changed then.
        _ => body == original && case.configured == SECRET.as_bytes(),
    }
}

#[derive(Default)]
struct Tally {
    runs: usize,
    proven: usize,
    /// A fact that the request shows, and that is why nothing verifies.
    shown: usize,
    /// A fact that the request shows too, such as a length that is no longer the body's, beside the reason.
    beside: usize,
    unknown: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn right(&self) -> usize {
        self.proven + self.shown
    }
}

/// What counts as right.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Right {
    /// What was done, and nothing else that is true beside it.
    AsDone,
    /// Whatever is true.
    WhateverIsTrue,
}

/// Samples for most runs; a small one mostly, since a larger one takes longer and shows the same.
fn originals() -> Vec<Vec<u8>> {
    let (secret, samples) = deliveries::all();
    assert_eq!(secret, SECRET);
    let mut originals: Vec<Vec<u8>> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.body.len() < 5000) {
        let small = sample.body.len() < 1000;
        originals.extend(vec![sample.body.to_vec(); if small { 60 } else { 1 }]);
        if !small {
            // The same delivery with a part of its fields.
            let value: Value = serde_json::from_slice(&sample.body).unwrap();
            let order = value["orders"][0].as_object().unwrap();
            for skip in 0..10 {
                let fields =
                    order.iter().skip(skip).step_by(10).map(|(key, value)| format!("{}:{value}", Value::from(&**key)));
                let fields: Vec<String> = fields.filter(|field| field.len() < 200).collect();
                originals.push(
                    format!("{{\"brand_id\":663,\"branch_id\":1062,\"orders\":[{{{}}}]}}", fields.join(",")).into(),
                );
            }
        }
    }
    originals.extend(vec![MIXED.into(); 20]);
    originals
}

fn measure(deeds: &[(&'static str, Deed)], right: Right, seed: u64, runs: usize) -> BTreeMap<&'static str, Tally> {
    let originals = originals();
    let candidates = Keyring::new("candidates", "partner API", WebhookSecret::new("the partner API's").unwrap());
    let mut random = Random(seed);
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for run in 0..runs {
        let (name, deed) = deeds[run % deeds.len()];
        let original = originals[random.below(originals.len())].clone();
        let headers = signed(SECRET, &original);
        // Half of those who change a body say how long it is then, or were.
        let headers = if random.below(2) == 0 { without_length(headers) } else { headers };
        let announces = headers.contains_key(header::CONTENT_LENGTH);
        let mut case = Case {
            body: original.clone(),
            original,
            configured: SECRET.into(),
            headers,
            done: Vec::new(),
            also: Vec::new(),
        };
        deed(&mut random, &mut case);
        // One fault at a time, where it is to be told from others.
        let corrects = right == Right::AsDone || random.below(2) == 0;
        if announces && corrects && !case.done.contains(&Cause::BodyShorter) {
            case.headers.insert(header::CONTENT_LENGTH, case.body.len().into());
        }
        let tally = tallies.entry(name).or_default();
        if WebhookSecret::new(&case.configured).is_err() {
            continue;
        }
        tally.runs += 1;
        let diagnosis = diagnose_with(&candidates, keyring(&case.configured), &case.headers, &case.body);
        if diagnosis.certainty() == Certainty::Unknown {
            assert_eq!(diagnosis.cause(), Cause::Unknown);
            tally.unknown += 1;
            continue;
        }
        let is_right = match right {
            // What the request shows is not all that was done.
            Right::AsDone => {
                let is_whole = diagnosis.also() == case.also;
                let is_shown = diagnosis.certainty() == Certainty::Shown && diagnosis.also().is_empty();
                case.done.contains(&diagnosis.cause()) && (is_whole || is_shown)
            }
            Right::WhateverIsTrue => happened(&case).contains(&diagnosis.cause()),
        };
        if is_right && diagnosis.certainty() == Certainty::Proven {
            tally.proven += 1;
        } else if is_right && is_why(&case, diagnosis.cause()) {
            tally.shown += 1;
        } else if is_right {
            tally.beside += 1;
        } else {
            let header = case.headers.get(SIGNATURE);
            tally.wrong.push(format!(
                "{diagnosis}: {header:?}, {:?}, {:?}",
                case.configured,
                String::from_utf8_lossy(&case.body)
            ));
        }
    }
    tallies
}

/// Prints the table, and the numbers of it all: runs, proven, shown, shown beside the reason, unknown, wrong.
fn print(title: &str, tallies: &BTreeMap<&str, Tally>) -> [usize; 6] {
    fn line(name: &str, [runs, proven, shown, beside, unknown, wrong]: [impl Display; 6]) -> String {
        format!("{name:<38} {runs:>6} {proven:>7} {shown:>6} {beside:>7} {unknown:>8} {wrong:>6}\n")
    }
    let mut table = line(title, ["runs", "proven", "shown", "beside", "unknown", "wrong"]);
    let mut all = [0; 6];
    for (name, Tally { runs, proven, shown, beside, unknown, wrong }) in tallies {
        let numbers = [*runs, *proven, *shown, *beside, *unknown, wrong.len()];
        table += &line(name, numbers);
        for (sum, part) in all.iter_mut().zip(numbers) {
            *sum += part;
        }
    }
    table += &line("all", all);
    // Past what holds back the output of tests that pass: a number that nobody sees is no measurement.
    let _ = write!(io::stderr(), "\n{table}");
    all
}

#[track_caller]
fn assert_none_wrong(tallies: &BTreeMap<&str, Tally>) {
    for (name, tally) in tallies {
        assert!(tally.wrong.is_empty(), "{name}: {}", tally.wrong[0]);
    }
}

#[test]
fn no_corruption_gets_a_wrong_cause() {
    let tallies = measure(&CORRUPTIONS, Right::WhateverIsTrue, 6, RUNS);
    let [runs, proven, shown, beside, unknown, wrong] = print("corruption", &tallies);
    assert_none_wrong(&tallies);
    assert_eq!(proven + shown + beside + unknown + wrong, runs);
    assert!(runs >= 20_000, "{runs}");
    // Nobody can say what was done here.
    for name in ["a secret's character changed", "a value dropped, and written anew"] {
        assert!(tallies[name].unknown > tallies[name].runs / 2, "{name}");
    }
    // Where the body is cut, or the header alone is changed, what is shown is the reason.
    for name in ["a header's character changed", "the body cut off", "the body cut off in front"] {
        assert_eq!(tallies[name].beside, 0, "{name}");
    }
    for name in ["keys shuffled", "white space changed"] {
        assert!(
            tallies[name].proven > tallies[name].runs / 4,
            "{name}: {} of {}",
            tallies[name].proven,
            tallies[name].runs
        );
    }
}

#[test]
fn known_faults_get_their_cause() {
    let tallies = measure(&FAULTS, Right::AsDone, 7, 5_000);
    print("fault", &tallies);
    assert_none_wrong(&tallies);
    for (name, tally) in &tallies {
        let share = match *name {
            // What Latin-1 has no character for is lost.
            "Latin-1" => 70,
            // It sorts the keys, and the body of all sorts has them in an order that nobody knows.
            "through serde_json" | "written anew and wrapped" => 70,
            _ => 100,
        };
        assert!(tally.right() * 100 >= tally.runs * share, "{name}: {} of {}", tally.right(), tally.runs);
    }
}
