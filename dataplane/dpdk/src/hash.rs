//! DPDK's own hash table: nothing on the packet path uses it, the lab holds the flow table against it.

use std::ffi::CString;
use std::marker::PhantomData;
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use packet::BURST;

use crate::eal::Eal;
use crate::error::{Errno, Error};

/// SOCKET_ID_ANY: memory of whichever NUMA node has some.
const ANY_NODE: i32 = -1;

/// Keys of a fixed number of 64-bit words, each with a position in `0..entries` (`rte_hash`: cuckoo hashing,
/// buckets of eight, hashed by CRC32 where the processor has it). For one thread at a time.
#[derive(Debug)]
pub struct HashTable<K> {
    table: NonNull<dpdk_sys::rte_hash>,
    words: usize,
    key: PhantomData<K>,
}

// SAFETY: a table may be used on any thread, by one at a time, which `&mut` and the lack of `Sync` see to.
unsafe impl<K> Send for HashTable<K> {}

impl<K: AsRef<[u64]> + Default> HashTable<K> {
    /// An empty table; `name` is unique in the process, at most 25 bytes. It is made for `entries` keys, of
    /// which the last few may find no place.
    ///
    /// # Errors
    ///
    /// [`Error::Hash`]: the name is taken or too long, or memory is short.
    pub fn new(_eal: &Eal, name: &str, entries: u32) -> Result<Self, Error> {
        let error = |errno| Error::Hash {
            name: name.to_owned(),
            entries,
            errno,
        };
        let c_name = CString::new(name).map_err(|_| error(Errno(libc::EINVAL)))?;
        let key = K::default();
        let key_len = u32::try_from(size_of_val(key.as_ref())).unwrap_or(u32::MAX);
        let parameters = dpdk_sys::rte_hash_parameters {
            name: c_name.as_ptr(),
            entries,
            key_len,
            socket_id: ANY_NODE,
            ..Default::default()
        };
        // SAFETY: EAL runs; the parameters and the name, which is copied, outlive the call; no hash function
        // means the library's own.
        let table = unsafe { dpdk_sys::rte_hash_create(&raw const parameters) };
        let table = NonNull::new(table).ok_or_else(|| error(Errno::last()))?;
        Ok(Self {
            table,
            words: key.as_ref().len(),
            key: PhantomData,
        })
    }

    /// The key's position, which it gets if it is not there; `None` when there is no room.
    pub fn insert(&mut self, key: &K) -> Option<u32> {
        let key = self.pointer(key);
        // SAFETY: the table lives as long as `self`, which is ours alone; the key has the table's length.
        let position = unsafe { dpdk_sys::rte_hash_add_key(self.table.as_ptr(), key.cast()) };
        u32::try_from(position).ok()
    }

    /// Positions of up to a burst of keys, in one call; negative for those that are not there.
    #[inline]
    pub fn lookup<'k>(&mut self, keys: impl IntoIterator<Item = &'k K>) -> ArrayVec<i32, BURST>
    where
        K: 'k,
    {
        let mut pointers = ArrayVec::<*const u64, BURST>::new();
        for key in keys.into_iter().take(BURST) {
            pointers.push(self.pointer(key));
        }
        let mut positions = ArrayVec::from([-1; BURST]);
        positions.truncate(pointers.len());
        if pointers.is_empty() {
            return positions;
        }
        // SAFETY: the table lives as long as `self`, which is ours alone; as many pointers as the count says
        // point to keys of the table's length, and there are as many places for positions. A burst is
        // no more than RTE_HASH_LOOKUP_BULK_MAX (asserted below).
        unsafe {
            dpdk_sys::rte_hash_lookup_bulk(
                self.table.as_ptr(),
                pointers.as_mut_ptr().cast(),
                pointers.len() as u32,
                positions.as_mut_ptr(),
            );
        }
        positions
    }

    /// A pointer to as many words as the table's keys have.
    #[inline]
    fn pointer(&self, key: &K) -> *const u64 {
        let words = key.as_ref();
        assert_eq!(words.len(), self.words, "all keys have the same length");
        words.as_ptr()
    }
}

const _: () = assert!(BURST <= dpdk_sys::RTE_HASH_LOOKUP_BULK_MAX as usize);

impl<K> Drop for HashTable<K> {
    fn drop(&mut self) {
        // SAFETY: made by rte_hash_create, freed once.
        unsafe { dpdk_sys::rte_hash_free(self.table.as_ptr()) };
    }
}
