use serde::de::IgnoredAny;

/// JSON as a list of values that say where in the text they are: numbers, duplicate keys and the order of keys stay as they came.
pub(in crate::diagnose) struct Tree<'a> {
    pub(super) text: &'a str,
    /// A value before its children. Never empty; the first is the root.
    pub(super) nodes: Vec<Node>,
    /// The children of all, in the order of the text. A node says which part is its own.
    pub(super) children: Vec<u32>,
}

pub(super) struct Node {
    pub(super) kind: Kind,
    /// Of a scalar or a string, with its quotes.
    value: (u32, u32),
    /// With its quotes.
    key: Option<(u32, u32)>,
    /// Where its children begin.
    first: u32,
    pub(super) count: u32,
    pub(super) parent: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    String,
    /// A number, `true`, `false` or `null`.
    Scalar,
}

impl Node {
    pub(super) fn children(&self) -> std::ops::Range<usize> {
        let first = self.first as usize;
        first..first + self.count as usize
    }
}

impl<'a> Tree<'a> {
    /// `None` when it is not JSON in UTF-8.
    pub(in crate::diagnose) fn parse(body: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(body).ok().filter(|text| u32::try_from(text.len()).is_ok())?;
        // It is sound from here on, and what follows can be simple.
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        let mut tree = Self { text, nodes: Vec::new(), children: Vec::new() };
        tree.read();
        tree.link();
        (!tree.nodes.is_empty()).then_some(tree)
    }

    fn read(&mut self) {
        let bytes = self.text.as_bytes();
        let mut open: Vec<u32> = Vec::new();
        let mut key = None;
        let mut key_is_due = false;
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let start = at;
            at = match byte {
                b'"' => end_of_string(bytes, at),
                b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => at + 1,
                _ => end_of_scalar(bytes, at),
            };
            let kind = match byte {
                b'{' => Kind::Object,
                b'[' => Kind::Array,
                b'"' if key_is_due => {
                    key = Some((place(start), place(at)));
                    key_is_due = false;
                    continue;
                }
                b'"' => Kind::String,
                b'}' | b']' => {
                    open.pop();
                    key_is_due = false;
                    continue;
                }
                b',' => {
                    key_is_due = open.last().is_some_and(|&parent| self.nodes[parent as usize].kind == Kind::Object);
                    continue;
                }
                b':' | b' ' | b'\t' | b'\r' | b'\n' => continue,
                _ => Kind::Scalar,
            };
            let node = place(self.nodes.len());
            let parent = open.last().copied().unwrap_or(node);
            self.nodes.push(Node {
                kind,
                value: (place(start), place(at)),
                key: key.take(),
                first: 0,
                count: 0,
                parent,
            });
            if matches!(kind, Kind::Object | Kind::Array) {
                open.push(node);
                key_is_due = kind == Kind::Object;
            }
        }
    }

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

    /// How many keys there are in all objects.
    pub(in crate::diagnose) fn keys(&self) -> usize {
        self.nodes.iter().filter(|node| node.key.is_some()).count()
    }

    pub(super) fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    /// As it stands in the text.
    pub(super) fn value(&self, node: &Node) -> &'a str {
        &self.text[node.value.0 as usize..node.value.1 as usize]
    }

    /// As it stands in the text, with its quotes.
    pub(super) fn key(&self, node: &Node) -> Option<&'a str> {
        node.key.map(|(start, end)| &self.text[start as usize..end as usize])
    }

    /// Whether white space stands between values, and whether there are line feeds in it.
    pub(in crate::diagnose) fn white_space(&self) -> (bool, bool) {
        let (mut any, mut lines) = (false, false);
        for piece in pieces(self.text.trim_ascii()) {
            if let Piece::Between(between) = piece {
                any |= between.bytes().any(|byte| byte.is_ascii_whitespace());
                lines |= between.contains('\n');
            }
        }
        (any, lines)
    }
}

/// A part of a JSON text.
pub(super) enum Piece<'a> {
    /// With its quotes.
    String(&'a str),
    /// All else.
    Between(&'a str),
}

pub(super) fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &text.as_bytes()[at..];
        let start = at;
        if *rest.first()? == b'"' {
            at = end_of_string(text.as_bytes(), start);
            Some(Piece::String(&text[start..at]))
        } else {
            at += rest.iter().position(|&byte| byte == b'"').unwrap_or(rest.len());
            Some(Piece::Between(&text[start..at]))
        }
    })
}

/// Behind the closing quote.
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

fn end_of_scalar(bytes: &[u8], start: usize) -> usize {
    let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\r' | b'\n');
    bytes[start..].iter().position(is_end).map_or(bytes.len(), |len| start + len)
}

/// A place in the text, or a number of values, which are not more than its bytes.
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("texts of 4 GiB are refused")
}
