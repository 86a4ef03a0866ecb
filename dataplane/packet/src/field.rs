//! Reading and writing fields without a way to panic.

/// `N` bytes at `at`, if the slice has them.
pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Big-endian 16 bits at `at`.
pub(crate) fn get_u16(bytes: &[u8], at: usize) -> Option<u16> {
    get(bytes, at).map(u16::from_be_bytes)
}

/// Big-endian 32 bits at `at`.
pub(crate) fn get_u32(bytes: &[u8], at: usize) -> Option<u32> {
    get(bytes, at).map(u32::from_be_bytes)
}

/// Writes `value` at `at`; `None`, and nothing changed, if it does not fit.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Option<()> {
    let field = bytes.get_mut(at..)?.get_mut(..value.len())?;
    field.copy_from_slice(value);
    Some(())
}

/// Writes `value` big-endian at `at`; `None`, and nothing changed, if it does not fit.
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, value: u16) -> Option<()> {
    put(bytes, at, &value.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_at_and_beyond_the_edge() {
        let mut bytes = [1, 2, 3, 4];
        assert_eq!(get_u16(&bytes, 2), Some(0x0304));
        assert_eq!(get_u16(&bytes, 3), None);
        assert_eq!(get_u32(&bytes, 0), Some(0x0102_0304));
        assert_eq!(get::<1>(&bytes, usize::MAX), None);
        assert_eq!(put_u16(&mut bytes, 3, 0), None);
        assert_eq!(put(&mut bytes, 5, &[]), None);
        assert_eq!(put_u16(&mut bytes, 2, 0x0908), Some(()));
        assert_eq!(bytes, [1, 2, 9, 8]);
    }
}
