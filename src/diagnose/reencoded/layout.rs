use super::string_style::StringStyle;
use crate::json::{JsonPiece, JsonTree, NodeKind, pieces};

/// The white space that the original may have had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As received.
    Received,
    /// None: JavaScript, Go, Rust, PHP, .NET, `jq -c`.
    Compact,
    /// A space after each `,` and `:`: Python's `json.dumps`.
    Spaced,
    /// One line for each value, indented by two spaces for each level: `JSON.stringify`, jq, Rust.
    TwoSpaces,
    /// One line for each value, indented by four spaces for each level: Python, PHP.
    FourSpaces,
    /// One line for each value, indented by a tab for each level.
    Tabs,
}

impl Layout {
    pub(super) const ALL: [Self; 6] =
        [Self::Compact, Self::Received, Self::Spaced, Self::TwoSpaces, Self::FourSpaces, Self::Tabs];

    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Received => "JSON with this body's white space",
            Self::Compact => "compact JSON",
            Self::Spaced => "JSON with a space after each comma and colon",
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

    /// Writes the line break and indentation after an opening bracket or a comma, and before a closing bracket. Returns `false` if
    /// they do not fit in `limit` bytes.
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

/// Writes the document in this style. `children` are the children of all nodes, in the order in which to write them.
///
/// Returns `false` and stops if the text exceeds `limit` bytes: the indentation of nested brackets grows with the square of the
/// depth.
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
    // The open containers, each with the number of its children that are written.
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
            // No encoder breaks the line inside of empty brackets.
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
