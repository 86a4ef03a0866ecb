//! Large transfers whose every byte is checked by hash, in either direction.
//!
//! A connection begins with a request of 9 bytes: `d` or `u`, then the number of bytes that
//! follow in that direction (big endian). After an upload the server answers with its hash.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::dial;
use crate::echo::Server;
use crate::netns::Namespace;

/// Bytes handed to the socket at once.
const BLOCK: usize = 1 << 17;

/// How long a transfer may stand still.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves transfers on `port` of `namespace`.
///
/// # Panics
/// If the port cannot be had.
pub fn serve(namespace: &Namespace, port: u16) -> Server {
    let listener = namespace.enter(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
    let listener = listener.unwrap_or_else(|error| panic!("cannot listen on TCP {port}: {error}"));
    listener
        .set_nonblocking(true)
        .unwrap_or_else(|error| panic!("cannot prepare the listener: {error}"));
    Server::spawn(move |stop| {
        thread::scope(|scope| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A failed transfer is reported by the client's side of it.
                    Ok((stream, _)) => drop(scope.spawn(move || answer(stream))),
                    Err(_) => thread::sleep(Duration::from_millis(10)),
                }
            }
        });
    })
}

/// Receives `length` bytes from a server at `to`.
///
/// # Errors
/// If the connection breaks or the bytes are not those sent.
pub fn download(namespace: &Namespace, to: SocketAddr, length: u64) -> Result<(), String> {
    let transfer = || -> io::Result<u128> {
        let mut stream = dial::tcp(namespace, None, to, PATIENCE)?;
        stream.write_all(&request(b'd', length))?;
        receive(&mut stream, length)
    };
    compare(transfer(), length)
}

/// Sends `length` bytes to a server at `to`.
///
/// # Errors
/// If the connection breaks or the server did not receive the bytes sent.
pub fn upload(namespace: &Namespace, to: SocketAddr, length: u64) -> Result<(), String> {
    let transfer = || -> io::Result<u128> {
        let mut stream = dial::tcp(namespace, None, to, PATIENCE)?;
        stream.write_all(&request(b'u', length))?;
        send(&mut stream, length)?;
        let mut hash = [0; 16];
        stream.read_exact(&mut hash)?;
        Ok(u128::from_be_bytes(hash))
    };
    compare(transfer(), length)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = [0; 9];
    stream.read_exact(&mut request)?;
    let [direction, length @ ..] = request;
    let length = u64::from_be_bytes(length);
    if direction == b'd' {
        return send(&mut stream, length);
    }
    let hash = receive(&mut stream, length)?;
    stream.write_all(&hash.to_be_bytes())
}

fn request(direction: u8, length: u64) -> [u8; 9] {
    let mut request = [direction; 9];
    request[1..].copy_from_slice(&length.to_be_bytes());
    request
}

fn send(stream: &mut TcpStream, length: u64) -> io::Result<()> {
    blocks(length, |block| stream.write_all(block))
}

fn receive(stream: &mut TcpStream, length: u64) -> io::Result<u128> {
    let mut hasher = Xxh3::new();
    let mut buffer = vec![0; BLOCK];
    let mut left = length;
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let count = stream.read(&mut buffer[..room])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        hasher.update(&buffer[..count]);
        left -= count as u64;
    }
    Ok(hasher.digest128())
}

/// The bytes of a transfer, block by block: no two blocks are the same, so a lost, doubled or
/// swapped one changes the hash.
fn blocks(length: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut block = pattern();
    let mut done = 0;
    while done < length {
        block[..8].copy_from_slice(&done.to_be_bytes());
        let count = usize::try_from(length - done).unwrap_or(BLOCK).min(BLOCK);
        take(&block[..count])?;
        done += count as u64;
    }
    Ok(())
}

/// One block of pseudo-random bytes (xorshift).
fn pattern() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    (0..BLOCK / 8).flat_map(|_| next()).collect()
}

fn compare(received: io::Result<u128>, length: u64) -> Result<(), String> {
    let received = received.map_err(|error| format!("the transfer broke: {error}"))?;
    let mut hasher = Xxh3::new();
    blocks(length, |block| {
        hasher.update(block);
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    let sent = hasher.digest128();
    if received == sent {
        return Ok(());
    }
    Err(format!(
        "sent {length} bytes with hash {sent:032x}, received hash {received:032x}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_add_up_to_the_length_and_differ() {
        let mut seen: Vec<Vec<u8>> = Vec::new();
        blocks(2 * BLOCK as u64 + 7, |block| {
            seen.push(block.to_vec());
            Ok(())
        })
        .unwrap();
        assert_eq!(
            seen.iter().map(Vec::len).collect::<Vec<_>>(),
            [BLOCK, BLOCK, 7]
        );
        assert_ne!(seen[0], seen[1]);
    }

    #[test]
    fn a_wrong_hash_is_an_error() {
        assert!(compare(Ok(1), 10).unwrap_err().contains("received hash"));
    }
}
