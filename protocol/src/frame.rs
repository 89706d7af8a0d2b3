//! Frames: how requests and answers stand on the stream of a directory or a mailbox.
//!
//! Specification: docs/protocol.md, "Directory streams". `length 4 ‖ type 1 ‖ body`; the length counts type and body.
//! This file never knows what is in them.

/// Bytes of a frame's length.
pub const FRAME_HEADER: usize = 4;

/// How many bytes come after a frame's length, of which there may be `most`; else what was read.
pub(crate) fn length(header: [u8; FRAME_HEADER], most: usize) -> Result<usize, u32> {
    let length = u32::from_le_bytes(header);
    usize::try_from(length).ok().filter(|length| (1..=most).contains(length)).ok_or(length)
}

/// A frame without its length, of this type: room for the length is left.
pub(crate) fn begin(kind: u8) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEADER];
    frame.push(kind);
    frame
}

/// Puts the length where room was left for it.
///
/// # Panics
/// If there are more than `most` bytes.
pub(crate) fn finish(mut frame: Vec<u8>, most: usize) -> Vec<u8> {
    let length = frame.len() - FRAME_HEADER;
    assert!(length <= most, "a frame of {length} bytes");
    let length = u32::try_from(length).expect("a frame is bounded");
    frame.iter_mut().zip(length.to_le_bytes()).for_each(|(byte, length)| *byte = length);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_begins_with_the_number_of_bytes_that_follow() {
        let frame = finish([begin(7), vec![1, 2]].concat(), 3);
        assert_eq!(frame, [3, 0, 0, 0, 7, 1, 2]);
        assert_eq!(length([3, 0, 0, 0], 3), Ok(3));
    }

    #[test]
    fn a_length_has_bounds() {
        assert_eq!(length([0; 4], 3), Err(0));
        assert_eq!(length([4, 0, 0, 0], 3), Err(4));
        assert_eq!(length([0xff; 4], usize::MAX), Ok(0xffff_ffff));
    }

    #[test]
    #[should_panic = "a frame of 4 bytes"]
    fn a_frame_that_is_too_long_is_not_made() {
        finish([begin(7), vec![1, 2, 3]].concat(), 3);
    }
}
