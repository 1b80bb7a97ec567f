//! Numbers in on-disk structures. Offsets are constants of the format, inside the buffer.

pub fn put16(buffer: &mut [u8], at: usize, value: u16) {
    buffer[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub fn put32(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub fn put64(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub fn put32be(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// The low 32 bits.
pub fn lo32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

/// The high 32 bits.
pub fn hi32(value: u64) -> u32 {
    (value >> 32) as u32
}

/// The low 16 bits.
pub fn lo16(value: u64) -> u16 {
    (value & 0xffff) as u16
}

/// Bits 16 to 31.
pub fn mid16(value: u64) -> u16 {
    lo16(value >> 16)
}

/// Bits 32 to 47.
pub fn hi16(value: u64) -> u16 {
    lo16(value >> 32)
}
