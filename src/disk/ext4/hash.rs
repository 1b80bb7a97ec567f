//! The hash of names in indexed directories: "half MD4" with unsigned characters, as in
//! `fs/ext4/hash.c` of Linux.

/// The format's number for half MD4.
pub const HALF_MD4: u8 = 1;
/// A hash that readers use as "end of directory".
const END: u32 = 0xffff_fffe;
const WORDS: usize = 8;

/// Hash (even) and minor hash of a name; directories are sorted by both.
pub fn name_hash(name: &[u8]) -> (u32, u32) {
    let mut state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut rest = name;
    while !rest.is_empty() {
        half_md4(&mut state, &words(rest));
        rest = rest.get(4 * WORDS..).unwrap_or(&[]);
    }
    let hash = state[1] & !1;
    let hash = if hash == END { END - 2 } else { hash };
    (hash, state[2])
}

/// The next 32 bytes as words, padded with the length of all that is left.
fn words(name: &[u8]) -> [u32; WORDS] {
    let len = name.len().min(255) as u32;
    let pad = len | len << 8;
    let pad = pad | pad << 16;
    let mut out = [pad; WORDS];
    let used = &name[..name.len().min(4 * WORDS)];
    for (word, bytes) in out.iter_mut().zip(used.chunks(4)) {
        *word = bytes
            .iter()
            .fold(pad, |value, b| (value << 8).wrapping_add(u32::from(*b)));
    }
    out
}

fn half_md4(state: &mut [u32; 4], input: &[u32; WORDS]) {
    type Mix = fn(u32, u32, u32) -> u32;
    let choose: Mix = |x, y, z| z ^ (x & (y ^ z));
    let majority: Mix = |x, y, z| (x & y).wrapping_add((x ^ y) & z);
    let parity: Mix = |x, y, z| x ^ y ^ z;
    let rounds: [(Mix, u32, [usize; 8], [u32; 4]); 3] = [
        (choose, 0, [0, 1, 2, 3, 4, 5, 6, 7], [3, 7, 11, 19]),
        (
            majority,
            0x5a82_7999,
            [1, 3, 5, 7, 0, 2, 4, 6],
            [3, 5, 9, 13],
        ),
        (
            parity,
            0x6ed9_eba1,
            [3, 7, 2, 6, 1, 5, 0, 4],
            [3, 9, 11, 15],
        ),
    ];
    let mut s = *state;
    for (mix, constant, order, shifts) in rounds {
        for (step, word) in order.into_iter().enumerate() {
            // The registers take turns: a, d, c, b.
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| s[(i + 8 - step) % 4]);
            let sum = a
                .wrapping_add(mix(b, c, d))
                .wrapping_add(input[word])
                .wrapping_add(constant);
            s[(8 - step) % 4] = sum.rotate_left(shifts[step % 4]);
        }
    }
    for (old, new) in state.iter_mut().zip(s) {
        *old = old.wrapping_add(new);
    }
}
