//! Credit accounting of one byte stream.
//!
//! The receiver holds a [`Receive`], the sender a [`Send`]. Offsets count the bytes of the stream
//! since its beginning, so a gap or an excess is noticed at once.

/// The sender's side: how much it may send.
#[derive(Debug, Default)]
pub struct Send {
    offset: u64,
    limit: u64,
}

impl Send {
    /// A stream whose receiver has granted `credit` bytes from the start.
    pub fn new(credit: u64) -> Send {
        Send { offset: 0, limit: credit }
    }

    /// As [`Send::new`], for a receiver who wants the stream from an offset on.
    pub fn starting_at(offset: u64, credit: u64) -> Send {
        Send { offset, limit: offset.saturating_add(credit) }
    }

    /// The offset of what is sent next.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Passes over bytes that are not sent, and take no credit.
    pub fn skip(&mut self, bytes: u64) {
        self.offset = self.offset.saturating_add(bytes);
        self.limit = self.limit.saturating_add(bytes);
    }

    /// The bytes that may be sent now.
    pub fn available(&self) -> u64 {
        self.limit - self.offset
    }

    /// Adds a grant. False if it overflows, which only a broken peer does.
    #[must_use]
    pub fn grant(&mut self, bytes: u64) -> bool {
        match self.limit.checked_add(bytes) {
            Some(limit) => {
                self.limit = limit;
                true
            }
            None => false,
        }
    }

    /// Takes credit for a chunk and returns the chunk's offset.
    ///
    /// # Panics
    /// If the chunk exceeds [`Send::available`]: the caller asks first.
    pub fn take(&mut self, bytes: u64) -> u64 {
        assert!(bytes <= self.available(), "sent more than granted");
        let offset = self.offset;
        self.offset += bytes;
        offset
    }
}

/// The receiver's side: what it has granted and what has come.
#[derive(Debug)]
pub struct Receive {
    window: u64,
    granted: u64,
    received: u64,
    /// Taken by the reader and not granted anew yet.
    pending: u64,
}

/// The peer sent what it had no credit for, or left a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation {
    /// Where the stream stood.
    pub expected: u64,
    /// What the message claimed as its offset.
    pub offset: u64,
    /// The message's length.
    pub length: u64,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Violation { expected, offset, length } = self;
        write!(f, "{length} bytes at offset {offset}, expected offset {expected} within credit")
    }
}

impl Receive {
    /// A stream on which `window` bytes are granted from the start.
    pub fn new(window: u64) -> Receive {
        Receive { window, granted: window, received: 0, pending: 0 }
    }

    /// As [`Receive::new`], for a stream that is wanted from an offset on.
    pub fn starting_at(offset: u64, window: u64) -> Receive {
        let granted = offset.saturating_add(window);
        Receive { window, granted, received: offset, pending: 0 }
    }

    /// The offset of what comes next, and how much of it may come.
    pub fn room(&self) -> (u64, u64) {
        (self.received, self.granted - self.received)
    }

    /// Accounts for bytes that do not come, and take no credit.
    pub fn skip(&mut self, offset: u64, bytes: u64) -> Result<(), Violation> {
        let granted = self.granted.checked_add(bytes).filter(|_| offset == self.received);
        let violation = Violation { expected: self.received, offset, length: bytes };
        self.granted = granted.ok_or(violation)?;
        self.received += bytes;
        Ok(())
    }

    /// Accounts for a chunk that came in.
    pub fn accept(&mut self, offset: u64, length: u64) -> Result<(), Violation> {
        if offset != self.received || length > self.granted - self.received {
            return Err(Violation { expected: self.received, offset, length });
        }
        self.received += length;
        Ok(())
    }

    /// Accounts for a grant that somebody else gave on this stream: for one who forwards it.
    pub fn extend(&mut self, bytes: u64) {
        self.granted = self.granted.saturating_add(bytes);
    }

    /// Accounts for bytes that the reader took, and returns a grant to send to the peer, if one
    /// is worth a message: grants are gathered until half a window.
    pub fn consume(&mut self, bytes: u64) -> Option<u64> {
        self.pending += bytes;
        if self.pending < self.window / 2 || self.pending == 0 {
            return None;
        }
        self.extend(self.pending);
        Some(std::mem::take(&mut self.pending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_never_stalls_and_never_exceeds_its_window() {
        let window = 1000;
        let (mut send, mut receive) = (Send::new(window), Receive::new(window));
        let (mut waiting, mut total, mut state) = (0u64, 0u64, 1u64);
        while total < 1_000_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let wish = (state >> 40) % 400;
            if state & 1 << 35 == 0 {
                let chunk = wish.min(send.available());
                let offset = send.take(chunk);
                receive.accept(offset, chunk).unwrap();
                waiting += chunk;
                assert!(waiting <= window);
            } else {
                let read = wish.min(waiting);
                waiting -= read;
                total += read;
                if let Some(grant) = receive.consume(read) {
                    assert!(send.grant(grant));
                }
            }
            assert!(waiting > 0 || send.available() > 0, "stalled");
        }
    }

    #[test]
    fn gaps_repeats_and_excess_are_violations() {
        let mut receive = Receive::new(10);
        receive.accept(0, 4).unwrap();
        assert!(receive.accept(0, 4).is_err());
        assert!(receive.accept(5, 1).is_err());
        assert!(receive.accept(4, 7).is_err());
        assert!(receive.accept(4, u64::MAX).is_err());
        receive.accept(4, 6).unwrap();
    }

    #[test]
    fn what_is_passed_over_takes_no_credit() {
        let (mut send, mut receive) = (Send::starting_at(100, 10), Receive::starting_at(100, 10));
        receive.accept(send.take(4), 4).unwrap();
        send.skip(1000);
        assert!(receive.skip(105, 1000).is_err() && receive.skip(104, u64::MAX).is_err());
        receive.skip(104, 1000).unwrap();
        assert_eq!((send.offset(), send.available()), (1104, 6));
        assert_eq!(receive.room(), (1104, 6));
        receive.accept(send.take(6), 6).unwrap();
        assert!(receive.accept(1110, 1).is_err());
    }

    #[test]
    fn an_absurd_grant_is_noticed() {
        assert!(!Send::new(5).grant(u64::MAX));
    }
}
