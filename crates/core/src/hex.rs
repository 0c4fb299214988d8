//! Hexadecimal text of bytes and of SHA-256 digests.

use sha2::{Digest, Sha256};

/// Writes bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the SHA-256 digest of a text in lower-case hexadecimal.
pub fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text))
}
