//! The checksum of a journal row: by it a bit that flipped on the card is found, and a row that is read back from a
//! damaged file is known to be one. CRC-32C, which finds every flipped bit, and every burst of up to 32.

/// The polynomial of RFC 3720, 12.1, with its bits in the order in which they are computed here.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Bytes that are taken at once.
const GROUP: usize = 8;

/// What each byte does to the checksum, by the number of bytes of its group that come after it.
static TABLES: [[u32; 256]; GROUP] = tables();

const fn tables() -> [[u32; 256]; GROUP] {
    let mut tables = [[0; 256]; GROUP];
    let mut after = 0;
    while after < GROUP {
        let mut byte = 0;
        while byte < 256 {
            let mut value = match after {
                0 => byte as u32,
                _ => tables[after - 1][byte],
            };
            let mut bits = 8;
            while bits > 0 {
                value = (value >> 1) ^ (POLYNOMIAL * (value & 1));
                bits -= 1;
            }
            tables[after][byte] = value;
            byte += 1;
        }
        after += 1;
    }
    tables
}

/// The checksum of the columns that were taken so far, in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checksum(u32);

impl Checksum {
    pub(super) fn new() -> Self {
        Self(!0)
    }

    pub(super) fn integer(self, value: i64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// With its length before it, so that no byte can pass from one column to the next.
    pub(super) fn text(self, text: &str) -> Self {
        self.integer(text.len() as i64).bytes(text.as_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let (groups, rest) = bytes.as_chunks::<GROUP>();
        let sum = groups.iter().fold(self.0, |sum, group| {
            let [a, b, c, d, e, f, g, h] = *group;
            let sum = sum ^ u32::from_le_bytes([a, b, c, d]);
            let of = |after: usize, byte: u8| TABLES[after][usize::from(byte)];
            of(7, sum as u8)
                ^ of(6, (sum >> 8) as u8)
                ^ of(5, (sum >> 16) as u8)
                ^ of(4, (sum >> 24) as u8)
                ^ of(3, e)
                ^ of(2, f)
                ^ of(1, g)
                ^ of(0, h)
        });
        Self(rest.iter().fold(sum, |sum, byte| {
            (sum >> 8) ^ TABLES[0][usize::from(sum as u8 ^ byte)]
        }))
    }

    /// As it stands in the column.
    pub(super) fn value(self) -> i64 {
        i64::from(!self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_rfc_3720_are_met() {
        let of = |bytes: &[u8]| Checksum::new().bytes(bytes).value();
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(of(&[0; 32]), 0x8A91_36AA);
        assert_eq!(of(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(of(&ascending), 0x46DD_794E);
        assert_eq!(of(&descending), 0x113F_DB5C);
        assert_eq!(of(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn a_byte_that_moves_to_the_next_column_is_found() {
        let of = |peer, body| Checksum::new().text(peer).text(body).value();
        assert_ne!(of("::1", "{}"), of("::1{", "}"));
    }
}
