//! Seeds for generators: the only place where the system is asked for randomness.

use rand::{TryRng, rngs::SysRng};

/// 32 random bytes of the system's.
///
/// # Panics
/// If the system has no randomness to give: nothing could be kept secret without it.
pub fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    SysRng.try_fill_bytes(&mut seed).expect("the system gives random bytes, or nothing here can be safe");
    seed
}
