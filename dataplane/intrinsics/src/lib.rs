//! The few machine instructions Rust calls unsafe, behind safe functions.
//!
//! Everything has a portable form that does the same; only the time differs.

use std::sync::atomic::AtomicU32;

use arrayvec::ArrayVec;

/// Asks the processor to bring the cache line of `place` closer, for reading and writing.
///
/// A hint: it changes no state that a program can see, whatever the address.
#[inline(always)]
pub fn prefetch<T: ?Sized>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetch never faults and has no architectural effect; the pointer comes from a reference.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

/// [`prefetch`] of the element at `index`, or of memory behind the end: what is asked for is not looked at, so
/// that there is nothing to check.
#[inline(always)]
pub fn prefetch_at<T>(slice: &[T], index: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: prefetch never faults and has no architectural effect, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().wrapping_add(index).cast());
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = (slice, index);
}

/// The positions of `tag` among sixteen tags, as bits (bit 0 = first).
///
/// Each tag is read once, in no particular order and without any ordering towards other memory
/// (as sixteen relaxed loads would do): what is found must be confirmed by an acquiring load of what
/// the tag stands for.
///
/// One vector compare of the cache line instead of sixteen loads and branches.
#[inline(always)]
#[must_use]
pub fn matching_tags(tags: &[AtomicU32; 16], tag: u32) -> u16 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        vector_matching_tags(tags, tag)
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        scalar_matching_tags(tags, tag)
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(always)]
fn vector_matching_tags(tags: &[AtomicU32; 16], tag: u32) -> u16 {
    let mask: u32;
    // SAFETY: reads the 64 bytes of `tags`, which the reference keeps valid, by four 16-byte loads
    // (unaligned form, so any alignment will do) and writes only the named registers. The
    // loads are machine loads outside the abstract machine, each 4-byte lane of which x86 performs
    // indivisibly within a naturally aligned dword, so concurrent atomic stores are seen whole or
    // not at all. SSE2 belongs to every x86-64.
    unsafe {
        std::arch::asm!(
            "movd {t}, {tag:e}",
            "pshufd {t}, {t}, 0",
            "movdqu {a}, [{p}]",
            "movdqu {b}, [{p} + 16]",
            "movdqu {c}, [{p} + 32]",
            "movdqu {d}, [{p} + 48]",
            "pcmpeqd {a}, {t}",
            "pcmpeqd {b}, {t}",
            "pcmpeqd {c}, {t}",
            "pcmpeqd {d}, {t}",
            "packssdw {a}, {b}",
            "packssdw {c}, {d}",
            "packsswb {a}, {c}",
            "pmovmskb {mask:e}, {a}",
            p = in(reg) tags.as_ptr(),
            tag = in(reg) tag,
            t = out(xmm_reg) _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            mask = lateout(reg) mask,
            options(readonly, nostack, preserves_flags),
        );
    }
    mask as u16
}

#[cfg(any(test, not(all(target_arch = "x86_64", not(miri)))))]
fn scalar_matching_tags(tags: &[AtomicU32; 16], tag: u32) -> u16 {
    use std::sync::atomic::Ordering::Relaxed;
    tags.iter().enumerate().fold(0, |mask, (at, word)| {
        mask | (u16::from(word.load(Relaxed) == tag) << at)
    })
}

/// A sequentially consistent fence, for a place that a locked instruction (a compare-and-swap that
/// succeeded) comes right before.
///
/// On x86-64 that instruction is a full fence itself, and only the compiler has to be kept from
/// moving accesses; elsewhere this is [`std::sync::atomic::fence`].
#[inline(always)]
pub fn fence_behind_exchange() {
    use std::sync::atomic::{Ordering, compiler_fence, fence};
    if cfg!(all(target_arch = "x86_64", not(miri))) {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

/// Moves all elements of `from` to the end of `to`, in order; nothing, if they do not fit. Returns whether
/// they did.
///
/// One copy of memory: element by element it costs 24 instructions each (measured with buffers of one
/// pointer: 10).
#[inline(always)]
pub fn move_all<T, const N: usize, const M: usize>(
    from: &mut ArrayVec<T, N>,
    to: &mut ArrayVec<T, M>,
) -> bool {
    let (count, len) = (from.len(), to.len());
    if to.remaining_capacity() < count {
        return false;
    }
    // SAFETY: zero elements are initialised; what lay there is this function's now.
    unsafe { from.set_len(0) };
    // SAFETY: `from`'s first `count` places are initialised, `to` has `count` free places from `len` on,
    // and two mutable borrows do not overlap.
    unsafe {
        let place = to.as_mut_ptr().add(len);
        if count == 1 {
            // Under light load bursts are short, and the call of memcpy is 10 ns.
            std::ptr::copy_nonoverlapping(from.as_ptr(), place, 1);
        } else {
            std::ptr::copy_nonoverlapping(from.as_ptr(), place, count);
        }
    }
    // SAFETY: `len` were and `count` are initialised now, and they fit.
    unsafe { to.set_len(len + count) };
    true
}

/// The processor's time-stamp counter: cheap, monotonic on one core, in ticks of unknown length.
#[inline(always)]
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: RDTSC belongs to every x86-64 and Linux leaves it enabled for user space.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_form_finds_what_the_scalar_form_finds() {
        let mut state = 1u32;
        for _ in 0..10_000 {
            let tags: [AtomicU32; 16] = std::array::from_fn(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Few values, among them the sign bit and the saturation limits of the packs.
                AtomicU32::new(
                    [0, 1, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff][(state >> 16) as usize % 5],
                )
            });
            for tag in [0, 1, 2, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff] {
                assert_eq!(matching_tags(&tags, tag), scalar_matching_tags(&tags, tag));
            }
        }
    }

    #[test]
    fn all_is_moved_or_nothing_and_dropped_once() {
        let tokens: Vec<std::rc::Rc<u8>> = (0..5).map(std::rc::Rc::new).collect();
        let mut from: ArrayVec<_, 4> = tokens[..4].iter().cloned().collect();
        let mut to: ArrayVec<_, 6> = tokens[4..].iter().cloned().collect();
        assert!(move_all(&mut from, &mut to));
        assert!(from.is_empty());
        assert_eq!(
            to.iter().map(|token| **token).collect::<Vec<_>>(),
            [4, 0, 1, 2, 3]
        );
        from.extend(tokens[..2].iter().cloned());
        assert!(!move_all(&mut from, &mut to));
        assert_eq!((from.len(), to.len()), (2, 5));
        drop((from, to));
        assert!(
            tokens
                .iter()
                .all(|token| std::rc::Rc::strong_count(token) == 1)
        );
    }

    #[test]
    fn the_counter_goes_forward() {
        let before = ticks();
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(ticks() > before);
    }
}
