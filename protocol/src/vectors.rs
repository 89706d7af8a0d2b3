//! The vectors of `protocol/vectors`, made by independent implementations.

use serde_json::Value;

/// Those of circuits.
pub(crate) fn circuit() -> Value {
    serde_json::from_str(include_str!("../vectors/circuit.json")).unwrap()
}

/// That of HPKE with X-Wing.
pub(crate) fn hpke() -> Value {
    serde_json::from_str(include_str!("../vectors/hpke.json")).unwrap()
}

/// Those of backups.
pub(crate) fn backup() -> Value {
    serde_json::from_str(include_str!("../vectors/backup.json")).unwrap()
}

/// The bytes of a hexadecimal string.
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

/// [`bytes`], of a known length.
pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

/// The elements of a list.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}
