//! Reading and writing the fields of our own byte formats, one after the other.
//!
//! A reader takes what a peer sent and never looks past its end; a writer puts what we made into a space of ours.
//! Integers are little-endian.

/// Takes fields off the front of bytes; `None` when there are too few.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn take_array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take_array().copied()
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Puts our own bytes one after the other into a space.
pub(crate) struct Writer<'a> {
    space: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Begins at this offset.
    pub(crate) fn new(space: &'a mut [u8], at: usize) -> Self {
        Self { space, at }
    }

    /// Where the next byte would go.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// # Panics
    /// If the space is too small: its owner knows what it puts there.
    #[expect(clippy::indexing_slicing, reason = "what is put is ours, and its bounds are its type's")]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.at + bytes.len();
        self.space[self.at..end].copy_from_slice(bytes);
        self.at = end;
        self
    }

    /// Puts zeros into all that is left.
    pub(crate) fn fill_with_zeros(&mut self) {
        self.space.iter_mut().skip(self.at).for_each(|byte| *byte = 0);
    }
}
