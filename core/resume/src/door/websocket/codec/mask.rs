/// Masks or unmasks a payload, or the next part of one. Returns the mask for what follows it.
pub(super) fn apply(mask: [u8; 4], payload: &mut [u8]) -> [u8; 4] {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    let mut next = mask;
    next.rotate_left(rest.len() % 4);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_meets_its_own_of_the_mask_wherever_a_payload_is_cut() {
        let mask = [0x11, 0x22, 0x44, 0x88];
        let payload = (0..=40).collect::<Vec<u8>>();
        let expected = payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask)
            .collect::<Vec<_>>();
        for cut in 0..payload.len() {
            let mut masked = payload.clone();
            let (first, second) = masked.split_at_mut(cut);
            apply(apply(mask, first), second);
            assert_eq!(masked, expected, "{cut}");
        }
    }
}
