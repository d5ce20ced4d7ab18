use std::ops::Range;

use super::reader::{Container, JsonReader, JsonToken};

/// A JSON document as a list of nodes that point into its text. Numbers, repeated keys and the order of keys stay as written.
pub(crate) struct JsonTree<'a> {
    pub(crate) text: &'a str,
    /// All nodes, each before its children. Never empty: the first node is the root.
    pub(crate) nodes: Vec<JsonNode>,
    /// The children of all nodes, grouped by parent, in the order of the text. [`JsonNode::children`] is the range of one node.
    pub(crate) children: Vec<u32>,
}

/// A value in a [`JsonTree`].
pub(crate) struct JsonNode {
    pub(crate) kind: NodeKind,
    /// The place of a scalar or a string, with its quotes.
    value: (u32, u32),
    /// The place of the key, with its quotes.
    key: Option<(u32, u32)>,
    /// The start of its range in [`JsonTree::children`].
    first: u32,
    /// The number of its children.
    pub(crate) count: u32,
    pub(crate) parent: u32,
}

/// The type of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Object,
    Array,
    String,
    /// A number, `true`, `false` or `null`.
    Scalar,
}

impl JsonNode {
    /// Returns the node's range in [`JsonTree::children`].
    pub(crate) fn children(&self) -> Range<usize> {
        let first = self.first as usize;
        first..first + self.count as usize
    }
}

impl<'a> JsonTree<'a> {
    /// Parses a document. Returns `None` if it is not JSON in UTF-8, or is 4 GiB or longer.
    pub(crate) fn parse(body: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(body).ok().filter(|text| u32::try_from(text.len()).is_ok())?;
        let mut tree = Self { text, nodes: Vec::new(), children: Vec::new() };
        tree.read()?;
        tree.link();
        Some(tree)
    }

    /// Reads the nodes, without their children.
    fn read(&mut self) -> Option<()> {
        let mut reader = JsonReader::new(self.text.as_bytes());
        let mut open: Vec<u32> = Vec::new();
        let mut key = None;
        while let Some(token) = reader.next() {
            let Range { start, end } = reader.span();
            let place = (place(start), place(end));
            let kind = match token.ok()? {
                JsonToken::Name(_) => {
                    key = Some(place);
                    continue;
                }
                JsonToken::End => {
                    open.pop();
                    continue;
                }
                JsonToken::Begin(Container::Object) => NodeKind::Object,
                JsonToken::Begin(Container::Array) => NodeKind::Array,
                JsonToken::String(_) => NodeKind::String,
                JsonToken::Number(_) | JsonToken::Literal(_) => NodeKind::Scalar,
            };
            let node = self::place(self.nodes.len());
            let parent = open.last().copied().unwrap_or(node);
            self.nodes.push(JsonNode { kind, value: place, key: key.take(), first: 0, count: 0, parent });
            if matches!(kind, NodeKind::Object | NodeKind::Array) {
                open.push(node);
            }
        }
        Some(())
    }

    /// Fills in the children of all nodes.
    fn link(&mut self) {
        for at in 1..self.nodes.len() {
            let parent = self.nodes[at].parent;
            self.nodes[parent as usize].count += 1;
        }
        let mut first = 0;
        for node in &mut self.nodes {
            node.first = first;
            first += node.count;
        }
        self.children = vec![0; first as usize];
        let mut next: Vec<u32> = self.nodes.iter().map(|node| node.first).collect();
        for at in 1..self.nodes.len() {
            let slot = &mut next[self.nodes[at].parent as usize];
            self.children[*slot as usize] = place(at);
            *slot += 1;
        }
    }

    /// Returns the number of keys in all objects.
    pub(crate) fn keys(&self) -> usize {
        self.nodes.iter().filter(|node| node.key.is_some()).count()
    }

    pub(crate) fn node(&self, at: u32) -> &JsonNode {
        &self.nodes[at as usize]
    }

    /// Returns the text of a scalar or a string, as written.
    pub(crate) fn value(&self, node: &JsonNode) -> &'a str {
        &self.text[node.value.0 as usize..node.value.1 as usize]
    }

    /// Returns the node's key, as written and with its quotes.
    pub(crate) fn key(&self, node: &JsonNode) -> Option<&'a str> {
        node.key.map(|(start, end)| &self.text[start as usize..end as usize])
    }

    /// Returns whether there is white space between values, and whether it contains line feeds.
    pub(crate) fn white_space(&self) -> (bool, bool) {
        let (mut any, mut lines) = (false, false);
        for piece in pieces(self.text.trim_ascii()) {
            if let JsonPiece::Between(between) = piece {
                any |= between.bytes().any(|byte| byte.is_ascii_whitespace());
                lines |= between.contains('\n');
            }
        }
        (any, lines)
    }
}

/// A part of a JSON text: a string, or the text between two strings.
pub(crate) enum JsonPiece<'a> {
    /// A string with its quotes.
    String(&'a str),
    /// The text up to the next string.
    Between(&'a str),
}

/// Splits a JSON text into its strings and the text between them.
pub(crate) fn pieces(text: &str) -> impl Iterator<Item = JsonPiece<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &text.as_bytes()[at..];
        let start = at;
        if *rest.first()? == b'"' {
            at = end_of_string(text.as_bytes(), start);
            Some(JsonPiece::String(&text[start..at]))
        } else {
            at += rest.iter().position(|&byte| byte == b'"').unwrap_or(rest.len());
            Some(JsonPiece::Between(&text[start..at]))
        }
    })
}

/// Returns the position after the closing quote of the string at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') => return at + 1,
            Some(_) => at += 1,
            None => return bytes.len(),
        }
    }
}

/// Converts a position in the text, or an index of a node. There are no more nodes than bytes.
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("texts of 4 GiB or more are rejected before")
}
