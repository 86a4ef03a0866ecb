//! Datagrams in fragments: cut by a sender, put together by a receiver.

use packet::fragment::{Piece, plan};
use packet::ipv4;
use packet::parse::{Network, TCP, parse};

/// The fragments of a frame, with at most `step` bytes of data each (a multiple of eight).
pub fn cut(frame: &[u8], id: u32, step: usize) -> Vec<Vec<u8>> {
    let parsed = parse(frame).unwrap();
    if parsed.network == Network::V4 {
        let cut = plan(frame, &parsed, (step + ipv4::HEADER) as u16).unwrap();
        let part = |at| {
            let mut to = vec![0; cut.frame_len(at)];
            assert!(cut.write(frame, at, &mut to));
            to
        };
        return (0..cut.count()).map(part).collect();
    }
    let data = &frame[parsed.l4()..parsed.end()];
    let count = data.len().div_ceil(step);
    let part = |(at, data): (usize, &[u8])| {
        let mut part = frame[..parsed.l4()].to_vec();
        let length = (8 + data.len()) as u16;
        part[18..20].copy_from_slice(&length.to_be_bytes());
        part[20] = 44;
        let word = (at * step) as u16 | u16::from(at + 1 < count);
        part.extend([parsed.protocol, 0]);
        part.extend(word.to_be_bytes());
        part.extend(id.to_be_bytes());
        part.extend(data);
        part
    };
    data.chunks(step).enumerate().map(part).collect()
}

/// What a receiver makes of these fragments: the whole frame. Fails if they are not one datagram.
pub fn put_together(frames: &[Vec<u8>]) -> Vec<u8> {
    let pieces: Vec<_> = frames
        .iter()
        .map(|frame| Piece::read(frame).unwrap())
        .collect();
    let ids: Vec<_> = pieces.iter().map(|piece| piece.id).collect();
    assert!(
        ids.iter().all(|id| *id == ids[0]),
        "one identification: {ids:?}"
    );
    let end = pieces
        .iter()
        .find(|piece| piece.is_last)
        .expect("a last one")
        .end as usize;
    let mut data = vec![None; end];
    for (frame, piece) in frames.iter().zip(&pieces) {
        let start = frame.len() - (piece.end - piece.start) as usize;
        for (at, byte) in frame[start..].iter().enumerate() {
            assert_eq!(
                data[piece.start as usize + at].replace(*byte),
                None,
                "no overlap"
            );
        }
    }
    let data: Vec<u8> = data
        .into_iter()
        .map(|byte| byte.expect("no hole"))
        .collect();
    let first = pieces
        .iter()
        .position(Piece::is_first)
        .expect("a first one");
    let mut frame = frames[first][..54.min(frames[first].len())].to_vec();
    if pieces[first].parsed.network == Network::V4 {
        frame.truncate(34);
        frame[16..18].copy_from_slice(&((20 + end) as u16).to_be_bytes());
        frame[20..22].fill(0);
        assert!(ipv4::write_checksum(&mut frame[14..]));
    } else {
        frame[18..20].copy_from_slice(&(end as u16).to_be_bytes());
        frame[20] = frames[first][54];
    }
    frame.extend(data);
    frame
}

/// What stands behind the transport header (of TCP with twelve bytes of options).
pub fn payload(frame: &[u8]) -> &[u8] {
    let parsed = parse(frame).unwrap();
    let header = if parsed.protocol == TCP { 32 } else { 8 };
    &frame[parsed.l4() + header..parsed.end()]
}
