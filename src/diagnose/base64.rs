use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding, Error};
use zeroize::Zeroizing;

/// Decodes base64 in either alphabet, with or without padding. All attempts share one zeroized buffer, because the text may be a
/// secret.
pub(super) fn decode(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    type Decode = for<'a> fn(&str, &'a mut [u8]) -> Result<&'a [u8], Error>;
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let alphabets: [Decode; 4] = [
        |text, bytes| Base64::decode(text, bytes),
        |text, bytes| Base64Unpadded::decode(text, bytes),
        |text, bytes| Base64Url::decode(text, bytes),
        |text, bytes| Base64UrlUnpadded::decode(text, bytes),
    ];
    let len = alphabets.iter().find_map(|decode| decode(text, &mut bytes).ok().map(<[u8]>::len))?;
    bytes.truncate(len);
    Some(bytes)
}
