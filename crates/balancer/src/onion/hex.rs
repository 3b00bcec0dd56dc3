//! Writes bytes as hexadecimal digits where text is kept, for serde's
//! `with`.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};

/// Two lower-case digits a byte.
pub(crate) fn serialize<S: Serializer>(
    bytes: &impl AsRef<[u8]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let digits: String = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    serializer.serialize_str(&digits)
}

/// Digits of either case, as many as the value has bytes for.
pub(crate) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<Vec<u8>>,
{
    let text = String::deserialize(deserializer)?;
    let digit = |digit: u8| {
        let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
        value.ok_or_else(|| D::Error::custom("not a hexadecimal digit"))
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return Err(D::Error::custom("half a byte"));
    };
    let bytes = pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?));
    let bytes = bytes.collect::<Result<Vec<u8>, _>>()?;
    bytes.try_into().map_err(|_| D::Error::custom("a wrong number of digits"))
}
