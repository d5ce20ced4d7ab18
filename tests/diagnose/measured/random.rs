//! Numbers that are the same in each run.

/// Sebastiano Vigna's splitmix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(super) fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    pub(super) fn byte(&mut self) -> u8 {
        // Most of what people type, and all else too.
        let all = u8::try_from(self.below(256)).unwrap();
        if self.below(2) == 0 { all } else { self.of(b" \n\t\r\"'\\/=,:{}[]0123456789abcdefABC.") }
    }
}
