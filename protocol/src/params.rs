//! stub
/// Network id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkId([u8; 32]);
impl NetworkId {
    /// From bytes.
    pub const fn from_bytes(b: [u8; 32]) -> Self {
        Self(b)
    }
    /// Bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
