use super::{
    reader::{JsonReader, JsonToken},
    string::JsonString,
};

/// A step of a path, from a container to a value in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PathStep {
    /// Leads to all members with this name. An object may repeat a name.
    Member(&'static str),
    /// Leads to each element of an array.
    Element,
}

/// Calls `take` with each value at the end of one of the paths and with the position of the path, in the order of the text. For a
/// container, `take` receives only its opening bracket.
///
/// Reads the text once. If the text is not JSON, `take` receives the values before the first error.
pub(crate) fn each_value<'a>(
    text: &'a [u8],
    paths: &[&'static [PathStep]],
    mut take: impl FnMut(usize, JsonToken<'a>),
) {
    let mut reader = JsonReader::new(text);
    // For each path, the number of open containers on it, counted from the outermost.
    let mut paths: Vec<_> = paths.iter().map(|path| (*path, 0)).collect();
    let mut name = None;
    while let Some(Ok(token)) = reader.next() {
        match token {
            JsonToken::Name(next) => name = Some(next),
            JsonToken::End => paths.iter_mut().for_each(|(_, on_path)| *on_path = reader.depth().min(*on_path)),
            value => {
                let name = name.take();
                let is_container = matches!(value, JsonToken::Begin(_));
                let around = reader.depth() - usize::from(is_container);
                for (position, (path, on_path)) in paths.iter_mut().enumerate() {
                    if *on_path != around || !leads(path, around, name) {
                        continue;
                    }
                    if around == path.len() {
                        take(position, value);
                    } else if is_container {
                        *on_path += 1;
                    }
                }
            }
        }
    }
}

/// Returns whether the path continues with a value of this name. The value is inside of `around` containers, all on the path.
fn leads(path: &[PathStep], around: usize, name: Option<JsonString<'_>>) -> bool {
    // The root is on every path.
    let Some(last) = around.checked_sub(1) else { return true };
    match (path.get(last), name) {
        (Some(PathStep::Member(wanted)), Some(name)) => name.is(wanted),
        (Some(PathStep::Element), None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Container;

    fn values(text: &str, paths: &[&'static [PathStep]]) -> Vec<String> {
        let mut all = Vec::new();
        each_value(text.as_bytes(), paths, |_, value| {
            all.push(match value {
                JsonToken::Begin(Container::Object) => "{".into(),
                JsonToken::Begin(Container::Array) => "[".into(),
                JsonToken::String(text) => text.decode().unwrap().into_owned(),
                JsonToken::Number(text) | JsonToken::Literal(text) => String::from_utf8(text.into()).unwrap(),
                JsonToken::Name(_) | JsonToken::End => panic!("not a value"),
            });
        });
        all
    }

    const ID: &[PathStep] = &[PathStep::Member("orders"), PathStep::Element, PathStep::Member("id")];

    #[test]
    fn takes_values_at_the_end_of_the_path() {
        let text = r#"{"id":1,"x":[{"id":9}],"orders":[{"id":2,"x":{"id":3}},{"x":[{"id":4}],"id":"5"},6,[7]],
            "x":{"orders":[{"id":8}]},"x":[{"id":9}],"x":{"x":{"id":9}}}"#;
        assert_eq!(values(text, &[ID]), ["2", "5"]);
        assert_eq!(values(text, &[&[PathStep::Member("id")]]), ["1"]);
        assert_eq!(values(text, &[&[PathStep::Member("orders"), PathStep::Element]]), ["{", "{", "6", "["]);
        assert_eq!(values(text, &[&[PathStep::Element]]), [""; 0]);
        assert_eq!(values(text, &[&[]]), ["{"]);
    }

    #[test]
    fn takes_repeated_members_and_both_paths() {
        let text = r#"{"orders":[{"id":1,"id":null}],"orders":[{"\u0069d":2}],"orders":3,"id":4}"#;
        let paths = [ID, &[PathStep::Member("id")]];
        assert_eq!(values(text, &paths), ["1", "null", "2", "4"]);
        let mut positions = Vec::new();
        each_value(text.as_bytes(), &paths, |position, _| positions.push(position));
        assert_eq!(positions, [0, 0, 0, 1]);
    }

    #[test]
    fn takes_values_before_an_error() {
        assert_eq!(values(r#"{"orders":[{"id":1},{"id":2"#, &[ID]), ["1", "2"]);
        assert_eq!(values(r#"{"orders":[{"id":1},{"id" 2}]}"#, &[ID]), ["1"]);
    }
}
