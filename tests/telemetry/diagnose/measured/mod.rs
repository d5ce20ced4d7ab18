//! Measurement of how often the cause is right, wrong or unknown, with random corruptions and known faults. No cause may be wrong.

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

/// The number of random corruptions.
const RUNS: usize = 24_000;

const SECRET: &str = "klikit-fixture-secret";

/// A delivery that is being changed.
struct Case {
    /// The body that klikit signed.
    original: Vec<u8>,
    /// The secret of the receiver.
    configured: Vec<u8>,
    /// The headers and the body that the receiver gets.
    headers: HeaderMap,
    body: Vec<u8>,
    /// The causes that describe the change. Never contains `Unknown`.
    expected: Vec<Cause>,
    /// The further cause that must be reported, if there are two changes.
    also: Vec<Cause>,
}

/// A random change to a delivery.
type Change = fn(&mut Random, &mut Case);

/// Returns the positions of JSON punctuation outside of strings.
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
        // Positions before punctuation are not inside of a number or a word either.
        free && matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'"')
    });
    places.map(|(at, _)| at).collect::<Vec<_>>().into_iter()
}

/// Finds all causes that are true of a changed delivery, without the crate: a random change can be what a cause describes.
fn true_causes(case: &Case) -> Vec<Cause> {
    let mut causes = case.expected.clone();
    let value = |body: &[u8]| serde_json::from_slice::<Value>(body).ok();
    let hex = signature(&signed(SECRET, &case.original));
    let header = case.headers.get(SIGNATURE).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let is_signature_intact = header.as_deref().is_some_and(|header| header.eq_ignore_ascii_case(&hex));
    let same = case.body == case.original && case.configured == SECRET.as_bytes();
    if is_signature_intact && same {
        causes.push(if header.as_deref() == Some(&*hex) { Cause::Verifies } else { Cause::SignatureUpperCase });
    }
    if is_signature_intact
        && case.configured == SECRET.as_bytes()
        && value(&case.body).is_some()
        && value(&case.body) == value(&case.original)
    {
        causes.push(Cause::BodyReencoded);
    }
    if is_signature_intact && case.body.trim_ascii_end() == case.original.trim_ascii_end() {
        causes.push(Cause::BodyFinalNewline);
    }
    let is_invisible = |char: char| char.is_whitespace() || char.is_control();
    let visible = str::from_utf8(&case.configured).map(|text| text.trim_matches(is_invisible));
    if case.configured != SECRET.as_bytes() && visible == Ok(SECRET) {
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
        if !is_hex && case.expected.is_empty() {
            causes.push(Cause::SignatureMalformed);
        }
        if header.len() < 64 && hex.starts_with(&header.to_lowercase()) {
            causes.push(Cause::SignatureTruncated);
        }
        // The change inserted or replaced a character at an end.
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

/// Returns whether a true cause is the reason: without it, the delivery would verify.
fn is_reason(case: &Case, cause: Cause) -> bool {
    let (original, body) = (&case.original, &case.body);
    match cause {
        Cause::BodyEmpty => !original.is_empty(),
        // Truncated, and not reencoded in fewer bytes than announced.
        Cause::BodyShorter => original.starts_with(body) || original.ends_with(body),
        Cause::BodyLonger => body.starts_with(original) || body.ends_with(original),
        // For a cause of the signature, nothing else may have changed.
        _ => body == original && case.configured == SECRET.as_bytes(),
    }
}

/// The results of one kind of change.
#[derive(Default)]
struct Tally {
    runs: usize,
    proven: usize,
    /// Shown causes that are the reason for the mismatch.
    shown: usize,
    /// Shown causes that are true but not the reason, such as a `Content-Length` that no longer fits the body.
    side_effect: usize,
    unknown: usize,
    wrong: Vec<String>,
}

impl Tally {
    fn right(&self) -> usize {
        self.proven + self.shown
    }
}

/// The criterion for a right cause.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Criterion {
    /// The cause must describe the change.
    DescribesChange,
    /// The cause must be true.
    IsTrue,
}

/// Returns the bodies to choose from. Small samples are repeated, because larger ones take longer and test the same.
fn originals() -> Vec<Vec<u8>> {
    let (secret, samples) = deliveries::all();
    assert_eq!(secret, SECRET);
    let mut originals: Vec<Vec<u8>> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.body.len() < 5000) {
        let small = sample.body.len() < 1000;
        originals.extend(vec![sample.body.to_vec(); if small { 60 } else { 1 }]);
        if !small {
            // Variants of the sample with a tenth of its fields.
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

/// Diagnoses `runs` deliveries with random changes, and counts the results for each kind of change.
fn measure(
    changes: &[(&'static str, Change)],
    criterion: Criterion,
    mut random: Random,
    runs: usize,
) -> BTreeMap<&'static str, Tally> {
    let originals = originals();
    let candidates = Keyring::new("candidates", "partner API", WebhookSecret::new("the partner API's").unwrap());
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for run in 0..runs {
        let (name, change) = changes[run % changes.len()];
        let original = originals[random.below(originals.len())].clone();
        let headers = signed(SECRET, &original);
        // Half of the deliveries have a `Content-Length`.
        let headers = if random.below(2) == 0 { without_length(headers) } else { headers };
        let announces = headers.contains_key(header::CONTENT_LENGTH);
        let mut case = Case {
            body: original.clone(),
            original,
            configured: SECRET.into(),
            headers,
            expected: Vec::new(),
            also: Vec::new(),
        };
        change(&mut random, &mut case);
        // A stale length would be a second fault, so correct it if the cause must describe the change.
        let corrects = criterion == Criterion::DescribesChange || random.below(2) == 0;
        if announces && corrects && !case.expected.contains(&Cause::BodyShorter) {
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
        let is_right = match criterion {
            // A shown cause need not name the second change.
            Criterion::DescribesChange => {
                let is_whole = diagnosis.further_causes() == case.also;
                let is_shown = diagnosis.certainty() == Certainty::Shown && diagnosis.further_causes().is_empty();
                case.expected.contains(&diagnosis.cause()) && (is_whole || is_shown)
            }
            Criterion::IsTrue => true_causes(&case).contains(&diagnosis.cause()),
        };
        if is_right && diagnosis.certainty() == Certainty::Proven {
            tally.proven += 1;
        } else if is_right && is_reason(&case, diagnosis.cause()) {
            tally.shown += 1;
        } else if is_right {
            tally.side_effect += 1;
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

/// The results of all kinds of changes together.
#[derive(Default)]
struct Totals {
    runs: usize,
    proven: usize,
    shown: usize,
    side_effect: usize,
    unknown: usize,
    wrong: usize,
}

impl Totals {
    fn add(&mut self, tally: &Tally) {
        self.runs += tally.runs;
        self.proven += tally.proven;
        self.shown += tally.shown;
        self.side_effect += tally.side_effect;
        self.unknown += tally.unknown;
        self.wrong += tally.wrong.len();
    }
}

/// Prints a table with a line for each kind of change, and returns the totals.
fn print(title: &str, tallies: &BTreeMap<&str, Tally>) -> Totals {
    fn line(name: &str, columns: [impl Display; 6]) -> String {
        let [runs, proven, shown, side_effect, unknown, wrong] = columns;
        format!("{name:<38} {runs:>6} {proven:>7} {shown:>6} {side_effect:>11} {unknown:>8} {wrong:>6}\n")
    }
    fn line_of_totals(name: &str, totals: &Totals) -> String {
        let Totals { runs, proven, shown, side_effect, unknown, wrong } = totals;
        line(name, [runs, proven, shown, side_effect, unknown, wrong])
    }
    let mut table = line(title, ["runs", "proven", "shown", "side effect", "unknown", "wrong"]);
    let mut all = Totals::default();
    for (name, tally) in tallies {
        let mut of_name = Totals::default();
        of_name.add(tally);
        table += &line_of_totals(name, &of_name);
        all.add(tally);
    }
    table += &line_of_totals("all", &all);
    // Write to stderr directly, because the test harness hides the captured output of tests that pass.
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
    let tallies = measure(&CORRUPTIONS, Criterion::IsTrue, Random(6), RUNS);
    let Totals { runs, proven, shown, side_effect, unknown, wrong } = print("corruption", &tallies);
    assert_none_wrong(&tallies);
    assert_eq!(proven + shown + side_effect + unknown + wrong, runs);
    assert!(runs >= 20_000, "{runs}");
    // These corruptions cannot be undone.
    for name in ["a secret's character changed", "a value dropped, and reencoded"] {
        assert!(tallies[name].unknown > tallies[name].runs / 2, "{name}");
    }
    // If the body is cut off, or only the header is changed, a shown cause is the reason.
    for name in ["a header's character changed", "the body's end cut off", "the body's start cut off"] {
        assert_eq!(tallies[name].side_effect, 0, "{name}");
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
    let tallies = measure(&FAULTS, Criterion::DescribesChange, Random(7), 5_000);
    print("fault", &tallies);
    assert_none_wrong(&tallies);
    for (name, tally) in &tallies {
        let share = match *name {
            // Characters outside of Latin-1 are lost.
            "Latin-1" => 70,
            // serde_json sorts the keys, and those of `MIXED` are in an unknown order.
            "through serde_json" | "reencoded and wrapped" => 70,
            _ => 100,
        };
        assert!(tally.right() * 100 >= tally.runs * share, "{name}: {} of {}", tally.right(), tally.runs);
    }
}
