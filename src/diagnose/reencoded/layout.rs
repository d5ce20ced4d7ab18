use super::string_style::StringStyle;
use crate::json::{JsonPiece, JsonTree, NodeKind, pieces};

/// Where the original had white space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As it came.
    Received,
    /// Nowhere: JavaScript, Go, Rust, PHP, .NET, `jq -c`.
    Compact,
    /// Behind each `,` and `:`, as Python's `json.dumps` has it.
    Spaced,
    /// A line for each value, and two spaces for each level: `JSON.stringify`, jq, Rust.
    TwoSpaces,
    /// The same with four: Python, PHP.
    FourSpaces,
    /// The same with a tab.
    Tabs,
}

impl Layout {
    pub(super) const ALL: [Self; 6] =
        [Self::Compact, Self::Received, Self::Spaced, Self::TwoSpaces, Self::FourSpaces, Self::Tabs];

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Received => "JSON with this body's white space",
            Self::Compact => "compact JSON",
            Self::Spaced => "JSON with a space behind each comma and colon",
            Self::TwoSpaces => "JSON indented by two spaces",
            Self::FourSpaces => "JSON indented by four spaces",
            Self::Tabs => "JSON indented by tabs",
        }
    }

    pub(super) fn unlikelihood(self) -> u8 {
        match self {
            Self::Received | Self::Compact => 0,
            Self::Spaced => 1,
            Self::TwoSpaces => 2,
            Self::FourSpaces | Self::Tabs => 3,
        }
    }

    fn indent(self) -> Option<&'static [u8]> {
        match self {
            Self::TwoSpaces => Some(b"  "),
            Self::FourSpaces => Some(b"    "),
            Self::Tabs => Some(b"\t"),
            Self::Received | Self::Compact | Self::Spaced => None,
        }
    }

    /// Behind an opening bracket or a comma, and before a closing bracket. `false` when there is no room.
    fn line(self, depth: usize, limit: usize, out: &mut Vec<u8>) -> bool {
        let Some(indent) = self.indent() else { return true };
        if depth.saturating_mul(indent.len()).saturating_add(out.len()) > limit {
            return false;
        }
        out.push(b'\n');
        (0..depth).for_each(|_| out.extend_from_slice(indent));
        true
    }
}

/// Writes the text anew. `children` are those of all values, in the order in which to write them. Stops, with `false`, beyond
/// `limit` bytes: brackets in brackets would be indented to a square of their number.
pub(super) fn write(
    tree: &JsonTree<'_>,
    children: &[u32],
    layout: Layout,
    strings: StringStyle,
    limit: usize,
    out: &mut Vec<u8>,
) -> bool {
    if layout == Layout::Received {
        for piece in pieces(tree.text.trim_ascii()) {
            match piece {
                JsonPiece::String(string) => strings.write(string, limit, out),
                JsonPiece::Between(between) => out.extend_from_slice(between.as_bytes()),
            }
        }
        return out.len() <= limit;
    }
    // A value that is open, and how many of its children are written.
    let mut open: Vec<(u32, usize)> = Vec::new();
    let mut next = Some(0);
    loop {
        if let Some(at) = next.take() {
            let node = tree.node(at);
            match node.kind {
                NodeKind::Scalar => out.extend_from_slice(tree.value(node).as_bytes()),
                NodeKind::String => strings.write(tree.value(node), limit, out),
                NodeKind::Object | NodeKind::Array => {
                    out.push(brackets(node.kind)[0]);
                    open.push((at, 0));
                }
            }
        }
        if out.len() > limit {
            return false;
        }
        let depth = open.len();
        let Some((at, written)) = open.last_mut() else { return true };
        let node = tree.node(*at);
        let Some(&child) = children.get(node.children()).and_then(|children| children.get(*written)) else {
            // Nobody breaks the line inside of empty brackets.
            if *written > 0 && !layout.line(depth - 1, limit, out) {
                return false;
            }
            out.push(brackets(node.kind)[1]);
            open.pop();
            continue;
        };
        if *written > 0 {
            out.extend_from_slice(if layout == Layout::Spaced { b", " } else { b"," });
        }
        *written += 1;
        if !layout.line(depth, limit, out) {
            return false;
        }
        if let Some(key) = tree.key(tree.node(child)) {
            strings.write(key, limit, out);
            out.extend_from_slice(if layout == Layout::Compact { b":" } else { b": " });
        }
        next = Some(child);
    }
}

fn brackets(kind: NodeKind) -> [u8; 2] {
    if kind == NodeKind::Object { *b"{}" } else { *b"[]" }
}
