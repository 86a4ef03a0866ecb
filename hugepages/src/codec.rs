//! Messages to records and back.
//!
//! Encoding is canonical: a message has exactly one sequence of records, so equal objects have
//! equal bytes and the digest of a state is a digest of bytes. Decoding accepts nothing else: it
//! copies out, checks every field ([`validate`]) and compares with what the result encodes to.

mod account;
mod assembler;
mod check;
mod decode;
mod encode;

pub use assembler::Assembler;
pub use check::validate;
pub use decode::decode_reply;
pub use encode::{encode, encode_object, encode_reply, for_each_record};

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
