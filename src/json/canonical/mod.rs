//! Comparison of JSON documents by a digest of their canonical form.
//!
//! - White space, the order of an object's members and the escapes of strings do not matter.
//! - The order of an array's elements matters.
//! - Numbers are compared as written: 1, 1.0 and 1e0 differ.
//!
//! A text has no canonical form if readers may disagree about its meaning: an object repeats a name, or a string contains half of a
//! surrogate pair. Compare the bytes of such bodies instead. A text also has no canonical form if it is not JSON in UTF-8, longer than
//! [`MAX_LEN`], or nested deeper than [`MAX_DEPTH`].

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::{
    reader::{Container, JsonReader, JsonToken},
    string::JsonString,
};

/// The maximum length of a text, in bytes.
const MAX_LEN: usize = 8 << 20;

/// The maximum number of containers that are open at once.
const MAX_DEPTH: usize = 128;

/// Returns the SHA-256 of the text's canonical form, or `None` if it has none. Two texts have the same digest if and only if they are
/// the same document.
///
/// Takes O(n log n) time, and at most nine times the memory of the body.
pub(crate) fn canonical_digest(body: &[u8]) -> Option<[u8; 32]> {
    let most_members = check(body)?;
    digest(body, most_members)
}

/// Returns whether both texts have the same canonical form.
pub(crate) fn is_same(one: &[u8], other: &[u8]) -> bool {
    canonical_digest(one).is_some_and(|digest| canonical_digest(other) == Some(digest))
}

/// Checks everything except repeated names. Returns the maximum number of members that [`digest`] must hold at once, or `None` if the
/// text has no canonical form. At any place in the text, these are the members so far of all open objects.
fn check(body: &[u8]) -> Option<usize> {
    if body.len() > MAX_LEN {
        return None;
    }
    let mut open: Vec<usize> = Vec::with_capacity(MAX_DEPTH);
    let (mut members, mut most_members) = (0, 0);
    for token in JsonReader::new(body) {
        match token.ok()? {
            JsonToken::Begin(_) if open.len() == MAX_DEPTH => return None,
            JsonToken::Begin(_) => open.push(0),
            JsonToken::End => members -= open.pop()?,
            JsonToken::Name(name) => {
                name.decode()?;
                *open.last_mut()? += 1;
                members += 1;
                most_members = most_members.max(members);
            }
            JsonToken::String(text) => drop(text.decode()?),
            JsonToken::Number(_) | JsonToken::Literal(_) => {}
        }
    }
    Some(most_members)
}

/// A container whose end has not been read.
enum PartialContainer {
    Array(Sha256),
    Object {
        /// The index of its first member among the members of all open objects.
        first: usize,
    },
}

/// A member of an open object. It is small, because a body can consist of almost nothing but members.
struct ObjectMember {
    name: TextSpan,
    value: MemberValue,
}

/// The value of a member of an object, or an element of an array.
enum MemberValue {
    String(TextSpan),
    /// A number, `true`, `false` or `null`.
    Scalar(TextSpan),
    /// The digest of an object or array.
    Container([u8; 32]),
}

/// A range of bytes in a text. 32 bits suffice, because a text has at most [`MAX_LEN`] bytes.
#[derive(Clone, Copy)]
struct TextSpan {
    start: u32,
    end: u32,
}

/// Computes the digest of the document. An array is hashed element by element. The members of an object are collected until its end,
/// to sort them.
fn digest(body: &[u8], most_members: usize) -> Option<[u8; 32]> {
    let mut reader = JsonReader::new(body);
    let mut open: Vec<PartialContainer> = Vec::with_capacity(MAX_DEPTH);
    let mut members: Vec<ObjectMember> = Vec::with_capacity(most_members);
    // The names of the members whose values are being read, outermost first.
    let mut names: Vec<TextSpan> = Vec::with_capacity(MAX_DEPTH);
    while let Some(token) = reader.next() {
        let value = match token.ok()? {
            JsonToken::Name(_) => {
                names.push(TextSpan::of_string(reader.span())?);
                continue;
            }
            JsonToken::Begin(container) => {
                open.push(match container {
                    Container::Array => PartialContainer::Array(Sha256::new_with_prefix(b"[")),
                    Container::Object => PartialContainer::Object { first: members.len() },
                });
                continue;
            }
            JsonToken::End => MemberValue::Container(match open.pop()? {
                PartialContainer::Array(hash) => hash.finalize().into(),
                PartialContainer::Object { first } => {
                    let digest = digest_object(body, &mut members[first..])?;
                    members.truncate(first);
                    digest
                }
            }),
            JsonToken::String(_) => MemberValue::String(TextSpan::of_string(reader.span())?),
            JsonToken::Number(_) | JsonToken::Literal(_) => MemberValue::Scalar(TextSpan::of(reader.span())?),
        };
        match open.last_mut() {
            Some(PartialContainer::Array(hash)) => value.hash(body, hash),
            Some(PartialContainer::Object { .. }) => members.push(ObjectMember { name: names.pop()?, value }),
            None => return Some(value.into_digest(body)),
        }
    }
    None
}

/// Computes the digest of an object. Returns `None` if a name is repeated.
fn digest_object(body: &[u8], members: &mut [ObjectMember]) -> Option<[u8; 32]> {
    members.sort_unstable_by(|one, other| one.name.text(body).cmp_value(other.name.text(body)));
    let mut neighbors = members.iter().zip(members.iter().skip(1));
    if neighbors.any(|(one, other)| one.name.text(body).cmp_value(other.name.text(body)).is_eq()) {
        return None;
    }
    let mut hash = Sha256::new_with_prefix(b"{");
    for ObjectMember { name, value } in members {
        hash_string(name.text(body), &mut hash);
        value.hash(body, &mut hash);
    }
    Some(hash.finalize().into())
}

impl MemberValue {
    /// Hashes the value with a prefix-free encoding, so that two different sequences of values cannot hash the same bytes.
    fn hash(&self, body: &[u8], hash: &mut Sha256) {
        match self {
            Self::String(span) => hash_string(span.text(body), hash),
            Self::Scalar(span) => {
                let text = span.bytes(body);
                hash.update(b"=");
                hash.update(length(text));
                hash.update(text);
            }
            Self::Container(digest) => {
                hash.update(b"#");
                hash.update(digest);
            }
        }
    }

    /// Returns the digest of a document that consists of this value.
    fn into_digest(self, body: &[u8]) -> [u8; 32] {
        if let Self::Container(digest) = self {
            return digest;
        }
        let mut hash = Sha256::new();
        self.hash(body, &mut hash);
        hash.finalize().into()
    }
}

fn hash_string(text: JsonString<'_>, hash: &mut Sha256) {
    let text = text.to_bytes();
    hash.update(b"\"");
    hash.update(length(&text));
    hash.update(&text);
}

fn length(text: &[u8]) -> [u8; 8] {
    (text.len() as u64).to_be_bytes()
}

impl TextSpan {
    fn of(Range { start, end }: Range<usize>) -> Option<Self> {
        Some(Self { start: start.try_into().ok()?, end: end.try_into().ok()? })
    }

    /// Returns the range of a string without its quotes.
    fn of_string(Range { start, end }: Range<usize>) -> Option<Self> {
        Self::of(start + 1..end - 1)
    }

    fn bytes(self, body: &[u8]) -> &[u8] {
        &body[self.start as usize..self.end as usize]
    }

    fn text(self, body: &[u8]) -> JsonString<'_> {
        JsonString::new(self.bytes(body))
    }
}

#[cfg(test)]
mod tests;
